//! The erased body of requests and responses.

use crate::{error::BoxError, message::body::ErasedBody};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// The erased body of requests and responses of [this module](super).
///
/// Buffers other than [`Bytes`] are copied.
///
/// The response to a refused upgrade has such a body. Read it with `http_body_util::BodyExt::collect`. The
/// [`handshake_timeout`](super::UpgradeLayer::handshake_timeout) covers only the head of the response, and no limit
/// applies to the length of the body: for an untrusted server, wrap the body in `http_body_util::Limited`, and
/// `collect` in a timeout.
pub struct Body {
    body: ErasedBody,
    /// A value that is dropped at the end of the body.
    held: Option<Box<dyn Any + Send + Sync>>,
}

impl Body {
    /// Erases the type of a body. A `Body` stays the same.
    #[must_use]
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        if let Some(erased) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return erased.take().unwrap_or_default();
        }
        body.map_or_else(Self::empty, |body| Self {
            body: ErasedBody::new(body),
            held: None,
        })
    }

    /// Creates an empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            body: ErasedBody::empty(),
            held: None,
        }
    }

    /// Drops `value` when the body has ended or is dropped.
    pub(super) fn holding(mut self, value: impl Any + Send + Sync) -> Self {
        if !self.body.is_end_stream() {
            self.held = Some(Box::new(value));
        }
        self
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if self.body.is_end_stream() {
            self.held = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
