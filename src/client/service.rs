//! The upgrade service of the client.

use super::{Body, Error, Request, Session, request::Asked};
use crate::{
    error::{BoxError, BoxFuture},
    io::box_io::BoxIo,
    negotiate::answer::{Answer, answer},
    session::{pending_upgrade::PendingUpgrade, upgraded::Upgraded},
    time::within,
};
use http::{Response, Version};
use hyper::upgrade::OnUpgrade;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use sync_wrapper::SyncWrapper;
use tower_service::Service;

/// A service that requests upgrades with an inner HTTP client, created by [`UpgradeLayer`](super::UpgradeLayer).
///
/// A call takes a [`Request`] and returns a [`Session`].
///
/// # Errors
///
/// Returns an [`Error`]. See [`ErrorKind`](super::ErrorKind) for the kinds.
///
/// # Cancel safety
///
/// Dropping the future cancels the request. Over HTTP/1.1, the connection is closed once the server has received the
/// rest of a body that was being sent. Over HTTP/2, the stream is reset.
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
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::transport)
    }

    fn call(&mut self, request: Request<ReqBody>) -> ResponseFuture {
        let (request, asked) = match request.into_http() {
            Ok(request) => request,
            Err(error) => return ResponseFuture::new(async { Err(error) }),
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
            let io = handed_over(&mut response).await?;
            let (head, _no_body) = response.into_parts();
            Ok(Session::new(asked.kind, protocol, head, io))
        }
        Answer::Refused => Err(Error::refused(response)),
    }
}

/// Waits for the connection that the inner client hands over with its response.
async fn handed_over(response: &mut Response<Body>) -> Result<Upgraded, Error> {
    let extensions = response.extensions_mut();
    let other = extensions
        .remove::<PendingUpgrade>()
        .and_then(PendingUpgrade::take);
    let hyper = extensions.remove::<OnUpgrade>();
    match (other, hyper) {
        (Some(other), _) => other.await.map_err(Error::transport),
        (None, Some(hyper)) => {
            let io = hyper.await.map_err(Error::transport)?;
            Ok(Upgraded::from_box_io(BoxIo::from(io)))
        }
        (None, None) => Err(Error::unsupported(
            "the client did not hand its connection over",
        )),
    }
}

/// The future returned by [`Upgrade`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    session: SyncWrapper<BoxFuture<Result<Session, Error>>>,
}

impl ResponseFuture {
    fn new(session: impl Future<Output = Result<Session, Error>> + Send + 'static) -> Self {
        Self {
            session: SyncWrapper::new(Box::pin(session)),
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Session, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.session.get_mut().as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
