//! The server side: a protocol handler for `websocket`.

use super::{
    Error, ErrorKind, WebSocket,
    codec::Codec,
    handshake,
    keep_alive::{KeepAlive, Silent},
    origin::{Origin, Policy, Refused},
    rate_limit::RateLimit,
    reader::Limits,
    socket::Shared,
};
use crate::{
    error::{BoxError, BoxFuture},
    handler::{Accept, ProtocolHandler, request::UpgradeRequest},
    message::rejection::{Rejection, not_implemented},
    negotiate::{self, kind::UpgradeKind, websocket_key},
    panic::{CatchPanic, Panic},
    session::{Session, state::State},
    time::{Timer, after},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tungstenite::protocol::Role;

/// Creates a handler for the `websocket` protocol, over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441).
///
/// Register the handler with [`UpgradeLayer::protocol`](crate::UpgradeLayer::protocol) under the name `websocket`. The
/// handler rejects requests for any other protocol with 501.
///
/// ```
/// use tower_upgrade::{
///     Session, UpgradeLayer,
///     websocket::{Message, WebSocket, websocket},
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
/// let layer = UpgradeLayer::new().protocol("websocket", echo.subprotocols(["echo"]));
/// ```
///
/// The `Session` argument has everything but the IO, which the `WebSocket` owns. The session keeps the
/// [extensions](Session::extensions) of the request, and the memory of the values that middleware put into them, until
/// it is dropped.
pub fn websocket<F, Fut>(handler: F) -> WebSocketUpgrade<F>
where
    F: Fn(WebSocket, Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    WebSocketUpgrade {
        handler: Arc::new(handler),
        options: Options::default(),
    }
}

/// Checks the opening handshake of a WebSocket and runs the session: the handler that [`websocket`] returns.
///
/// # What is checked
///
/// | requirement | otherwise rejected with |
/// |---|---|
/// | the method is GET (HTTP/1.1) | 405 and `Allow: GET` |
/// | `Sec-WebSocket-Version` is 13 | 426 (HTTP/1.1) or 400 (HTTP/2), and `Sec-WebSocket-Version: 13` |
/// | `Sec-WebSocket-Key` is 16 bytes in base64, once (HTTP/1.1) | 400 |
/// | `Origin`, if present, is allowed: [`origins`](Self::origins) | 403 |
/// | `Sec-WebSocket-Protocol` is a list of tokens | 400 |
///
/// # Decide more
///
/// A `WebSocketUpgrade` created with [`new`](Self::new) only checks the handshake, and your own handler makes
/// the other decisions:
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
    options: Options,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    subprotocols: Arc<[HeaderValue]>,
    server_decides: bool,
    origins: Policy,
    pub(super) limits: Limits,
    pub(super) keep_alive: Option<Duration>,
    rate_limit: Option<RateLimit>,
}

impl WebSocketUpgrade {
    /// Creates a `WebSocketUpgrade` that checks requests for your own `ProtocolHandler`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            handler: Arc::new(()),
            options: Options::default(),
        }
    }
}

impl Default for WebSocketUpgrade {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> WebSocketUpgrade<F> {
    /// Sets the supported subprotocols, in order of preference. By default no subprotocol is supported.
    ///
    /// The handler chooses the first supported subprotocol in the client's order. If the client offers no supported
    /// subprotocol, the handshake succeeds without one.
    ///
    /// # Panics
    ///
    /// If a subprotocol is not a token (RFC 6455 §4.1).
    #[must_use]
    #[track_caller]
    pub fn subprotocols<I>(mut self, subprotocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.options.subprotocols = handshake::subprotocol_values(subprotocols).collect();
        self
    }

    /// Chooses the subprotocol by the server's order of preference instead of the client's.
    #[must_use]
    pub fn prefer_own_subprotocols(mut self) -> Self {
        self.options.server_decides = true;
        self
    }

    /// Sets the origins whose pages may open a WebSocket, such as `https://example.com`. All other origins are
    /// rejected.
    ///
    /// By default an origin is allowed if its host and port equal those of the request, and its scheme if the request
    /// has one, as over HTTP/2. A request without `Origin` does not come from a page, and is always allowed.
    ///
    /// Set the origins explicitly on a server
    ///
    /// - behind a proxy that changes `Host` or the scheme;
    /// - with TLS, where by default an `http` page may open a WebSocket over HTTP/1.1;
    /// - that trusts every client that can reach it ([the
    ///   manual](crate::manual::threats#cross-site-websocket-hijacking) explains why).
    ///
    /// The check matters because a browser sends the user's cookies with a request from any page (RFC 6455 §10.2).
    ///
    /// # Panics
    ///
    /// If an origin is not `scheme://host` or `scheme://host:port`.
    #[must_use]
    #[track_caller]
    pub fn origins<I>(mut self, origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let parse = |origin: I::Item| match Origin::parse(origin.as_ref()) {
            Some(origin) => origin,
            None => panic!("{:?} is no origin: expected scheme://host", origin.as_ref()),
        };
        self.options.origins = Policy::List(origins.into_iter().map(parse).collect());
        self
    }

    /// Allows pages of any origin, including `null`, to open a WebSocket.
    ///
    /// Use this only for a public service that does not identify clients by a cookie or an address.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.options.origins = Policy::Any;
        self
    }

    /// Sets the longest message that a client may send, in bytes, in one frame or several. The default is 1 MiB.
    ///
    /// A longer message ends the session with 1009 (RFC 6455 §7.4.1) as soon as the header of the frame that exceeds
    /// the limit has arrived, before the frame is read. The session allocates memory for a whole frame when the header
    /// of the frame has arrived, so choose a limit that the machine can afford for each session.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.options.limits.message = bytes;
        self
    }

    /// Limits the rate at which a client may send messages: see [`RateLimit`]. By default the rate is not limited.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.options.rate_limit = Some(limit);
        self
    }

    /// Pings a client that has been silent for `interval`, and ends the session with the close reason
    /// [`Idle`](crate::CloseReason::Idle) if the client stays silent for another `interval`. By default the session
    /// sends no pings.
    ///
    /// The session sends and checks the pings while its handler waits for anything else. A client is silent if
    ///
    /// - the session has sent a ping, and nothing arrived for an interval; or
    /// - a [`send`](WebSocket::send) is blocked, and the client read none of its bytes for an interval. A client that
    ///   reads slowly keeps its session.
    ///
    /// Then sending and receiving fail with kind [`Idle`](super::ErrorKind::Idle) in all tasks, and the session aborts
    /// the handler if it has not ended after [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout). Detection
    /// takes up to three intervals after the last sign of life from the client.
    ///
    /// If the handler does not receive, the session reads on its behalf: the session answers pings, and keeps one
    /// message for the next [`recv`](WebSocket::recv). While that message waits, the session reads nothing more, and
    /// the client does not count as silent unless a write is blocked.
    ///
    /// # Panics
    ///
    /// If `interval` is zero.
    #[must_use]
    #[track_caller]
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "the interval of pings is zero");
        self.options.keep_alive = Some(interval);
        self
    }

    /// Checks only the `Origin` of a request against the allowed [`origins`](Self::origins).
    ///
    /// The request need not be an opening handshake.
    ///
    /// # Errors
    ///
    /// Returns a rejection with 403 if the origin is not allowed.
    pub fn check_origin(&self, parts: &Parts) -> Result<(), Rejection> {
        let authority = negotiate::authority(parts);
        let origins = &self.options.origins;
        let checked = origins.check(&parts.headers, &parts.uri, authority.as_ref());
        checked.map_err(|refused| {
            let message = match refused {
                Refused::Opaque => "the page has no origin that can be trusted",
                Refused::CrossOrigin => "pages of this origin may not open a WebSocket here",
            };
            Rejection::new(StatusCode::FORBIDDEN, message)
        })
    }

    /// Returns the subprotocol for the response to a request with these headers.
    #[cfg(feature = "axum")]
    pub(crate) fn choose(&self, headers: &HeaderMap) -> Option<&str> {
        let offered = handshake::subprotocols(headers)?;
        self.options.choose(&offered)?.to_str().ok()
    }

    /// Checks the opening handshake (RFC 6455 §4.2, RFC 8441 §5).
    ///
    /// The caller ensures that the [protocol](UpgradeRequest::protocol) of the request is `websocket`: this method does
    /// not check the protocol.
    ///
    /// # Errors
    ///
    /// Returns a rejection if the handshake fails a check [above](Self#what-is-checked).
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
        let mut added = HeaderMap::new();
        if kind == UpgradeKind::Upgrade && parts.method != Method::GET {
            let allow = HeaderValue::from_static("GET");
            return Err(Rejection::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "a WebSocket is asked for with GET",
            )
            .header(header::ALLOW, allow));
        }
        if !handshake::is_version_13(headers) {
            return Err(unsupported_version(kind));
        }
        if kind == UpgradeKind::Upgrade {
            let key = websocket_key::key(headers).ok_or_else(|| {
                bad_request("Sec-WebSocket-Key is not one key of 16 bytes in base64")
            })?;
            added.insert(header::SEC_WEBSOCKET_ACCEPT, websocket_key::accept(key));
        }
        self.check_origin(parts)?;
        let offered = handshake::subprotocols(headers)
            .ok_or_else(|| bad_request("Sec-WebSocket-Protocol is no list of tokens"))?;
        let subprotocol = self.options.choose(&offered).cloned();
        if let Some(subprotocol) = &subprotocol {
            added.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
        }
        Ok(Handshake {
            headers: added,
            subprotocol,
            options: self.options.clone(),
        })
    }
}

impl Options {
    fn choose(&self, offered: &[&str]) -> Option<&HeaderValue> {
        let spoken = |name: &str| self.subprotocols.iter().find(|spoken| *spoken == name);
        if self.server_decides {
            let is_offered = |spoken: &&HeaderValue| offered.iter().any(|name| *spoken == name);
            self.subprotocols.iter().find(is_offered)
        } else {
            offered.iter().find_map(|name| spoken(name))
        }
    }
}

fn bad_request(message: &'static str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, message)
}

fn unsupported_version(kind: UpgradeKind) -> Rejection {
    let message = "the version of WebSocket is 13";
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
#[must_use = "a handshake is accepted by returning what it makes from `accept`"]
pub struct Handshake {
    headers: HeaderMap,
    subprotocol: Option<HeaderValue>,
    options: Options,
}

impl Handshake {
    /// Returns the chosen subprotocol, or `None` if the handshake has none.
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
            headers,
            subprotocol,
            options,
        } = self;
        let mut accept = Accept::new(move |session| run(session, subprotocol, &options, handler));
        accept.headers = headers;
        accept
    }

    /// Accepts the handshake, and runs the session with `handler` on the byte stream: with [frames of another
    /// library](super#other-frames). The upgrade response is the same as that of `accept`.
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

/// Runs a session handler, and closes its WebSocket afterwards.
///
/// Not an `async fn`, whose future would keep its arguments, including the session, beside the handler's future for as
/// long as the session runs.
fn run<F, Fut>(
    mut session: Session,
    subprotocol: Option<HeaderValue>,
    options: &Options,
    handler: F,
) -> Running<Fut>
where
    F: FnOnce(WebSocket, Session) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    let state = Arc::clone(session.state());
    let codec = Codec::new(session.take_io(), Role::Server, options.limits);
    let shared = Arc::new(Shared::new(codec, session.shutdown_timeout()));
    let socket = WebSocket::of_session(
        &session,
        Arc::clone(&shared),
        options.rate_limit,
        subprotocol,
    );
    let watch = options.keep_alive.map(|interval| {
        shared.watch();
        Box::new(Watch::new(interval, session.shutdown_timeout()))
    });
    Running {
        handler: CatchPanic::new(|| handler(socket, session)),
        watch,
        end: Some(End { state, shared }),
        closing: None,
    }
}

pin_project! {
    /// Polls the session handler and the keep-alive of its WebSocket, and then closes the WebSocket.
    struct Running<Fut> {
        #[pin]
        handler: CatchPanic<Fut>,
        watch: Option<Box<Watch>>,
        end: Option<End>,
        closing: Option<BoxFuture<Result<(), BoxError>>>,
    }
}

impl<Fut> Future for Running<Fut>
where
    Fut: Future<Output = Result<(), BoxError>>,
{
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(end) = this.end {
            let ended = match (this.handler.poll(cx), &mut *this.watch) {
                (Poll::Pending, Some(watch)) => {
                    let error = ready!(watch.poll(cx, &end.shared, &end.state));
                    Ok(Err(error))
                }
                (polled, _) => ready!(polled),
            };
            *this.watch = None;
            *this.closing = this
                .end
                .take()
                .map(|end| -> BoxFuture<_> { Box::pin(end.close(ended)) });
        }
        match this.closing {
            Some(closing) => closing.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// The state for closing the WebSocket after the handler has ended.
struct End {
    state: Arc<State>,
    shared: Arc<Shared>,
}

impl End {
    async fn close(self, ended: Result<Result<(), BoxError>, Panic>) -> Result<(), BoxError> {
        let Self { state, shared } = self;
        let code = match &ended {
            Err(_) => 1011,
            _ if state.is_stopping() => 1001,
            Ok(Ok(())) => 1000,
            Ok(Err(_)) => 1011,
        };
        let is_peers = |error: &BoxError| error.downcast_ref().is_some_and(Error::is_peers);
        if matches!(&ended, Ok(Err(error)) if is_peers(error)) && shared.has_failed() {
            state.blame_peer();
        }
        // `shutdown_timeout` bounds the close. The idle timeout would replace the handler's close reason.
        state.ignore_idleness();
        shared.close(&state, code).await;
        match ended {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(Err(error)) if is_in_order(&error, state.is_stopping()) => Ok(()),
            Ok(ended) => ended,
        }
    }
}

/// Ends a session whose peer is silent.
struct Watch {
    keep_alive: KeepAlive,
    /// The time limit for the handler to end after the peer is found silent.
    grace: Duration,
    aborts: Timer,
}

impl Watch {
    fn new(interval: Duration, grace: Duration) -> Self {
        Self {
            keep_alive: KeepAlive::new(interval),
            grace,
            aborts: Timer::default(),
        }
    }

    /// Completes when the peer is silent and the handler has not ended within the grace period.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared, state: &State) -> Poll<BoxError> {
        if !self.aborts.is_armed() {
            let Silent = ready!(self.keep_alive.poll(cx, shared));
            state.set_idle();
            shared.end_idle();
            // `end_idle` wakes the handler if it is sending or receiving.
            self.aborts.arm(after(self.grace));
        }
        self.aborts.poll(cx).map(|()| Error::idle().into())
    }
}

/// Returns whether a handler error is part of an orderly close: the handler tried to send after a close frame was sent
/// or received, or the peer did not answer the close frame sent at the stop signal.
fn is_in_order(error: &BoxError, is_stopping: bool) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| {
        error.kind() == ErrorKind::Closed || is_stopping && error.is_unanswered()
    })
}

impl<F, Fut> ProtocolHandler for WebSocketUpgrade<F>
where
    F: Fn(WebSocket, Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let protocol = request.protocol();
        if !protocol.is_some_and(|protocol| protocol.name().eq_ignore_ascii_case("websocket")) {
            return Err(not_implemented("only WebSocket is spoken here"));
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
            options: self.options.clone(),
        }
    }
}

impl<F> fmt::Debug for WebSocketUpgrade<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}
