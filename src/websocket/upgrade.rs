//! The server side: a protocol handler for `websocket`.

use super::{
    WebSocket, WebSocketConfig, deflate::Compression, handshake, origin::Refused, running::run,
};
use crate::{
    error::BoxError,
    handler::{Accept, ProtocolHandler, request::UpgradeRequest},
    message::rejection::{Rejection, not_implemented},
    negotiate::{self, kind::UpgradeKind, protocol::Protocol, websocket_key},
    session::Session,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use std::{fmt, sync::Arc};

/// Creates a handler for the `websocket` protocol, over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441).
///
/// Register the handler with [`UpgradeLayer::protocol`](crate::UpgradeLayer::protocol) under the name `websocket`. The
/// handler rejects requests for any other protocol with 501.
///
/// ```
/// use tower_upgrade::{
///     Session, UpgradeLayer,
///     websocket::{Message, WebSocket, WebSocketConfig, websocket},
/// };
///
/// let echo = websocket(|mut socket: WebSocket, _session: Session| async move {
///     while let Some(message) = socket.recv().await {
///         if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
///             socket.send(message).await?;
///         }
///     }
///     Ok(())
/// });
/// let echo = echo.config(WebSocketConfig::new().subprotocols(["echo"]));
/// let layer = UpgradeLayer::new().protocol("websocket", echo);
/// ```
///
/// The `WebSocket` owns the IO, so the `Session` argument comes without it. Drop the `Session` early: it keeps the
/// request's [extensions](Session::extensions) in memory, with all values that middleware put into them.
pub fn websocket<F, Fut>(handler: F) -> WebSocketUpgrade<F>
where
    F: Fn(WebSocket, Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    WebSocketUpgrade {
        handler: Arc::new(handler),
        config: WebSocketConfig::new(),
    }
}

/// A protocol handler that checks the opening handshake of a WebSocket and runs the session, created by [`websocket`].
///
/// # Checks
///
/// | requirement | status of the rejection |
/// |---|---|
/// | the method is GET (HTTP/1.1) | 405 and `Allow: GET` |
/// | `Sec-WebSocket-Version` is 13 | 426 (HTTP/1.1) or 400 (HTTP/2), and `Sec-WebSocket-Version: 13` |
/// | `Sec-WebSocket-Key` is 16 bytes in base64, once (HTTP/1.1) | 400 |
/// | `Origin`, if present, is allowed: [`origins`](WebSocketConfig::origins) | 403 |
/// | `Sec-WebSocket-Protocol` is a list of tokens | 400 |
///
/// # In your own handler
///
/// A `WebSocketUpgrade` created with [`new`](Self::new) only checks the handshake. Your own [`ProtocolHandler`] calls
/// [`check`](Self::check) and makes the other decisions:
///
/// ```
/// use http::StatusCode;
/// use tower_upgrade::{
///     Accept, ProtocolHandler, Rejection, UpgradeRequest, websocket::WebSocketUpgrade,
/// };
/// # fn room(_: &str) -> Option<String> { None }
///
/// struct Rooms {
///     upgrade: WebSocketUpgrade,
/// }
///
/// impl ProtocolHandler for Rooms {
///     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
///         let handshake = self.upgrade.check(request)?;
///         let room = room(request.uri().path()).ok_or(StatusCode::NOT_FOUND)?;
///         Ok(handshake.accept(|mut socket, _session| async move {
///             socket.send(format!("welcome to {room}")).await?;
///             Ok(())
///         }))
///     }
/// }
/// ```
pub struct WebSocketUpgrade<F = ()> {
    handler: Arc<F>,
    config: WebSocketConfig,
}

impl WebSocketUpgrade {
    /// Creates a `WebSocketUpgrade` that checks handshakes for your own `ProtocolHandler`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            handler: Arc::new(()),
            config: WebSocketConfig::new(),
        }
    }
}

impl Default for WebSocketUpgrade {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> WebSocketUpgrade<F> {
    /// Sets the settings of the handshake and of the WebSocket. The default is [`WebSocketConfig::new`].
    #[must_use]
    pub fn config(mut self, config: WebSocketConfig) -> Self {
        self.config = config;
        self
    }

    /// Checks only the `Origin` of a request, against the allowed [`origins`](WebSocketConfig::origins).
    ///
    /// The request need not ask for a WebSocket: it can be one for an admin page, for example.
    ///
    /// # Errors
    ///
    /// Returns a rejection with 403 if the origin is not allowed.
    pub fn check_origin(&self, parts: &Parts) -> Result<(), Rejection> {
        let authority = negotiate::authority(parts);
        let origins = &self.config.origins;
        let checked = origins.check(&parts.headers, &parts.uri, authority.as_ref());
        checked.map_err(|refused| {
            let message = match refused {
                Refused::Opaque => "the Origin header is null or invalid",
                Refused::CrossOrigin => "pages of this origin are not allowed",
            };
            Rejection::new(StatusCode::FORBIDDEN, message)
        })
    }

    /// Returns the subprotocol for the response to a request with these headers.
    #[cfg(feature = "axum")]
    pub(crate) fn choose(&self, headers: &HeaderMap) -> Option<&str> {
        let offered = handshake::subprotocols(headers)?;
        self.config.choose(&offered)?.to_str().ok()
    }

    /// Checks the opening handshake (RFC 6455 §4.2, RFC 8441 §5).
    ///
    /// The caller checks that the [protocol](UpgradeRequest::protocol) of the request is `websocket`.
    ///
    /// # Errors
    ///
    /// Returns the rejection of the [check](Self#checks) that fails.
    pub fn check(&self, request: &mut UpgradeRequest) -> Result<Handshake, Rejection> {
        let kind = request.kind();
        let parts = request.parts_mut();
        // Some clients send a secret as a subprotocol, because they can set no other header.
        for (name, value) in &mut parts.headers {
            if name == header::SEC_WEBSOCKET_PROTOCOL {
                value.set_sensitive(true);
            }
        }
        let headers = &parts.headers;
        let mut response_headers = HeaderMap::new();
        if kind == UpgradeKind::Upgrade && parts.method != Method::GET {
            let allow = HeaderValue::from_static("GET");
            return Err(Rejection::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "a WebSocket request over HTTP/1.1 requires the method GET",
            )
            .header(header::ALLOW, allow));
        }
        if !handshake::is_version_13(headers) {
            return Err(unsupported_version(kind));
        }
        if kind == UpgradeKind::Upgrade {
            let key = websocket_key::key(headers).ok_or_else(|| {
                bad_request("Sec-WebSocket-Key must appear once, with 16 bytes in base64")
            })?;
            response_headers.insert(header::SEC_WEBSOCKET_ACCEPT, websocket_key::accept(key));
        }
        self.check_origin(parts)?;
        let offered = handshake::subprotocols(headers)
            .ok_or_else(|| bad_request("Sec-WebSocket-Protocol is not a list of tokens"))?;
        let mut subprotocol = self.config.choose(&offered).cloned();
        if let Some(subprotocol) = &mut subprotocol {
            // A name that the server supports is not a secret.
            subprotocol.set_sensitive(false);
            response_headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
        }
        let compression = self
            .config
            .deflate
            .and_then(|deflate| deflate.accept(headers));
        Ok(Handshake {
            headers: response_headers,
            subprotocol,
            compression,
            config: self.config.clone(),
        })
    }
}

fn bad_request(message: &'static str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, message)
}

fn unsupported_version(kind: UpgradeKind) -> Rejection {
    let message = "only version 13 of WebSocket is supported";
    let rejection = match kind {
        UpgradeKind::Upgrade => Rejection::new(StatusCode::UPGRADE_REQUIRED, message)
            .header(header::UPGRADE, HeaderValue::from_static("websocket"))
            .header(header::CONNECTION, HeaderValue::from_static("upgrade")),
        UpgradeKind::Connect | UpgradeKind::ExtendedConnect => bad_request(message),
    };
    let version = HeaderValue::from_static(handshake::VERSION);
    rejection.header(header::SEC_WEBSOCKET_VERSION, version)
}

/// A valid opening handshake, returned by [`WebSocketUpgrade::check`].
#[must_use = "the handshake is accepted only if the handler returns the `Accept`"]
pub struct Handshake {
    headers: HeaderMap,
    subprotocol: Option<HeaderValue>,
    /// The value of `Sec-WebSocket-Extensions` in the answer, and the compression that it stands for.
    compression: Option<(HeaderValue, Compression)>,
    config: WebSocketConfig,
}

impl Handshake {
    /// Returns the chosen subprotocol, if any.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_ref()?.to_str().ok()
    }

    /// Accepts the handshake, and runs the session with `handler`.
    pub fn accept<F, Fut>(self, handler: F) -> Accept
    where
        F: FnOnce(WebSocket, Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let Self {
            mut headers,
            subprotocol,
            compression,
            config,
        } = self;
        let compression = compression.map(|(answer, compression)| {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, answer);
            compression
        });
        let mut accept =
            Accept::new(move |session| run(session, subprotocol, compression, &config, handler));
        accept.headers = headers;
        accept
    }

    /// Accepts the handshake, and runs the session with `handler` on the byte stream, for the [frames of another
    /// library](super#frames-of-another-library). The upgrade response is the same as that of [`accept`](Self::accept),
    /// but never agrees on compression.
    pub fn accept_raw<F, Fut>(self, handler: F) -> Accept
    where
        F: FnOnce(Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let mut accept = Accept::new(handler);
        accept.headers = self.headers;
        accept
    }
}

impl<F, Fut> ProtocolHandler for WebSocketUpgrade<F>
where
    F: Fn(WebSocket, Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        if !request.protocol().is_some_and(Protocol::is_websocket) {
            return Err(not_implemented("only WebSocket is supported here"));
        }
        let handshake = self.check(request)?;
        let handler = Arc::clone(&self.handler);
        Ok(handshake.accept(move |socket, session| handler(socket, session)))
    }
}

impl<F> Clone for WebSocketUpgrade<F> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            config: self.config.clone(),
        }
    }
}

impl<F> fmt::Debug for WebSocketUpgrade<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}
