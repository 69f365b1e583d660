//! The WebSocket extractor, with the features of axum's `WebSocketUpgrade`.

use super::{UpgradeRequest, upgrade::kind};
use crate::{
    error::BoxError,
    message::rejection::Rejection,
    negotiate::{self, kind::UpgradeKind, protocol::Protocol},
    panic,
    session::{Identity, Session},
    trace,
    websocket::{WebSocket, WebSocketConfig, WebSocketUpgrade as Handler, handshake},
};
use axum::{
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use std::{fmt, time::Duration};

/// Extracts a WebSocket opening handshake, which the route accepts or rejects.
///
/// The extractor makes the [checks](crate::websocket::WebSocketUpgrade#checks) of a `websocket` handler except the
/// check of the origin: [`on_upgrade`](Self::on_upgrade) checks the origin against the [`config`](Self::config) of the
/// route. The extractor also reads and discards the request body.
#[must_use = "the connection is upgraded only if the response of `on_upgrade` is returned"]
pub struct WebSocketUpgrade {
    request: UpgradeRequest,
    handler: Handler,
    on_failed: Option<Box<dyn FnOnce() + Send>>,
    identity: Option<Identity>,
    lifetime: Option<Duration>,
}

impl WebSocketUpgrade {
    /// Sets the settings of the handshake and of the WebSocket. The default is [`WebSocketConfig::new`].
    ///
    /// Routes can share one configuration as their state:
    ///
    /// ```
    /// use axum::{Router, extract::State, response::Response, routing::any};
    /// use tower_upgrade::{UpgradeLayer, extract::WebSocketUpgrade, websocket::WebSocketConfig};
    ///
    /// async fn chat(State(config): State<WebSocketConfig>, upgrade: WebSocketUpgrade) -> Response {
    ///     upgrade.config(config).on_upgrade(|mut socket| async move {
    ///         socket.send("hello").await?;
    ///         Ok(())
    ///     })
    /// }
    ///
    /// let config = WebSocketConfig::new().origins(["https://example.com"]);
    /// let app: Router = Router::new()
    ///     .route("/chat", any(chat))
    ///     .layer(UpgradeLayer::new())
    ///     .with_state(config);
    /// ```
    pub fn config(mut self, config: WebSocketConfig) -> Self {
        self.handler = self.handler.config(config);
        self
    }

    /// Returns the subprotocols that the client offers, in the client's order.
    pub fn requested_protocols(&self) -> impl Iterator<Item = &str> {
        handshake::subprotocols(self.request.headers())
            .into_iter()
            .flatten()
    }

    /// Returns the chosen subprotocol, or `None` if the client offers no [supported](WebSocketConfig::subprotocols)
    /// subprotocol.
    #[must_use]
    pub fn selected_protocol(&self) -> Option<&str> {
        self.handler.choose(self.request.headers())
    }

    /// Sets the identity of the session: see [`Accept::identity`](crate::Accept::identity).
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Ends the session when `lifetime` has passed since its upgrade response: see
    /// [`Accept::lifetime`](crate::Accept::lifetime).
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Sets a callback that runs if the session does not start, because the client has disconnected or middleware has
    /// replaced the upgrade response.
    ///
    /// The callback does not run if [`on_upgrade`](Self::on_upgrade) rejects the request.
    pub fn on_failed_upgrade<C>(mut self, callback: C) -> Self
    where
        C: FnOnce() + Send + 'static,
    {
        self.on_failed = Some(Box::new(callback));
        self
    }

    /// Accepts the upgrade and runs `callback` with the WebSocket, or rejects the request with 403 if the origin is not
    /// allowed.
    pub fn on_upgrade<C, Fut>(self, callback: C) -> Response
    where
        C: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.on_session(move |socket, _session| callback(socket))
    }

    /// Like [`on_upgrade`](Self::on_upgrade), with a callback that also takes the [session](Session), without its IO.
    pub fn on_session<C, Fut>(mut self, callback: C) -> Response
    where
        C: FnOnce(WebSocket, Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let handshake = match self.handler.check(&mut self.request) {
            Ok(handshake) => handshake,
            Err(rejection) => return IntoResponse::into_response(rejection),
        };
        let failing = Failing(self.on_failed.take());
        let mut accept = handshake.accept(move |socket, session| {
            failing.has_started();
            callback(socket, session)
        });
        if let Some(identity) = self.identity.take() {
            accept = accept.identity(identity);
        }
        if let Some(lifetime) = self.lifetime {
            accept = accept.lifetime(lifetime);
        }
        self.request.accept_as(&websocket(), accept)
    }
}

fn websocket() -> Protocol {
    "websocket".parse().expect("a token")
}

/// Returns whether a request asks for a WebSocket.
///
/// An `Upgrade` to other protocols does not count: a server may ignore `Upgrade` (RFC 9110 §7.8), and some clients
/// offer HTTP/2 with each first request. A CONNECT must not be ignored: any successful response would be the upgrade
/// response.
pub(super) fn asks_for_websocket(request: &Request) -> bool {
    let websocket = websocket();
    match kind(request) {
        Some(UpgradeKind::Upgrade) => {
            negotiate::http1::offered(request.headers()).any(|member| websocket.takes(member))
        }
        Some(_) => true,
        None => false,
    }
}

/// Runs the `on_failed_upgrade` callback if dropped before the session has started.
struct Failing(Option<Box<dyn FnOnce() + Send>>);

impl Failing {
    fn has_started(mut self) {
        self.0 = None;
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            // The user's callback may panic, and a second panic during unwinding would abort the process.
            if let Err(panic) = panic::catch(callback) {
                trace::on_failed_upgrade_panicked(&panic::message(&*panic));
            }
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for WebSocketUpgrade {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        let mut request = <UpgradeRequest as FromRequest<S>>::from_request(request, state).await?;
        if !request.offered().any(|protocol| protocol == "websocket") {
            return Err(request.unsupported(&websocket()));
        }
        // Not the origin: the route configures the allowed origins.
        let _handshake = Handler::new()
            .config(WebSocketConfig::new().any_origin())
            .check(&mut request)?;
        request.discard_body().await?;
        Ok(Self {
            request,
            handler: Handler::new(),
            on_failed: None,
            identity: None,
            lifetime: None,
        })
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("request", &self.request)
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}
