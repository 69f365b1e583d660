//! The upgrade service of the client.

use super::{Body, Error, Request, ResponseFuture, Session, request::Asked};
use crate::{
    error::BoxError,
    negotiate::answer::{Answer, answer},
    session::pending_upgrade::Handover,
    time::within,
};
use http::{Response, Version};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tower_service::Service;

/// A service that requests upgrades with an inner HTTP client, created by [`UpgradeLayer`](super::UpgradeLayer).
///
/// A call takes a [`Request`] and returns a [`Session`].
///
/// # Errors
///
/// Returns an [`Error`]. [`ErrorKind`](super::ErrorKind) lists the causes.
///
/// # Cancel safety
///
/// Dropping the future cancels the request. Over HTTP/2, the stream is reset. Over HTTP/1.1, the connection is closed
/// once a request body that is being sent has been sent in full.
#[derive(Clone, Debug)]
pub struct Upgrade<S> {
    inner: S,
    handshake_timeout: Duration,
}

impl<S> Upgrade<S> {
    pub(super) fn new(inner: S, handshake_timeout: Duration) -> Self {
        Self {
            inner,
            handshake_timeout,
        }
    }

    /// Returns a reference to the inner client.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner client.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes this service and returns the inner client.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Upgrade<S>
where
    S: Service<http::Request<ReqBody>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    ReqBody: http_body::Body,
    ResBody: http_body::Body + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Response = Session;
    type Error = Error;
    type Future = ResponseFuture<Session>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::transport)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (request, asked) = match request.into_http() {
            Ok(request) => request,
            Err(error) => return ResponseFuture::error(error),
        };
        let response = self.inner.call(request);
        let limit = self.handshake_timeout;
        ResponseFuture::new(async move {
            let session = async {
                let response = response.await.map_err(Error::transport)?;
                conclude(asked, response.map(Body::new)).await
            };
            match within(limit, session).await {
                Some(session) => session,
                None => Err(Error::timeout()),
            }
        })
    }
}

/// Converts the response to a session or an error. Dropping an invalid upgrade response drops the connection.
async fn conclude(mut asked: Asked, mut response: Response<Body>) -> Result<Session, Error> {
    match response.extensions_mut().remove::<Asked>() {
        Some(otherwise) => asked = otherwise,
        None if !asked.protocols.is_empty() && response.version() >= Version::HTTP_2 => {
            return Err(Error::not_asked(response));
        }
        None => {}
    }
    let answer = answer(
        asked.kind,
        &asked.protocols,
        response.status(),
        response.version(),
        response.headers(),
    );
    match answer.map_err(Error::protocol)? {
        Answer::Upgraded(protocol) => {
            let handover = Handover::take(response.extensions_mut()).ok_or_else(|| {
                Error::unsupported("the inner client did not hand over the connection")
            })?;
            let io = handover.io().await.map_err(Error::transport)?;
            let (head, _no_body) = response.into_parts();
            Ok(Session::new(asked.kind, protocol, head, io))
        }
        Answer::Refused => Err(Error::refused(response)),
    }
}
