//! The request body of a foreign upgrader, of which the layer reads the rest.

use crate::{
    error::BoxError,
    message::request_body::{RequestBody, Unread},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use std::{
    any::Any,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

/// A body that an inner service reads, and of which the layer later reads the rest.
pub(super) struct Lent {
    shared: Arc<Shared>,
}

/// The type of the body does not allow the layer to read the rest.
pub(super) struct CannotLend;

#[derive(Debug)]
struct Shared(Mutex<RequestBody>);

/// The inner service's side.
struct Borrowed(Arc<Shared>);

impl Lent {
    /// Replaces a body that is not at its end with a borrowed one.
    ///
    /// The type of the body has to stay the same, which only type-erased bodies allow.
    pub(super) fn lend<B>(body: &mut B, timeout: Duration) -> Result<Option<Self>, CannotLend>
    where
        B: Body + 'static,
    {
        if body.is_end_stream() {
            return Ok(None);
        }
        let body: &mut dyn Any = body;
        #[cfg(feature = "axum")]
        if let Some(body) = body.downcast_mut::<axum::body::Body>() {
            let own = std::mem::take(body);
            let (lent, borrowed) = Self::new(RequestBody::new(own, timeout));
            *body = axum::body::Body::new(borrowed);
            return Ok(Some(lent));
        }
        if let Some(body) = body.downcast_mut::<UnsyncBoxBody<Bytes, BoxError>>() {
            let own = std::mem::take(body);
            let (lent, borrowed) = Self::new(RequestBody::new(own, timeout));
            *body = UnsyncBoxBody::new(borrowed);
            return Ok(Some(lent));
        }
        if let Some(body) = body.downcast_mut::<BoxBody<Bytes, BoxError>>() {
            let own = std::mem::take(body);
            let (lent, borrowed) = Self::new(RequestBody::new(own, timeout));
            *body = BoxBody::new(borrowed);
            return Ok(Some(lent));
        }
        Err(CannotLend)
    }

    fn new(body: RequestBody) -> (Self, Borrowed) {
        let shared = Arc::new(Shared(Mutex::new(body)));
        let borrowed = Borrowed(Arc::clone(&shared));
        (Self { shared }, borrowed)
    }

    /// Reads and drops the rest of the body. The inner service can no longer read it.
    pub(super) async fn discard(&mut self, limit: u64) -> Result<(), Unread> {
        let mut rest = self.shared.lock().take();
        rest.discard(limit).await
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, RequestBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Borrowed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut *self.0.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().size_hint()
    }
}
