//! Protocol handlers: they accept or reject upgrade requests.

pub(crate) mod accept_fn;
pub(crate) mod request;

use crate::{
    error::BoxError,
    handler::request::UpgradeRequest,
    message::rejection::Rejection,
    negotiate::protocol::{InvalidProtocol, Protocol},
    session::{Identity, Session, SessionHandler},
};
use http::{HeaderMap, HeaderValue, header::IntoHeaderName, request::Parts};
use std::{fmt, sync::Arc, time::Duration};

/// Accepts or rejects upgrade requests, and provides the session handler of each accepted request.
///
/// | handler | create it with |
/// |---|---|
/// | accepts every request | [`handler_fn`], from a closure |
/// | accepts or rejects, from an `async fn` or a closure | [`accept_fn`](crate::accept_fn()) |
/// | has named state, or declines requests | an implementation of this trait |
/// | is one of several types in a collection | [`BoxHandler`](crate::BoxHandler) |
///
/// [`accept`](Self::accept) runs before the response is sent. A handler can connect to a backend there, and move the
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
///
/// # Middleware for one handler
///
/// A handler that wraps another handler can check requests, or change what the inner handler returns. Call the inner
/// handler's [`matches`](Self::matches) as well:
///
/// ```
/// use http::{StatusCode, request::Parts};
/// use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest, handler_fn};
///
/// struct RequireToken<H>(H);
///
/// impl<H: ProtocolHandler> ProtocolHandler for RequireToken<H> {
///     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
///         if !request.headers().contains_key("token") {
///             return Err(StatusCode::UNAUTHORIZED.into());
///         }
///         self.0.accept(request).await
///     }
///
///     fn matches(&self, parts: &Parts) -> bool {
///         self.0.matches(parts)
///     }
/// }
///
/// let chat = handler_fn(|_session| async { Ok(()) });
/// let layer = UpgradeLayer::new().protocol("chat", RequireToken(chat));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol handler",
    label = "not a `ProtocolHandler`",
    note = "`handler_fn` converts a closure that runs sessions, `accept_fn` one that accepts or rejects requests, and \
            `websocket::websocket` one that runs WebSocket sessions"
)]
pub trait ProtocolHandler: Send + Sync + 'static {
    /// Accepts or rejects a request before the response is sent.
    ///
    /// Reading the body of a request with `Expect: 100-continue` makes hyper send the `100 Continue`.
    ///
    /// # Cancellation
    ///
    /// The layer drops the future, and its captured values, in these cases:
    ///
    /// | event | response |
    /// |---|---|
    /// | [`UpgradeLayer::accept_timeout`](crate::UpgradeLayer::accept_timeout) has passed | 504 |
    /// | the deadline of [`Sessions::drain`](crate::Sessions::drain) has passed | 503 |
    /// | the future panics | 500 |
    /// | middleware outside the layer drops the call | the middleware responds |
    /// | hyper detects that the client has left | none |
    ///
    /// hyper detects on HTTP/2 that the stream was reset or the connection has broken. On HTTP/1, hyper does not detect
    /// that the client has left while early data is unread, and never with `half_close(true)`: the future then stays
    /// pending until `accept_timeout`.
    ///
    /// # Errors
    ///
    /// Return a [`Rejection`] to reject the request. The layer sends it instead of the upgrade response.
    fn accept(
        &self,
        request: &mut UpgradeRequest,
    ) -> impl Future<Output = Result<Accept, Rejection>> + Send;

    /// Returns whether this handler serves the request. The default is `true`.
    ///
    /// Return `false` to leave the request to other handlers. To reject the request, return a [`Rejection`] from
    /// [`accept`](Self::accept) instead.
    ///
    /// After `false`, the layer tries in this order:
    ///
    /// 1. the next handler of the same protocol,
    /// 2. the handlers of the next offered protocol,
    /// 3. the handlers for [any protocol](crate::UpgradeLayer::any_protocol).
    ///
    /// If all of them return `false`, the kind of handler decides:
    ///
    /// | handlers that returned `false` | result |
    /// |---|---|
    /// | any of [`protocol`](crate::UpgradeLayer::protocol) or [`connect`](crate::UpgradeLayer::connect) | the inner service gets the request |
    /// | only those of [`any_protocol`](crate::UpgradeLayer::any_protocol) | the request is [unsupported](crate::UpgradeLayer::unsupported) |
    ///
    /// # Panics
    ///
    /// If an implementation panics, the layer rejects the request with 500.
    fn matches(&self, parts: &Parts) -> bool {
        let _ = parts;
        true
    }

    /// Restricts this handler to requests for which `predicate` returns `true`.
    ///
    /// For other requests, [`matches`](Self::matches) returns `false`.
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

/// A handler that serves only requests for which a predicate returns `true`, created by [`ProtocolHandler::when`].
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

/// Creates a handler that accepts every request, from a closure that runs the sessions.
///
/// The future of the closure returns `Ok(())` or an error. `?` converts any error to a [`BoxError`]. The layer reports
/// the result to [`UpgradeLayer::on_close`](crate::UpgradeLayer::on_close) and to `tracing`. The client only receives
/// the end of the connection.
///
/// [`accept_fn`](crate::accept_fn()) creates a handler that also rejects requests.
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

/// A handler that accepts every request, created by [`handler_fn`].
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

/// The acceptance of a request: the session handler, and additions to the upgrade response.
///
/// The session starts after the server has sent the upgrade response and handed over the connection. If middleware
/// replaces the response, or the client leaves before, the session handler is dropped with its captured values.
#[must_use = "an upgrade is accepted by returning this from `accept`"]
pub struct Accept {
    pub(crate) run: SessionHandler,
    pub(crate) protocol: Option<Result<Protocol, InvalidProtocol>>,
    pub(crate) headers: HeaderMap,
    pub(crate) keep_request: bool,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) identity: Option<Identity>,
}

impl Accept {
    /// Accepts the request, and sets the session handler.
    ///
    /// `run` is called when the session starts. The session ends with the future that `run` returns, by success, error
    /// or panic. The layer then flushes the written bytes and shuts the connection down.
    ///
    /// An error or a panic becomes the session's [close reason](crate::CloseReason) and does not affect other sessions.
    /// The client only receives the end of the connection.
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

    /// Sets the protocol to switch to, for example one that a backend has chosen.
    ///
    /// The default is the [negotiated protocol](UpgradeRequest::protocol). `protocol` is a [`Protocol`] or a string, and
    /// must be one of the [offered protocols](UpgradeRequest::offered). The upgrade response contains the client's
    /// spelling.
    ///
    /// If the client did not offer `protocol`, or `protocol` is invalid, the layer rejects the request with 500 and logs
    /// the mistake at ERROR: a server must not switch to a protocol that was not offered (RFC 9110 §7.8). An extended
    /// CONNECT offers one protocol. A CONNECT offers none, so this method must not be called for it.
    pub fn protocol<P>(mut self, protocol: P) -> Self
    where
        P: TryInto<Protocol, Error: Into<InvalidProtocol>>,
    {
        self.protocol = Some(protocol.try_into().map_err(Into::into));
        self
    }

    /// Appends a header to the upgrade response. Existing values with the same name are kept.
    ///
    /// `Connection`, `Upgrade`, `Content-Length` and `Transfer-Encoding` are ignored (RFC 9110 §7.8, §8.6 and §9.3.6).
    /// If middleware replaces the upgrade response, the outermost layer removes the headers that were added here.
    ///
    /// # Panics
    ///
    /// If `name` is a `&'static str` that is not a valid header name in lower case.
    pub fn header<K: IntoHeaderName>(mut self, name: K, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sets the identity of the session: its user, room or tenant, for example.
    ///
    /// The default is the [`Identity`] in the extensions of the request, if middleware has inserted one.
    /// [`Sessions`](crate::Sessions) lists, counts and closes sessions by their identity.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Sets the maximum duration of the session, for example until the credentials of the request expire.
    ///
    /// The time starts with the upgrade response. The default is [`UpgradeLayer::lifetime`], which also applies if it is
    /// shorter than `lifetime`.
    ///
    /// When the limit is exceeded, the session gets its [stop signal](Session::stop). If its handler has not finished
    /// after another [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout), the session is aborted. The close
    /// reason is [`Lifetime`](crate::CloseReason::Lifetime).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use http::StatusCode;
    /// use tower_upgrade::{Accept, Rejection, UpgradeLayer, UpgradeRequest, accept_fn};
    ///
    /// /// Middleware for authentication inserts a `Token` into the extensions of the request.
    /// #[derive(Clone)]
    /// struct Token { expires_in: Duration }
    ///
    /// async fn accept(request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    ///     let token: &Token = request.extensions().get().ok_or(StatusCode::UNAUTHORIZED)?;
    ///     Ok(Accept::new(|session| async move { Ok(drop(session)) }).lifetime(token.expires_in))
    /// }
    ///
    /// let layer = UpgradeLayer::new().protocol("chat", accept_fn(accept));
    /// ```
    ///
    /// [`UpgradeLayer::lifetime`]: crate::UpgradeLayer::lifetime
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Keeps the head of the request for the session, which reads it with [`Session::request`].
    ///
    /// The default is to drop the head. Keeping it costs 12 KiB per session (measured under axum): the headers are
    /// slices of hyper's read buffer, and keep the whole buffer allocated.
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
