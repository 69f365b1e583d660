//! The future of the client's services.

use super::Error;
use crate::error::BoxFuture;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use sync_wrapper::SyncWrapper;

/// The future that the services of [this module](super) return.
///
/// | service | output, if the call succeeds |
/// |---|---|
/// | [`Upgrade`](super::Upgrade) | a [`Session`](super::Session) |
/// | [`Dial`](super::Dial), [`Http1`](super::Http1), [`Http2`](super::Http2), [`Pool`](super::Pool) | an [`http::Response`] |
/// | [`Tunnel`](super::Tunnel) | the [`Upgraded`](crate::Upgraded) connection to the proxy |
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<T> {
    future: SyncWrapper<BoxFuture<Result<T, Error>>>,
}

impl<T: Send + 'static> ResponseFuture<T> {
    pub(super) fn new(future: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        Self {
            future: SyncWrapper::new(Box::pin(future)),
        }
    }

    pub(super) fn error(error: Error) -> Self {
        Self::new(std::future::ready(Err(error)))
    }
}

impl<T> Future for ResponseFuture<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.get_mut().as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for ResponseFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
