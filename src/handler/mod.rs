//! Handlers: who decides on an upgrade request, and who speaks afterwards.

pub(crate) mod request;

use crate::session::Speak;
use crate::{
    error::BoxError,
    handler::request::UpgradeRequest,
    message::rejection::Rejection,
    negotiate::protocol::Protocol,
    session::{Identity, Session},
};
use http::{HeaderMap, HeaderValue, header::IntoHeaderName, request::Parts};
use std::{fmt, sync::Arc, time::Duration};

/// Speaks a protocol: decides on the requests for it, and runs the sessions.
///
/// A handler that only speaks is a closure: see [`handler_fn`]. One that decides first does its
/// work in [`accept`](Self::accept), while nothing has been answered yet, and moves what it
/// prepared into the session:
///
/// ```
/// use http::StatusCode;
/// use tokio::net::TcpStream;
/// use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeRequest};
///
/// struct Backend { address: String }
///
/// impl ProtocolHandler for Backend {
///     async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
///         let mut backend = TcpStream::connect(&self.address).await.map_err(|error| {
///             Rejection::new(StatusCode::BAD_GATEWAY, "the backend is away").with_source(error)
///         })?;
///         Ok(Accept::new(|session| async move {
///             let mut client = session.into_io();
///             tokio::io::copy_bidirectional(&mut client, &mut backend).await?;
///             Ok(())
///         }))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol handler",
    label = "not a `ProtocolHandler`",
    note = "a closure or a function becomes one with `handler_fn`, or, for WebSocket, with `websocket::websocket`"
)]
pub trait ProtocolHandler: Send + Sync + 'static {
    /// Decides on a request. Nothing has been answered yet, but for the `100 Continue` that hyper
    /// sends when a body is read for which the client expects one.
    ///
    /// The future is dropped, and the request refused with 504, when it takes longer than
    /// [`UpgradeLayer::accept_timeout`](crate::UpgradeLayer::accept_timeout). It is also dropped
    /// when a layer around gives up, and when hyper sees that the client has left: on HTTP/2 that it
    /// reset the stream or that the connection broke. On HTTP/1 it does not
    /// see that while early bytes of the client are unread, nor at all with `half_close(true)`: then
    /// the timeout ends it. If it panics the request is refused with 500.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] is sent in place of the switch.
    fn accept(
        &self,
        request: &mut UpgradeRequest,
    ) -> impl Future<Output = Result<Accept, Rejection>> + Send;

    /// Whether this handler should be considered for the request. Defaults to `true`.
    ///
    /// If not, the next handler of the same protocol is asked, then the next protocol that was
    /// offered, then those for [any protocol](crate::UpgradeLayer::any_protocol), and in the end the request
    /// goes to the inner service. To refuse a request rather
    /// than leave it to others, return a [`Rejection`] from [`accept`](Self::accept). If it panics
    /// the request is refused with 500.
    fn wants(&self, parts: &Parts) -> bool {
        let _ = parts;
        true
    }

    /// This handler, for those requests that pass `predicate` as well.
    ///
    /// ```
    /// # use tower_upgrade::{handler_fn, ProtocolHandler, UpgradeLayer};
    /// # let (public, private) = (handler_fn(|_| async { Ok(()) }), handler_fn(|_| async { Ok(()) }));
    /// UpgradeLayer::new()
    ///     .protocol("chat", private.when(|parts| parts.uri.path().starts_with("/private/")))
    ///     .protocol("chat", public);
    /// ```
    fn when<P>(self, predicate: P) -> When<Self, P>
    where
        Self: Sized,
        P: Fn(&Parts) -> bool + Send + Sync + 'static,
    {
        When {
            handler: self,
            predicate,
        }
    }
}

impl<H: ProtocolHandler> ProtocolHandler for Arc<H> {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        H::accept(self, request).await
    }

    fn wants(&self, parts: &Parts) -> bool {
        H::wants(self, parts)
    }
}

/// A handler with a condition: made by [`ProtocolHandler::when`].
#[derive(Clone)]
pub struct When<H, P> {
    handler: H,
    predicate: P,
}

impl<H, P> ProtocolHandler for When<H, P>
where
    H: ProtocolHandler,
    P: Fn(&Parts) -> bool + Send + Sync + 'static,
{
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        self.handler.accept(request).await
    }

    fn wants(&self, parts: &Parts) -> bool {
        (self.predicate)(parts) && self.handler.wants(parts)
    }
}

impl<H: fmt::Debug, P> fmt::Debug for When<H, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When")
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}

/// A handler that accepts every request and speaks.
///
/// Its future ends with `Ok(())`, or with any error as a [`BoxError`], which `?` makes of the error of a library. How
/// it ended is told to [`UpgradeLayer::on_close`](crate::UpgradeLayer::on_close) and to `tracing`; the peer sees the
/// end of the connection and no more.
///
/// ```
/// use tower_upgrade::{Session, copy, handler_fn};
///
/// let echo = handler_fn(|session: Session| async move {
///     let (mut reader, mut writer) = tokio::io::split(session.into_io());
///     copy(&mut reader, &mut writer).await?;
///     Ok(())
/// });
/// ```
pub fn handler_fn<F, Fut>(speak: F) -> HandlerFn<F>
where
    F: Fn(Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    HandlerFn {
        speak: Arc::new(speak),
    }
}

/// A handler made of a closure: see [`handler_fn`].
pub struct HandlerFn<F> {
    speak: Arc<F>,
}

impl<F, Fut> ProtocolHandler for HandlerFn<F>
where
    F: Fn(Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let speak = Arc::clone(&self.speak);
        Ok(Accept::new(move |session| speak(session)))
    }
}

impl<F> Clone for HandlerFn<F> {
    fn clone(&self) -> Self {
        Self {
            speak: Arc::clone(&self.speak),
        }
    }
}

impl<F> fmt::Debug for HandlerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HandlerFn")
            .field(&std::any::type_name::<F>())
            .finish()
    }
}

/// A handler's consent: what will run the session, and what it adds to the switch.
///
/// The session starts once the switch has been sent. If it never is, because a layer around
/// replaced the response or the client left, this is dropped with all that it owns.
#[must_use = "an upgrade is accepted by returning this from `accept`"]
pub struct Accept {
    pub(crate) speak: Speak,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) headers: HeaderMap,
    pub(crate) keep_request: bool,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) identity: Option<Identity>,
}

impl Accept {
    /// Accepts, and lets `speak` run the session. It owns what it captures.
    ///
    /// When its future ends, in whichever way, what was written is flushed and the connection is
    /// shut down in order. An error is reported as the session's end; the peer sees no more of it
    /// than the end of the connection. A panic ends this session and no other.
    pub fn new<F, Fut>(speak: F) -> Self
    where
        F: FnOnce(Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self {
            speak: Speak::new(|session| Box::pin(speak(session))),
            protocol: None,
            headers: HeaderMap::new(),
            keep_request: false,
            lifetime: None,
            identity: None,
        }
    }

    /// Switches to this one of the protocols that the client [offers](UpgradeRequest::offered), in place of the
    /// one that was [chosen](UpgradeRequest::protocol): for a handler that leaves the choice to a backend, for
    /// example.
    ///
    /// The client is answered with the protocol as it wrote it. If it did not offer it the request is refused
    /// with 500, and the handler's mistake is reported: never does a server switch to what was not offered
    /// (RFC 9110 §7.8). An extended CONNECT offers one protocol, and a CONNECT none.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Appends a header to the 101, or to the 200 that answers a CONNECT; existing values with the same
    /// name are kept.
    ///
    /// `Connection`, `Upgrade`, `Content-Length` and `Transfer-Encoding` are not the handler's to
    /// set (RFC 9110 §7.8, §8.6 and §9.3.6) and are left out. If a layer around turns the switch into
    /// something else, the headers that were added here are removed from it.
    ///
    /// # Panics
    ///
    /// If `name` is a `&'static str` that is not a valid header name in lower case.
    pub fn header<K: IntoHeaderName>(mut self, name: K, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sets the identity of the session: the user, the room or the tenant that it belongs to. It replaces an
    /// [`Identity`] that a layer put into the extensions of the request.
    ///
    /// [`Sessions`](crate::Sessions) lists, counts and closes sessions by it.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Ends the session when `lifetime` has passed since its upgrade response, for example when the credentials of the
    /// request expire.
    ///
    /// It is told to [stop](Session::stop), and aborted after
    /// [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout); its close reason is
    /// [`Lifetime`](crate::CloseReason::Lifetime). The earlier of this and
    /// [`UpgradeLayer::lifetime`](crate::UpgradeLayer::lifetime) holds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use http::StatusCode;
    /// use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeRequest};
    ///
    /// /// What the layer for authentication leaves in the extensions of a request.
    /// #[derive(Clone)]
    /// struct Token { expires_in: Duration }
    ///
    /// struct Members;
    ///
    /// impl ProtocolHandler for Members {
    ///     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    ///         let token: &Token = request.extensions().get().ok_or(StatusCode::UNAUTHORIZED)?;
    ///         let expires_in = token.expires_in;
    ///         Ok(Accept::new(|session| async move { Ok(drop(session)) }).lifetime(expires_in))
    ///     }
    /// }
    /// ```
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Keeps the head of the request for the session: see [`Session::request`].
    ///
    /// This costs memory for as long as the session lives, measured under axum at 12 KiB: the headers
    /// are slices of the buffer that they were read into, and hold on to all of it.
    pub fn keep_request(mut self) -> Self {
        self.keep_request = true;
        self
    }
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept")
            .field("protocol", &self.protocol)
            .field("headers", &self.headers)
            .field("keep_request", &self.keep_request)
            .field("lifetime", &self.lifetime)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
