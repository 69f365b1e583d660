//! The response future: polls the inner service or the decision, then commits.

use crate::{
    commit::{Decided, Outermost},
    error::BoxFuture,
    message::body::ResponseBody,
};
use http::Response;
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

pin_project! {
    /// Response future for [`Upgrade`](crate::Upgrade).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the session does not start.
    pub struct ResponseFuture<F> {
        #[pin]
        response: Kind<F>,
        outermost: Option<Outermost>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Inner { #[pin] future: F },
        Decision { future: BoxFuture<Decided> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(future: F, outermost: Option<Outermost>) -> Self {
        Self {
            response: Kind::Inner { future },
            outermost,
        }
    }

    pub(crate) fn decision(future: BoxFuture<Decided>, outermost: Option<Outermost>) -> Self {
        Self {
            response: Kind::Decision { future },
            outermost,
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(Ok(match this.response.project() {
            KindProj::Inner { future } => {
                let response = ready!(future.poll(cx))?.map(ResponseBody::inner);
                match this.outermost.take() {
                    Some(outermost) => outermost.commit(response),
                    None => response,
                }
            }
            KindProj::Decision { future } => {
                let decided = ready!(future.as_mut().poll(cx));
                match this.outermost.take() {
                    Some(outermost) => outermost.commit_own(decided),
                    None => decided.into_response().map(ResponseBody::own),
                }
            }
        }))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
