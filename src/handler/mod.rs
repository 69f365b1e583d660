//! Protocol handlers: they accept or reject upgrade requests.

pub(crate) mod accept_fn;
pub(crate) mod request;

use crate::{
    error::BoxError,
    handler::request::UpgradeRequest,
    message::rejection::Rejection,
    negotiate::protocol::Protocol,
    session::{Identity, Session, SessionHandler},
};
use http::{HeaderMap, HeaderValue, header::IntoHeaderName, request::Parts};
use std::{fmt, sync::Arc, time::Duration};

/// Accepts or rejects the upgrade requests for a protocol, and provides a session handler for each accepted one.
///
/// A handler that accepts every request can be a closure: see [`handler_fn`]. Otherwise implement
/// [`accept`](Self::accept). It runs before the response is sent: connect to a backend there, for example, and move the
/// connection into the session handler:
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
///             Rejection::new(StatusCode::BAD_GATEWAY, "cannot connect to the backend").with_source(error)
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
    /// Accepts or rejects a request, before any response is sent. Only hyper may have sent a `100 Continue`, when the
    /// handler reads the body of a request with `Expect`.
    ///
    /// If the decision takes longer than [`UpgradeLayer::accept_timeout`](crate::UpgradeLayer::accept_timeout), the
    /// future is dropped and the request is rejected with 504. The future is also dropped when a layer outside drops
    /// the call, and when hyper notices that the client has left: on HTTP/2 by a reset of the stream or a broken
    /// connection. On HTTP/1 hyper does not notice while early bytes of the client are unread, and never with
    /// `half_close(true)`: then the timeout ends the decision. If the future panics, the request is rejected with 500.
    ///
    /// # Errors
    ///
    /// The layer sends the [`Rejection`] instead of the upgrade response.
    fn accept(
        &self,
        request: &mut UpgradeRequest,
    ) -> impl Future<Output = Result<Accept, Rejection>> + Send;

    /// Returns whether this handler serves the request. The default is `true`.
    ///
    /// If the handler declines, the layer tries the next handler of the same protocol, then the next offered protocol,
    /// then the handlers for [any protocol](crate::UpgradeLayer::any_protocol). If a handler of
    /// [`protocol`](crate::UpgradeLayer::protocol) or [`connect`](crate::UpgradeLayer::connect) declined and no other
    /// one takes the request, the request goes to the inner service. If only handlers for any protocol declined, the
    /// request is [unsupported](crate::UpgradeLayer::unsupported). To reject a request instead of leaving it to other
    /// handlers, return a [`Rejection`] from [`accept`](Self::accept). If this function panics, the request is rejected
    /// with 500.
    fn matches(&self, parts: &Parts) -> bool {
        let _ = parts;
        true
    }

    /// Restricts this handler to requests for which `predicate` returns `true`.
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

    fn matches(&self, parts: &Parts) -> bool {
        H::matches(self, parts)
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

    fn matches(&self, parts: &Parts) -> bool {
        (self.predicate)(parts) && self.handler.matches(parts)
    }
}

impl<H: fmt::Debug, P> fmt::Debug for When<H, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When")
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}

/// Creates a handler that accepts every request and runs its sessions with a closure.
///
/// The future returns `Ok(())`, or any error as a [`BoxError`], so `?` works with the errors of any library. The layer
/// reports the result to [`UpgradeLayer::on_close`](crate::UpgradeLayer::on_close) and to `tracing`; the peer only sees
/// the end of the connection.
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
pub fn handler_fn<F, Fut>(run: F) -> HandlerFn<F>
where
    F: Fn(Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    HandlerFn { run: Arc::new(run) }
}

/// A handler made of a closure: see [`handler_fn`].
pub struct HandlerFn<F> {
    run: Arc<F>,
}

impl<F, Fut> ProtocolHandler for HandlerFn<F>
where
    F: Fn(Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let run = Arc::clone(&self.run);
        Ok(Accept::new(move |session| run(session)))
    }
}

impl<F> Clone for HandlerFn<F> {
    fn clone(&self) -> Self {
        Self {
            run: Arc::clone(&self.run),
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

/// The decision to accept a request: the session handler, and additions to the upgrade response.
///
/// The session starts after the server has sent the upgrade response and handed over the connection. If that does not
/// happen, because a layer outside replaced the response or the client left, the session handler is dropped with its
/// captured values.
#[must_use = "an upgrade is accepted by returning this from `accept`"]
pub struct Accept {
    pub(crate) run: SessionHandler,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) headers: HeaderMap,
    pub(crate) keep_request: bool,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) identity: Option<Identity>,
}

impl Accept {
    /// Accepts the request. `run` runs the session, and owns its captured values.
    ///
    /// When its future ends, by success, error or panic, the written bytes are flushed and the connection is shut down.
    /// An error becomes the session's close reason; the peer only sees the end of the connection. A panic ends only
    /// this session.
    pub fn new<F, Fut>(run: F) -> Self
    where
        F: FnOnce(Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self {
            run: SessionHandler::new(|session| Box::pin(run(session))),
            protocol: None,
            headers: HeaderMap::new(),
            keep_request: false,
            lifetime: None,
            identity: None,
        }
    }

    /// Switches to another protocol that the client [offers](UpgradeRequest::offered), instead of the
    /// [chosen](UpgradeRequest::protocol) one, for example if a backend chooses.
    ///
    /// The response contains the client's spelling of the protocol. If the client did not offer it, the request is
    /// rejected with 500, and the mistake is logged: a server must not switch to a protocol that was not offered
    /// (RFC 9110 §7.8). An extended CONNECT offers one protocol, and a CONNECT none.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Appends a header to the 101, or to the 200 that answers a CONNECT; existing values with the same
    /// name are kept.
    ///
    /// `Connection`, `Upgrade`, `Content-Length` and `Transfer-Encoding` are ignored (RFC 9110 §7.8, §8.6 and §9.3.6).
    /// If a layer outside replaces the upgrade response, the outermost layer removes the headers that were added here.
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
    /// The session's [stop signal](Session::stop) fires, and after
    /// [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) the session is aborted. Its close reason is
    /// [`Lifetime`](crate::CloseReason::Lifetime). The earlier of this and
    /// [`UpgradeLayer::lifetime`](crate::UpgradeLayer::lifetime) applies.
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
    /// This costs memory while the session lives, measured under axum at 12 KiB: the headers are slices of hyper's read
    /// buffer, and keep the whole buffer allocated.
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
