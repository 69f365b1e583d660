//! The body of a response that refused the upgrade.

use crate::{error::BoxError, message::body::ErasedBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// The response body of a refused upgrade, with the inner client's body type erased.
///
/// Read the body with `http_body_util::BodyExt::collect`. The
/// [`handshake_timeout`](super::UpgradeLayer::handshake_timeout) covers only the head of the response, and no limit
/// applies to the length of the body: for an untrusted server, wrap the body in `http_body_util::Limited`, and
/// `collect` in a timeout.
pub struct Body(ErasedBody);

impl Body {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(ErasedBody::new(body))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
