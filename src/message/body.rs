//! The response body, and type-erased bodies.

use crate::error::BoxError;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use sync_wrapper::SyncWrapper;

pin_project! {
    /// The response body of [`Upgrade`](crate::Upgrade).
    ///
    /// The body of the inner service, the body of a [`Rejection`](crate::Rejection), or empty. Its data is always
    /// [`Bytes`]: other buffers of the inner service's body are converted.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Own { body: ErasedBody },
        Empty,
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }

    pub(crate) fn own(body: ErasedBody) -> Self {
        Self {
            kind: Kind::Own { body },
        }
    }
}

impl<B> Default for ResponseBody<B> {
    /// Creates an empty body.
    fn default() -> Self {
        Self { kind: Kind::Empty }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => body.poll_frame(cx).map(|frame| frame.map(into_bytes)),
            KindProj::Own { body } => Pin::new(body).poll_frame(cx),
            KindProj::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Own { body } => body.is_end_stream(),
            Kind::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Own { body } => body.size_hint(),
            Kind::Empty => SizeHint::with_exact(0),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Inner { .. } => "inner",
            Kind::Own { .. } => "rejection",
            Kind::Empty => "empty",
        };
        f.debug_tuple("ResponseBody").field(&kind).finish()
    }
}

/// A type-erased body that is `Sync` even if the original body is not.
///
/// `SyncWrapper` gives no shared access, so the end and the size hint are stored after each poll. An empty body
/// is not boxed.
pub(crate) struct ErasedBody {
    body: Option<SyncWrapper<UnsyncBoxBody<Bytes, BoxError>>>,
    size_hint: SizeHint,
}

impl ErasedBody {
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        let size_hint = body.size_hint();
        let body = MapBytes { body }.boxed_unsync();
        Self {
            body: Some(SyncWrapper::new(body)),
            size_hint,
        }
    }

    pub(crate) fn empty() -> Self {
        Self {
            body: None,
            size_hint: SizeHint::with_exact(0),
        }
    }
}

impl Body for ErasedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let body = body.get_mut();
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let size_hint = body.size_hint();
        let is_end = body.is_end_stream() || !matches!(frame, Some(Ok(_)));
        *self = if is_end {
            Self::empty()
        } else {
            Self {
                body: self.body.take(),
                size_hint,
            }
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.size_hint
    }
}

pin_project! {
    /// Converts the data of a body to [`Bytes`].
    struct MapBytes<B> {
        #[pin]
        body: B,
    }
}

impl<B> Body for MapBytes<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project()
            .body
            .poll_frame(cx)
            .map(|frame| frame.map(into_bytes))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Converts the data of a frame to `Bytes`, without a copy if it already is `Bytes`.
fn into_bytes<D: Buf, E: Into<BoxError>>(
    frame: Result<Frame<D>, E>,
) -> Result<Frame<Bytes>, BoxError> {
    match frame {
        Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
        Err(error) => Err(error.into()),
    }
}
