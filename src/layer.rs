//! The layer: what is registered, and how it is set up.

use crate::{
    Closed, InvalidProtocol, Preference, ProtocolHandler, Sessions, Unsupported, Upgrade,
    config::Config,
    service::UpgradeRequired,
    time::{Settings, limit},
};
use std::{fmt, sync::Arc, time::Duration};
use tower_layer::Layer;

/// Finds upgrade requests, lets handlers decide on them, and starts their sessions.
///
/// Register a handler for each [`protocol`](Self::protocol), one for [any other](Self::any_protocol), and one
/// for [`connect`](Self::connect). What is not an upgrade request passes to the inner service unchanged.
///
/// | the client asks with | for a handler of | it is answered with |
/// |---|---|---|
/// | `Upgrade` on HTTP/1.1 | [`protocol`](Self::protocol), [`any_protocol`](Self::any_protocol) | 101 |
/// | extended CONNECT (`:protocol`) on HTTP/2 or HTTP/3 | [`protocol`](Self::protocol), [`any_protocol`](Self::any_protocol) | 200 |
/// | CONNECT on any version | [`connect`](Self::connect) | 200 |
///
/// # Where to put it
///
/// Several of these layers may be around one another. The inner ones decide, and the *outermost*
/// one commits: it starts the session only if the response that leaves it is still the switch. Put
/// one outermost, as `UpgradeLayer::new()` if it has nothing to decide, so that a layer in between
/// which turns a 101 into a 403 keeps the session from starting. A session cannot see what layers
/// further out do to the response. Nor may such a layer send a clone of an upgrade request, with its
/// extensions, a second time, as a retry or a mirror does: both would wait for the one connection
/// that there is. Inside they may. [The manual](crate::manual::placement) goes through other layers one by one.
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
/// An extended CONNECT is not a GET, and routers look at the method:
///
/// | the layer is | a browser's WebSocket over HTTP/2 |
/// |---|---|
/// | around the router, or on its routes (`.layer(..)`, `.route_layer(..)`) | reaches it |
/// | a leaf at `.route_service(path, leaf)`, or under `any_service(leaf)` | reaches it |
/// | a leaf under `get_service(leaf)` | is answered with 405 |
///
/// In the last case [route CONNECT as well](crate::manual::placement#methods). A plain CONNECT has no path, so no
/// route matches it: the layer that serves it goes [around the whole router](crate::manual::placement#connect).
///
/// # Limits
///
/// What a layer sets holds for all that is decided inside it, unless a layer further in sets its
/// own. [How to choose them](crate::manual::limits#how-to-choose) is in the manual.
///
/// | limit | default | past it |
/// |---|---|---|
/// | [`accept_timeout`](Self::accept_timeout) | 30 s | 504 |
/// | [`body_limit`](Self::body_limit) | 64 KiB | 413, and the connection closes |
/// | [`body_timeout`](Self::body_timeout) | 10 s | 408, and the connection closes |
/// | [`handshake_timeout`](Self::handshake_timeout) | 10 s | the session never starts |
/// | [`idle_timeout`](Self::idle_timeout) | none | the handler is dropped, the connection shut down |
/// | [`lifetime`](Self::lifetime) | none | the session is told to stop, then the same |
/// | [`shutdown_timeout`](Self::shutdown_timeout) | 10 s | the connection is dropped |
/// | [`SessionsBuilder::max`](crate::SessionsBuilder::max), [`max_per_key`](crate::SessionsBuilder::max_per_key) | none | 503 |
#[derive(Clone, Default)]
pub struct UpgradeLayer {
    config: Arc<Config>,
}

impl UpgradeLayer {
    /// A layer that supports nothing yet. Placed outermost it is the gate for what inner layers
    /// decide.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for a protocol: `name`, which takes any version that is offered, or
    /// `name/version`, which takes that one.
    ///
    /// It serves `Upgrade` on HTTP/1.1 (RFC 9110 §7.8), and extended CONNECT on HTTP/2 (RFC 8441) where the server
    /// enables it. hyper has no HTTP/3: a server that has hands over its streams (RFC 9220) with
    /// [`PendingUpgrade`](crate::PendingUpgrade).
    ///
    /// Several handlers for one protocol are asked in the order in which they were added, until
    /// one [wants](ProtocolHandler::wants) the request.
    ///
    /// # Panics
    ///
    /// If `protocol` is not a token, or two with a slash between them.
    #[must_use]
    #[track_caller]
    pub fn protocol<H: ProtocolHandler>(self, protocol: &str, handler: H) -> Self {
        match self.try_protocol(protocol, handler) {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Adds a handler for a protocol whose name is not known to be valid.
    ///
    /// # Errors
    ///
    /// If `protocol` is not a token, or two with a slash between them.
    pub fn try_protocol<H: ProtocolHandler>(
        self,
        protocol: &str,
        handler: H,
    ) -> Result<Self, InvalidProtocol> {
        let protocol = protocol.parse()?;
        Ok(self.with(|config| config.protocols.push((protocol, Arc::new(handler)))))
    }

    /// Adds a handler for whatever protocol is offered, where no handler that was registered for one takes the
    /// request: for a proxy, that does not know what its backends speak.
    ///
    /// The [protocol](crate::UpgradeRequest::protocol) of the request is the client's first one. Which of
    /// [those that it offers](crate::UpgradeRequest::offered) it is in the end the handler says with
    /// [`Accept::protocol`].
    ///
    /// Several handlers are asked in the order in which they were added, until one
    /// [wants](ProtocolHandler::wants) the request. What none of them wants is not
    /// [supported](Self::unsupported): an `Upgrade` goes to the inner service, an extended CONNECT is refused
    /// with 501.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_upgrade::{Accept, ProtocolHandler, Protocol, Rejection, UpgradeLayer, UpgradeRequest, copy};
    ///
    /// /// Echoes, under any name that begins with `echo`.
    /// struct Echoes;
    ///
    /// impl ProtocolHandler for Echoes {
    ///     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    ///         let is_echo = |protocol: &Protocol| protocol.name().starts_with("echo");
    ///         let protocol = request.offered().find(is_echo).ok_or(StatusCode::NOT_FOUND)?;
    ///         let echo = Accept::new(|session| async move {
    ///             let (mut reader, mut writer) = tokio::io::split(session.into_io());
    ///             copy(&mut reader, &mut writer).await?;
    ///             Ok(())
    ///         });
    ///         Ok(echo.protocol(protocol))
    ///     }
    /// }
    ///
    /// let layer = UpgradeLayer::new().any_protocol(Echoes);
    /// ```
    ///
    /// [`Accept::protocol`]: crate::Accept::protocol
    #[must_use]
    pub fn any_protocol<H: ProtocolHandler>(self, handler: H) -> Self {
        self.with(|config| config.any_protocol.push(Arc::new(handler)))
    }

    /// Adds a handler for CONNECT (RFC 9110 §9.3.6), which asks for a tunnel to a host and a port and
    /// names no protocol.
    ///
    /// The target is checked before the handler is asked: it has a host and a port, and nothing else,
    /// or the request is refused with 400. So is a CONNECT with content on HTTP/1: it has none. The
    /// handler finds the target in [`UpgradeRequest::authority`] and [`UpgradeRequest::port`]. Whether a
    /// client may go there is the handler's to decide: without a policy of its own it is an open
    /// proxy.
    ///
    /// An HTTP/1 connection is closed after the refusal of a CONNECT that passes through an
    /// `UpgradeLayer`, whoever inside it refused, and nothing behind it is taken for a request (RFC
    /// 9931): the client may have sent bytes for the tunnel already. For that the outermost layer takes
    /// the connection of each CONNECT on HTTP/1 from the request: what is inside cannot switch it. What
    /// it never sees, because a router or a layer around answers, it cannot close: put one around the
    /// whole stack.
    ///
    /// Several handlers are asked in the order in which they were added, until one
    /// [wants](ProtocolHandler::wants) the request.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tokio::net::TcpStream;
    /// use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest};
    ///
    /// /// Connects to whatever listens on this machine's port 8080.
    /// struct ToBackend;
    ///
    /// impl ProtocolHandler for ToBackend {
    ///     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    ///         let target = request.authority()?;
    ///         if target != "localhost:8080" {
    ///             return Err(Rejection::new(StatusCode::FORBIDDEN, "this target is not allowed"));
    ///         }
    ///         let mut upstream = TcpStream::connect(target.as_str()).await.map_err(|error| {
    ///             Rejection::new(StatusCode::BAD_GATEWAY, "cannot connect").with_source(error)
    ///         })?;
    ///         Ok(Accept::new(|session| async move {
    ///             let mut client = session.into_io();
    ///             tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    ///             Ok(())
    ///         }))
    ///     }
    /// }
    ///
    /// let layer = UpgradeLayer::new().connect(ToBackend);
    /// ```
    ///
    /// [`UpgradeRequest::authority`]: crate::UpgradeRequest::authority
    /// [`UpgradeRequest::port`]: crate::UpgradeRequest::port
    #[must_use]
    pub fn connect<H: ProtocolHandler>(self, handler: H) -> Self {
        self.with(|config| config.connect.push(Arc::new(handler)))
    }

    /// Sets whose order decides between several protocols that are offered and supported. By
    /// default it is the client's.
    #[must_use]
    pub fn preference(self, preference: Preference) -> Self {
        self.with(|config| config.preference = preference)
    }

    /// Sets what becomes of an upgrade request for which this layer has no handler.
    ///
    /// By default an `Upgrade` on HTTP/1.1 [passes](Unsupported::Pass) to the inner service, and a
    /// CONNECT and an extended CONNECT are [refused](Unsupported::Refuse) with 501: no ordinary service
    /// knows what to do with them. What is set here holds for all three.
    ///
    /// A layer around others refuses before those inside are asked: let it pass what they should see,
    /// CONNECT included. The same holds for an upgrader of another crate inside, such as axum's
    /// `WebSocketUpgrade` over HTTP/2. A layer passes on whatever its handlers do not
    /// [want](ProtocolHandler::wants) that were registered for it by name; one without a name refuses no
    /// `Upgrade`, as there is nothing to list; one without any protocol refuses no extended CONNECT either,
    /// and one without any handler no CONNECT.
    #[must_use]
    pub fn unsupported(self, unsupported: Unsupported) -> Self {
        self.with(|config| config.unsupported = Some(unsupported))
    }

    /// Sets how long a handler may take to decide, by default 30 seconds. `None` sets no limit:
    /// then a client that sent early bytes and left can keep `accept` pending indefinitely.
    #[must_use]
    pub fn accept_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.accept_timeout = Some(timeout))
    }

    /// Sets how many bytes of a request's body are read and dropped where the handler left them,
    /// by default 64 KiB.
    ///
    /// A connection can only switch after the whole request (RFC 9110 §7.8).
    #[must_use]
    pub fn body_limit(self, bytes: u64) -> Self {
        self.set(|settings| settings.body_limit = Some(bytes))
    }

    /// Sets how long the rest of a request's body may take to arrive, by default 10 seconds.
    /// `None` sets no limit.
    #[must_use]
    pub fn body_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.body_timeout = Some(timeout))
    }

    /// Sets how long a session waits for its connection once the outermost layer has let its switch out: until
    /// the server has sent it. By default that is 10 seconds. `None` sets no limit. Past it the session never
    /// starts, with the reason [`NeverSwitched`](crate::CloseReason::NeverSwitched).
    ///
    /// How long layers between the handler and the outermost layer take with the response is not in it, nor in the
    /// [`accept_timeout`](Self::accept_timeout): a timeout of their kind, inside of the outermost layer, bounds that.
    #[must_use]
    pub fn handshake_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.handshake_timeout = Some(timeout))
    }

    /// Sets how long a session may go without a byte either way. By default there is no limit.
    ///
    /// Past it the session's handler is dropped, and its connection is shut down. Where the handler has
    /// [taken the connection for itself](crate::Upgraded::into_parts) nobody sees its bytes, and there is
    /// no limit.
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.idle_timeout = Some(timeout))
    }

    /// Sets how long a session may be open. By default there is no limit.
    ///
    /// Past it the session is told to [stop](crate::Session::stop), and its handler is dropped if it has
    /// not ended within the [`shutdown_timeout`](Self::shutdown_timeout).
    #[must_use]
    pub fn lifetime(self, lifetime: impl Into<Option<Duration>>) -> Self {
        let lifetime = limit(lifetime.into());
        self.set(|settings| settings.lifetime = Some(lifetime))
    }

    /// Sets the registry that admits this layer's sessions and knows of them. By default there is none:
    /// then there is no limit, and nobody tells sessions to stop.
    ///
    /// A session is in one registry: that of the innermost layer around its handler that has one. Where an
    /// inner layer sets its own, the outer one knows nothing of the inner one's sessions. The same holds
    /// for [`on_close`](Self::on_close).
    #[must_use]
    pub fn sessions(self, sessions: Sessions) -> Self {
        self.set(|settings| settings.sessions = Some(sessions))
    }

    /// Sets a function that is called with each session that has ended, when its handler is gone and
    /// before its connection is shut down. It must not block. If it panics that is reported, and has
    /// no other effect.
    ///
    /// It is called for each switch that the outermost layer has let out, also if the connection
    /// [never switched](crate::CloseReason::NeverSwitched). It is not called for a request that was refused, nor if a
    /// layer in between made something else of the switch: then there is an event, and what was prepared is dropped.
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

    /// Sets how long the connection may take to flush and shut down at the end of a session, by
    /// default 10 seconds. `None` sets no limit.
    ///
    /// Past it the session is over and its IO is dropped. On HTTP/2 the stream may
    /// [outlive it](crate::manual::stack_below#a-stream-outlives-its-session).
    #[must_use]
    pub fn shutdown_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.set(|settings| settings.shutdown_timeout = Some(timeout))
    }

    /// This layer as a service of its own, for a route that serves upgrades and nothing else.
    ///
    /// All other requests are refused: see [`UpgradeRequired`].
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
    /// If the layer has no handler.
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
