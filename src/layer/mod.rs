//! The `UpgradeLayer` middleware: registration of handlers, and configuration.

pub(crate) mod config;
pub(crate) mod future;
pub(crate) mod service;

use crate::{
    decide::erased::BoxHandler,
    handler::ProtocolHandler,
    layer::{
        config::Config,
        service::{Upgrade, UpgradeRequired},
    },
    negotiate::{
        Preference, Unsupported,
        protocol::{InvalidProtocol, Protocol},
    },
    session::{Closed, Sessions, settings::Settings},
    time::limit,
};
use std::{fmt, sync::Arc, time::Duration};
use tower_layer::Layer;

/// Middleware that negotiates HTTP upgrades and starts the sessions of their handlers.
///
/// Register handlers for [specific protocols](Self::protocol), for [any other protocol](Self::any_protocol),
/// and for [CONNECT](Self::connect). Requests that do not ask for an upgrade pass to the inner service
/// unchanged.
///
/// | request | handlers | upgrade response |
/// |---|---|---|
/// | `Upgrade` on HTTP/1.1 | [`protocol`](Self::protocol), [`any_protocol`](Self::any_protocol) | 101 |
/// | extended CONNECT (`:protocol`) on HTTP/2 or HTTP/3 | [`protocol`](Self::protocol), [`any_protocol`](Self::any_protocol) | 200 |
/// | CONNECT on any version | [`connect`](Self::connect) | 200 |
///
/// # Where to put it
///
/// `UpgradeLayer`s can be nested. Inner layers decide: they negotiate and call their handlers. The *outermost*
/// layer commits: it starts the session only if the response that it returns is still the upgrade response. Put
/// an `UpgradeLayer` outermost (`UpgradeLayer::new()` if it needs no handlers): middleware between the two
/// layers that turns a 101 into a 403 then prevents the session from starting.
///
/// Two kinds of middleware must not be outside the outermost layer:
///
/// - middleware that replaces the upgrade response: the outermost layer has already started the session,
/// - middleware that clones requests, such as retries and mirrors: clones share the extensions, so all of them wait for
///   the same connection.
///
/// Both are safe inside the outermost layer. [The manual](crate::manual::placement) covers other middleware.
///
/// ```
/// # use std::time::Duration;
/// # use http::StatusCode;
/// # use tower::ServiceBuilder;
/// # use tower_http::timeout::TimeoutLayer;
/// # use tower_upgrade::{UpgradeLayer, handler_fn};
/// # let chat = handler_fn(|_session| async { Ok(()) });
/// # let inner = tower::service_fn(|_: http::Request<String>| async {
/// #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
/// # });
/// let service = ServiceBuilder::new()
///     .layer(UpgradeLayer::new())
///     .layer(TimeoutLayer::with_status_code(
///         StatusCode::GATEWAY_TIMEOUT,
///         Duration::from_secs(5),
///     ))
///     .layer(UpgradeLayer::new().protocol("chat/1", chat))
///     .service(inner);
/// # fn is_service<S: tower::Service<http::Request<String>>>(_: S) {}
/// # is_service(service);
/// ```
///
/// # Behind a router
///
/// Routers match on the method, and the method of an extended CONNECT is not GET:
///
/// | position of the layer | WebSocket of a browser over HTTP/2 |
/// |---|---|
/// | around the router, or on its routes (`.layer(..)`, `.route_layer(..)`) | reaches the layer |
/// | a leaf at `.route_service(path, leaf)`, or under `any_service(leaf)` | reaches the layer |
/// | a leaf under `get_service(leaf)` | gets 405 from the router |
///
/// In the last case, [route CONNECT as well](crate::manual::placement#methods). A plain CONNECT carries no
/// path, so no route matches it: put the layer that serves it
/// [around the whole router](crate::manual::placement#connect).
///
/// # Limits
///
/// A layer's settings apply to all handlers inside it, unless a layer further in overrides them.
/// [The manual](crate::manual::limits#how-to-choose) helps to choose them.
///
/// | limit | default | when exceeded |
/// |---|---|---|
/// | [`accept_timeout`](Self::accept_timeout) | 30 s | 504 |
/// | [`body_limit`](Self::body_limit) | 64 KiB | 413; on HTTP/1 the connection closes |
/// | [`body_timeout`](Self::body_timeout) | 10 s | 408; on HTTP/1 the connection closes |
/// | [`handshake_timeout`](Self::handshake_timeout) | 10 s | the session does not start |
/// | [`idle_timeout`](Self::idle_timeout) | none | the handler is dropped and the connection shut down; a WebSocket of `websocket()`, `govern` or `relay` is closed with 1001 |
/// | [`lifetime`](Self::lifetime) | none | the session gets its stop signal; after another `shutdown_timeout` the handler is dropped and the connection shut down |
/// | [`shutdown_timeout`](Self::shutdown_timeout) | 10 s | the connection is dropped |
/// | [`SessionsBuilder::max`](crate::SessionsBuilder::max), [`max_per_key`](crate::SessionsBuilder::max_per_key) | none | 503 |
#[derive(Clone, Default)]
pub struct UpgradeLayer {
    config: Arc<Config>,
}

impl UpgradeLayer {
    /// Creates a layer without handlers.
    ///
    /// Put outermost, such a layer commits the sessions that inner layers accept.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for a protocol.
    ///
    /// `protocol` is a [`Protocol`] or a string. A `name` matches every version that a client offers, a `name/version`
    /// only that version.
    ///
    /// The handler serves `Upgrade` on HTTP/1.1 (RFC 9110 §7.8), extended CONNECT on HTTP/2 (RFC 8441), where the server
    /// enables it, and extended CONNECT on HTTP/3 (RFC 9220), with the server of the module `http3` or with another that
    /// hands over its streams as [`PendingUpgrade`](crate::PendingUpgrade).
    ///
    /// For several handlers of the same protocol, the layer calls the first one that
    /// [matches](ProtocolHandler::matches) the request, in the order of registration.
    ///
    /// # Panics
    ///
    /// If `protocol` is neither a token nor two tokens separated by a slash. See
    /// [`try_protocol`](Self::try_protocol) for a variant that returns an error.
    #[must_use]
    #[track_caller]
    pub fn protocol<P, H>(self, protocol: P, handler: H) -> Self
    where
        P: TryInto<Protocol, Error: Into<InvalidProtocol>>,
        H: ProtocolHandler,
    {
        match self.try_protocol(protocol, handler) {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Adds a handler for a protocol, and returns an error if the protocol is invalid.
    ///
    /// Apart from that, this method is the same as [`protocol`](Self::protocol).
    ///
    /// # Errors
    ///
    /// [`InvalidProtocol`] if `protocol` is neither a token nor two tokens separated by a slash.
    pub fn try_protocol<P, H>(self, protocol: P, handler: H) -> Result<Self, InvalidProtocol>
    where
        P: TryInto<Protocol, Error: Into<InvalidProtocol>>,
        H: ProtocolHandler,
    {
        let protocol = protocol.try_into().map_err(Into::into)?;
        Ok(self.with(|config| config.protocols.push((protocol, BoxHandler::new(handler)))))
    }

    /// Adds a handler for all protocols without a specific handler.
    ///
    /// The layer tries this handler after those of [`protocol`](Self::protocol), for any protocol that the client
    /// offers. An example is a proxy, whose backends choose the protocol.
    ///
    /// [`UpgradeRequest::protocol`] returns the first protocol that the client offers. The handler can choose
    /// another one of the [offered protocols](crate::UpgradeRequest::offered) with [`Accept::protocol`].
    ///
    /// For several handlers, the layer calls the first one that [matches](ProtocolHandler::matches) the request, in the
    /// order of registration. If none of them matches, the request is [unsupported](Self::unsupported): by default, an
    /// `Upgrade` passes to the inner service and an extended CONNECT is rejected with 501.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_upgrade::{Accept, Protocol, Rejection, UpgradeLayer, UpgradeRequest, accept_fn, copy};
    ///
    /// /// Accepts every protocol whose name begins with `echo`.
    /// async fn echo(request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    ///     let is_echo = |protocol: &Protocol| protocol.name().starts_with("echo");
    ///     let protocol = request.offered().find(is_echo).ok_or(StatusCode::NOT_FOUND)?;
    ///     let echo = Accept::new(|session| async move {
    ///         let (mut reader, mut writer) = tokio::io::split(session.into_io());
    ///         copy(&mut reader, &mut writer).await?;
    ///         Ok(())
    ///     });
    ///     Ok(echo.protocol(protocol))
    /// }
    ///
    /// let layer = UpgradeLayer::new().any_protocol(accept_fn(echo));
    /// ```
    ///
    /// [`UpgradeRequest::protocol`]: crate::UpgradeRequest::protocol
    /// [`Accept::protocol`]: crate::Accept::protocol
    #[must_use]
    pub fn any_protocol<H: ProtocolHandler>(self, handler: H) -> Self {
        self.with(|config| config.any_protocol.push(BoxHandler::new(handler)))
    }

    /// Adds a handler for CONNECT (RFC 9110 §9.3.6), the request for a tunnel to a host and a port.
    ///
    /// The handler must check the target, which it reads with [`UpgradeRequest::authority`] and
    /// [`UpgradeRequest::port`]: a handler that accepts every target is an open proxy. Before it calls the handler, the
    /// layer rejects with 400:
    ///
    /// - a target that is not exactly a host and a port,
    /// - on HTTP/1, a CONNECT with content.
    ///
    /// After the rejection of a CONNECT on HTTP/1, the outermost `UpgradeLayer` closes the connection, also if an inner
    /// service has rejected it: the client may already have sent bytes for the tunnel, which must not be parsed as
    /// requests (RFC 9931). This has two consequences:
    ///
    /// - The outermost layer takes the connection out of every CONNECT request on HTTP/1, so inner services cannot
    ///   upgrade it with hyper.
    /// - The layer cannot close the connection if a router or middleware outside of it rejects the CONNECT. Put an
    ///   `UpgradeLayer` around the whole stack.
    ///
    /// For several handlers, the layer calls the first one that [matches](ProtocolHandler::matches) the request, in the
    /// order of registration.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tokio::net::TcpStream;
    /// use tower_upgrade::{Accept, Rejection, UpgradeLayer, UpgradeRequest, accept_fn};
    ///
    /// async fn tunnel(request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    ///     let target = request.authority()?;
    ///     if target != "localhost:8080" {
    ///         return Err(Rejection::new(StatusCode::FORBIDDEN, "this target is not allowed"));
    ///     }
    ///     let mut upstream = TcpStream::connect(target.as_str()).await.map_err(|error| {
    ///         Rejection::new(StatusCode::BAD_GATEWAY, "cannot connect").with_source(error)
    ///     })?;
    ///     Ok(Accept::new(|session| async move {
    ///         let mut client = session.into_io();
    ///         tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    ///         Ok(())
    ///     }))
    /// }
    ///
    /// let layer = UpgradeLayer::new().connect(accept_fn(tunnel));
    /// ```
    ///
    /// [`UpgradeRequest::authority`]: crate::UpgradeRequest::authority
    /// [`UpgradeRequest::port`]: crate::UpgradeRequest::port
    #[must_use]
    pub fn connect<H: ProtocolHandler>(self, handler: H) -> Self {
        self.with(|config| config.connect.push(BoxHandler::new(handler)))
    }

    /// Sets the order of preference among protocols that are both offered and supported.
    ///
    /// The default is [`Preference::Client`].
    #[must_use]
    pub fn preference(self, preference: Preference) -> Self {
        self.with(|config| config.preference = preference)
    }

    /// Governs foreign upgraders inside the layer: services that upgrade with hyper's `OnUpgrade` instead of a handler
    /// of this crate, such as axum's `WebSocketUpgrade`, socketioxide or jsonrpsee. By default the layer leaves them
    /// alone.
    ///
    /// Their sessions are treated like those of handlers: they start only if the upgrade response leaves the outermost
    /// layer; the registry, idle timeout, lifetime, callbacks, spans and metrics apply; at the stop signal a WebSocket is
    /// closed with 1001. [The manual](crate::manual::govern) lists the details and the exceptions.
    ///
    /// ```
    /// use axum::{Router, extract::ws::WebSocketUpgrade, routing::any};
    /// use tower_upgrade::{Sessions, UpgradeLayer};
    ///
    /// let existing: Router = Router::new().route(
    ///     "/ws",
    ///     any(|ws: WebSocketUpgrade| async { ws.on_upgrade(|_socket| async { /* unchanged */ }) }),
    /// );
    /// let sessions = Sessions::builder().max(10_000).build();
    /// let app = existing.layer(UpgradeLayer::new().sessions(sessions.clone()).govern());
    /// ```
    #[must_use]
    pub fn govern(self) -> Self {
        self.with(|config| config.governs = true)
    }

    /// Sends pings to the clients of governed WebSockets. The default is `None`: no pings.
    ///
    /// After an `interval` without a byte from the client, the session puts a ping between two frames of the upgrader,
    /// which does not read the pong. After another interval of silence the session ends as
    /// [idle](crate::CloseReason::Idle). The session checks the client while the upgrader reads.
    ///
    /// # Panics
    ///
    /// Panics if `interval` is zero.
    #[must_use]
    #[track_caller]
    pub fn govern_keep_alive(self, interval: impl Into<Option<Duration>>) -> Self {
        let interval = limit(interval.into());
        assert!(!interval.is_zero(), "the interval is zero");
        self.set(|settings| settings.govern_keep_alive = Some(interval))
    }

    /// Sets the response to upgrade requests without a matching handler.
    ///
    /// | request | default |
    /// |---|---|
    /// | `Upgrade` on HTTP/1.1 | [`Pass`](Unsupported::Pass): the inner service gets the request |
    /// | CONNECT, extended CONNECT | [`Refuse`](Unsupported::Refuse): 501, because ordinary services do not handle these requests |
    ///
    /// `unsupported` replaces all of these defaults.
    ///
    /// With `Refuse`, inner services do not receive the request. Set `Pass` if one of them serves such requests: an
    /// inner `UpgradeLayer` with handlers for CONNECT, or an upgrader of another crate, such as axum's
    /// `WebSocketUpgrade` over HTTP/2.
    ///
    /// The inner service gets these requests in any case:
    ///
    /// | request | condition |
    /// |---|---|
    /// | any | a handler of [`protocol`](Self::protocol) or [`connect`](Self::connect) for this request does not [match](ProtocolHandler::matches) it |
    /// | `Upgrade` | the layer is without a handler of [`protocol`](Self::protocol): a 426 could not list any protocol |
    /// | extended CONNECT | the layer has no handler of [`protocol`](Self::protocol) or [`any_protocol`](Self::any_protocol) |
    /// | CONNECT | the layer has no handler |
    #[must_use]
    pub fn unsupported(self, unsupported: Unsupported) -> Self {
        self.with(|config| config.unsupported = Some(unsupported))
    }

    /// Sets the time limit for a handler to accept or reject a request. The default is 30 seconds; `None`
    /// disables the limit.
    ///
    /// When the limit is exceeded, the layer drops the future of [`accept`](ProtocolHandler::accept) and
    /// rejects the request with 504. Without a limit, `accept` can stay pending forever for a client that sent early
    /// data and left: hyper does not detect that on HTTP/1.
    #[must_use]
    pub fn accept_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.accept_timeout = Some(timeout))
    }

    /// Sets the size limit, in bytes, for the part of a request body that the handler did not read. The default is
    /// 64 KiB.
    ///
    /// A connection can switch protocols only after the server has received the whole request (RFC 9110 §7.8), so the
    /// layer reads and discards the rest of the body after the handler has decided. If the rest is longer than the
    /// limit, an HTTP/1 connection closes after the response, and the handler's decision determines the status:
    ///
    /// | decision | status |
    /// |---|---|
    /// | accepted | 413 |
    /// | rejected | that of the rejection |
    #[must_use]
    pub fn body_limit(self, bytes: u64) -> Self {
        self.set(|settings| settings.body_limit = Some(bytes))
    }

    /// Sets the time limit for reading the request body to its end. The default is 10 seconds; `None` disables
    /// the limit.
    ///
    /// The limit applies to [`UpgradeRequest::read_body`](crate::UpgradeRequest::read_body) and to the rest of
    /// the body, which the layer reads after the handler has decided. When it is exceeded, an accepted request
    /// is rejected with 408, and an HTTP/1 connection closes after the response.
    #[must_use]
    pub fn body_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.body_timeout = Some(timeout))
    }

    /// Sets the time limit for the server to hand over the connection after the outermost layer has returned
    /// the upgrade response. The default is 10 seconds; `None` disables the limit.
    ///
    /// When the limit is exceeded, the session does not start, and its close reason is
    /// [`NotUpgraded`](crate::CloseReason::NotUpgraded).
    ///
    /// Neither this limit nor the [`accept_timeout`](Self::accept_timeout) covers middleware between the
    /// handler and the outermost layer. To bound that time as well, put a `TimeoutLayer` directly inside the
    /// outermost `UpgradeLayer`.
    #[must_use]
    pub fn handshake_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.handshake_timeout = Some(timeout))
    }

    /// Sets the time limit for a session without a read or written byte. The default is `None`: no limit.
    ///
    /// When the limit is exceeded, the session's handler is dropped and its connection is shut down. The limit ends
    /// when the handler [takes the connection](crate::Upgraded::into_parts) out of the session, which then cannot count
    /// its bytes.
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.idle_timeout = Some(timeout))
    }

    /// Sets the maximum duration of a session. The default is `None`: no limit.
    ///
    /// When the limit is exceeded, the session gets its [stop signal](crate::Session::stop). If its handler has
    /// not finished after another [`shutdown_timeout`](Self::shutdown_timeout), the handler is dropped and the
    /// connection is shut down.
    #[must_use]
    pub fn lifetime(self, lifetime: impl Into<Option<Duration>>) -> Self {
        let lifetime = limit(lifetime.into());
        self.set(|settings| settings.lifetime = Some(lifetime))
    }

    /// Sets the registry that admits and tracks this layer's sessions.
    ///
    /// By default, a layer works without a registry: the number of sessions is unlimited, and they cannot be listed or drained.
    ///
    /// A session belongs to one registry. In nested layers, the registry of the innermost layer applies: the registry of
    /// an outer layer does not contain the sessions of an inner layer that sets another one. The same rule applies to
    /// [`on_close`](Self::on_close).
    #[must_use]
    pub fn sessions(self, sessions: Sessions) -> Self {
        self.set(|settings| settings.sessions = Some(sessions))
    }

    /// Sets a callback for the end of each session.
    ///
    /// The callback runs after the session's handler has finished or has been dropped, and before the
    /// connection is shut down. It must not block. A panic in the callback is reported as a `tracing` event and
    /// otherwise ignored.
    ///
    /// | outcome of the request | callback |
    /// |---|---|
    /// | accepted, and the outermost layer returned the upgrade response | called, even if the session [did not start](crate::CloseReason::NotUpgraded) |
    /// | rejected | not called |
    /// | accepted, but middleware replaced the upgrade response | not called: a `tracing` event reports it, and the prepared session is dropped |
    ///
    /// ```
    /// use tower_upgrade::{Closed, UpgradeLayer};
    ///
    /// let layer = UpgradeLayer::new().on_close(|closed: &Closed| {
    ///     println!("{} {} after {:?}", closed.id(), closed.reason(), closed.duration());
    /// });
    /// ```
    #[must_use]
    pub fn on_close<F>(self, on_close: F) -> Self
    where
        F: Fn(&Closed) + Send + Sync + 'static,
    {
        self.set(|settings| settings.on_close = Some(Arc::new(on_close)))
    }

    /// Sets the time limit for flushing and shutting down the connection at the end of a session. The default
    /// is 10 seconds; `None` disables the limit.
    ///
    /// When the limit is exceeded, the session ends and its IO is dropped. On HTTP/2, the stream may
    /// [outlive the session](crate::manual::stack_below#a-stream-outlives-its-session).
    #[must_use]
    pub fn shutdown_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.shutdown_timeout = Some(timeout))
    }

    /// Converts this layer to a service without an inner service, for a route that serves only upgrades.
    ///
    /// The service rejects other requests: see [`UpgradeRequired`].
    ///
    /// ```
    /// # use axum::Router;
    /// # use tower_upgrade::{UpgradeLayer, handler_fn};
    /// # let chat = handler_fn(|_session| async { Ok(()) });
    /// let app: Router = Router::new()
    ///     .route_service("/chat", UpgradeLayer::new().protocol("chat", chat).into_service());
    /// ```
    ///
    /// # Panics
    ///
    /// If no handler was added to the layer.
    #[must_use]
    #[track_caller]
    pub fn into_service(self) -> Upgrade<UpgradeRequired> {
        assert!(
            self.config.has_handlers(),
            "a service of upgrades needs a handler"
        );
        let leaf = UpgradeRequired::new(&self.config);
        self.unsupported(Unsupported::Refuse).layer(leaf)
    }

    fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.with(|config| change(Arc::make_mut(&mut config.settings)))
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl<S> Layer<S> for UpgradeLayer {
    type Service = Upgrade<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Upgrade::new(inner, Arc::clone(&self.config))
    }
}

impl fmt::Debug for UpgradeLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.config, f)
    }
}
