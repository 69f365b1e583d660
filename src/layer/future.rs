//! The response future: polls the inner service or the decision, then commits.

use crate::{
    commit::{Decided, Outermost},
    error::BoxFuture,
    govern::Governed,
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
        Inner {
            #[pin]
            future: F,
            governed: Option<Box<Governed>>,
        },
        Decision { future: BoxFuture<Decided> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(
        future: F,
        governed: Option<Governed>,
        outermost: Option<Outermost>,
    ) -> Self {
        let governed = governed.map(Box::new);
        Self {
            response: Kind::Inner { future, governed },
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
        let mut this = self.project();
        if let KindProj::Inner { future, governed } = this.response.as_mut().project() {
            let response = ready!(future.poll(cx))?;
            let concluded = match governed.take() {
                Some(governed) => governed.conclude(response),
                None => Err(response),
            };
            match concluded {
                Ok(future) => this.response.set(Kind::Decision { future }),
                Err(response) => {
                    let response = response.map(ResponseBody::inner);
                    return Poll::Ready(Ok(match this.outermost.take() {
                        Some(outermost) => outermost.commit(response),
                        None => response,
                    }));
                }
            }
        }
        let decided = match this.response.project() {
            KindProj::Decision { future } => ready!(future.as_mut().poll(cx)),
            KindProj::Inner { .. } => return Poll::Pending,
        };
        Poll::Ready(Ok(match this.outermost.take() {
            Some(outermost) => outermost.commit_own(decided),
            None => decided.into_response().map(ResponseBody::own),
        }))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
