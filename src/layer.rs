//! The layer: what is registered, and how it is set up.

use crate::{
    InvalidProtocol, Preference, Protocol, ProtocolHandler, Unsupported, Upgrade,
    handler::ErasedHandler,
    service::UpgradeRequired,
    time::{Settings, limit},
};
use std::{fmt, sync::Arc, time::Duration};
use tower_layer::Layer;

/// Finds upgrade requests, lets handlers decide on them, and starts their sessions.
///
/// Register a handler for each protocol. All other requests pass to the inner service unchanged, and
/// so does, by default, an upgrade request that offers nothing supported.
///
/// # Where to put it
///
/// Several of these layers may be around one another. The inner ones decide, and the *outermost*
/// one commits: it starts the session only if the response that leaves it is still the switch. Put
/// one outermost, as `UpgradeLayer::new()` if it has nothing to decide, so that a layer in between
/// which turns a 101 into a 403 keeps the session from starting. A session cannot see what layers
/// further out do to the response. Nor may such a layer send a clone of an upgrade request, with its
/// extensions, a second time, as a retry or a mirror does: both would wait for the one connection
/// that there is. Inside they may.
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
/// # Limits
///
/// What the outermost layer sets holds for all that is decided inside it, unless an inner layer
/// sets its own.
///
/// | limit | default | past it |
/// |---|---|---|
/// | [`accept_timeout`](Self::accept_timeout) | 30 s | 504 |
/// | [`body_limit`](Self::body_limit) | 64 KiB | 413, and the connection closes |
/// | [`body_timeout`](Self::body_timeout) | 10 s | 408, and the connection closes |
/// | [`handshake_timeout`](Self::handshake_timeout) | 10 s | the session never starts |
/// | [`shutdown_timeout`](Self::shutdown_timeout) | 10 s | the connection is dropped |
#[derive(Clone, Default)]
pub struct UpgradeLayer {
    config: Arc<Config>,
}

#[derive(Clone, Default)]
pub(crate) struct Config {
    pub(crate) protocols: Vec<(Protocol, Arc<dyn ErasedHandler>)>,
    pub(crate) preference: Preference,
    pub(crate) unsupported: Unsupported,
    pub(crate) settings: Settings,
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

    /// Sets whose order decides between several protocols that are offered and supported. By
    /// default it is the client's.
    #[must_use]
    pub fn preference(self, preference: Preference) -> Self {
        self.with(|config| config.preference = preference)
    }

    /// Sets what becomes of upgrade requests that offer nothing supported. By default they
    /// [pass](Unsupported::Pass) to the inner service.
    ///
    /// A layer around others refuses before those inside are asked; one that supports nothing at all
    /// passes every request on. A request whose protocol is supported passes as well if its handler
    /// does not [want](ProtocolHandler::wants) it.
    #[must_use]
    pub fn unsupported(self, unsupported: Unsupported) -> Self {
        self.with(|config| config.unsupported = unsupported)
    }

    /// Sets how long a handler may take to decide, by default 30 seconds. `None` sets no limit:
    /// then a client that sent early bytes and left can keep `accept` pending indefinitely.
    #[must_use]
    pub fn accept_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.with(|config| config.settings.accept_timeout = Some(timeout))
    }

    /// Sets how many bytes of a request's body are read and dropped where the handler left them,
    /// by default 64 KiB.
    ///
    /// A connection can only switch after the whole request (RFC 9110 §7.8).
    #[must_use]
    pub fn body_limit(self, bytes: u64) -> Self {
        self.with(|config| config.settings.body_limit = Some(bytes))
    }

    /// Sets how long the rest of a request's body may take to arrive, by default 10 seconds.
    /// `None` sets no limit.
    #[must_use]
    pub fn body_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.with(|config| config.settings.body_timeout = Some(timeout))
    }

    /// Sets how long an accepted session waits for its switch to be sent, by default 10 seconds.
    /// `None` sets no limit.
    #[must_use]
    pub fn handshake_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.with(|config| config.settings.handshake_timeout = Some(timeout))
    }

    /// Sets how long the connection may take to flush and shut down at the end of a session, by
    /// default 10 seconds. `None` sets no limit.
    #[must_use]
    pub fn shutdown_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = limit(timeout.into());
        self.with(|config| config.settings.shutdown_timeout = Some(timeout))
    }

    /// This layer as a service of its own, for a route that serves upgrades and nothing else.
    ///
    /// All other requests are refused with 426 and a list of what is supported.
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
    /// If the layer has no protocol.
    #[must_use]
    #[track_caller]
    pub fn into_service(self) -> Upgrade<UpgradeRequired> {
        assert!(
            !self.config.protocols.is_empty(),
            "a service of upgrades needs a protocol"
        );
        let leaf = UpgradeRequired::new(&self.config);
        self.unsupported(Unsupported::Refuse).layer(leaf)
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

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocols: Vec<_> = self
            .protocols
            .iter()
            .map(|(protocol, _)| protocol)
            .collect();
        f.debug_struct("UpgradeLayer")
            .field("protocols", &protocols)
            .field("preference", &self.preference)
            .field("unsupported", &self.unsupported)
            .field("settings", &self.settings)
            .finish()
    }
}
