//! The future of a plain request.

use crate::{client::Body, error::BoxFuture};
use http::Response;
use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use sync_wrapper::SyncWrapper;

/// The response future of [`ReverseProxy`](super::ReverseProxy) for a plain request.
///
/// # Cancel safety
///
/// Dropping the future cancels the request to the backend.
#[must_use = "futures do nothing unless polled"]
pub struct ForwardFuture {
    future: SyncWrapper<BoxFuture<Response<Body>>>,
}

impl ForwardFuture {
    pub(super) fn new(future: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self {
            future: SyncWrapper::new(Box::pin(future)),
        }
    }
}

impl Future for ForwardFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.get_mut().as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for ForwardFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardFuture").finish_non_exhaustive()
    }
}
