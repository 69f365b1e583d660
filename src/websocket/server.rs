//! The server's side: a handler for `websocket`.

use super::{
    Error, ErrorKind, WebSocket,
    caught::{Caught, Panic},
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
    session::{Session, after, state::State},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use pin_project_lite::pin_project;
use std::{
    fmt, panic,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep_until};
use tungstenite::protocol::Role;

/// A handler for `websocket`, over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441): register it with
/// [`UpgradeLayer::protocol`](crate::UpgradeLayer::protocol) under that name. Where it is registered for anything
/// else it refuses with 501.
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
/// The session that comes with the socket has everything but the IO. It keeps the
/// [extensions](Session::extensions) of the request, which cost what middleware put into them.
pub fn websocket<F, Fut>(speak: F) -> WebSocketUpgrade<F>
where
    F: Fn(WebSocket, Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    WebSocketUpgrade {
        speak: Arc::new(speak),
        options: Options::default(),
    }
}

/// What [`websocket`] makes: checks the opening handshake, and speaks.
///
/// # What is checked
///
/// | | refused with |
/// |---|---|
/// | the method is GET (HTTP/1.1) | 405 and `Allow: GET` |
/// | `Sec-WebSocket-Version` is 13 | 426 (HTTP/1.1) or 400 (HTTP/2), and `Sec-WebSocket-Version: 13` |
/// | `Sec-WebSocket-Key` is 16 bytes in base64, once (HTTP/1.1) | 400 |
/// | `Origin`, if there is one, is allowed: [`origins`](Self::origins) | 403 |
/// | `Sec-WebSocket-Protocol` is a list of tokens | 400 |
///
/// # Decide more
///
/// Made with [`new`](Self::new) it checks a request for a handler of one's own, which decides on the rest:
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
    speak: Arc<F>,
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
    /// Checks requests for a handler of one's own.
    #[must_use]
    pub fn new() -> Self {
        Self {
            speak: Arc::new(()),
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
    /// The subprotocols that are spoken, the most wanted first. Of those that a client offers, the
    /// first in the client's order is chosen. If it is none of these, none is agreed on.
    ///
    /// # Panics
    ///
    /// If one is no token (RFC 6455 §4.1).
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

    /// Lets the server's order of the subprotocols decide, and not the client's.
    #[must_use]
    pub fn prefer_own_subprotocols(mut self) -> Self {
        self.options.server_decides = true;
        self
    }

    /// The pages that may open a WebSocket, by their origins, such as `https://example.com`: these, and no
    /// others. By default it is those whose host and port are the request's own, and the scheme where the
    /// request has one, as over HTTP/2; a request without `Origin` does not come from a page, and passes. Name
    /// them behind a proxy that changes `Host` or the scheme, on a server with TLS, where over HTTP/1.1 a page of
    /// `http` passes too, and on one that trusts who can reach it ([the
    /// manual](crate::manual::threats#cross-site-websocket-hijacking) says why).
    ///
    /// A browser sends a user's cookies along from any page (RFC 6455 §10.2).
    ///
    /// # Panics
    ///
    /// If one is not `scheme://host` or `scheme://host:port`.
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

    /// Lets any page open a WebSocket, also one whose origin is `null`: for what is public, and knows
    /// nobody by a cookie or an address.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.options.origins = Policy::Any;
        self
    }

    /// Sets the longest message that a client may send, in bytes, in one frame or several. The default is 1 MiB.
    ///
    /// A longer message ends the session with 1009 (RFC 6455 §7.4.1) when the header of the frame that exceeds the
    /// limit has arrived, before the frame is read. Memory for a whole frame is allocated when its header has arrived, so
    /// choose a limit that the memory of the machine allows for each session.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.options.limits.message = bytes;
        self
    }

    /// Limits the rate at which a client may send messages: see [`RateLimit`]. By default there is no limit.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.options.rate_limit = Some(limit);
        self
    }

    /// Pings a client that has been silent for `interval`, and ends the session if it stays silent for as long again: with
    /// the close reason [`Idle`](crate::CloseReason::Idle). By default there are no pings.
    ///
    /// The session looks after this, whatever its handler waits for. A client is silent if
    ///
    /// - it was pinged, and nothing arrived for an interval; or
    /// - a [`send`](WebSocket::send) is blocked, and the client took nothing of it for an interval. A client that reads
    ///   slowly, but reads, stays.
    ///
    /// Then sending and receiving fail with kind [`Idle`](super::ErrorKind::Idle), wherever the handler does it, and the
    /// handler is aborted if it has not ended after [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout). It takes
    /// up to three intervals from the last sign of the client until it is noticed.
    ///
    /// For a handler that does not receive, the session reads on its behalf: it answers pings, and keeps one message for
    /// the next [`recv`](WebSocket::recv). While that message waits, nothing more is read, and the client does not count
    /// as silent unless a write is blocked.
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

    /// Checks whether a page may open a WebSocket, and nothing else: the [`origins`](Self::origins) of any
    /// request, also of one that is no handshake.
    ///
    /// # Errors
    ///
    /// 403 if the page may not.
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

    /// The subprotocol that a request is answered with.
    #[cfg(feature = "axum")]
    pub(crate) fn choose(&self, headers: &HeaderMap) -> Option<&str> {
        let offered = handshake::subprotocols(headers)?;
        self.options.choose(&offered)?.to_str().ok()
    }

    /// Checks the opening handshake (RFC 6455 §4.2, RFC 8441 §5), for a request whose
    /// [protocol](UpgradeRequest::protocol) is `websocket`: which one was chosen is not looked at.
    ///
    /// # Errors
    ///
    /// What is wrong with it: see [above](Self#what-is-checked).
    pub fn check(&self, request: &mut UpgradeRequest) -> Result<Handshake, Rejection> {
        let kind = request.kind();
        let parts = request.parts_mut();
        // Some send a secret in it, having no other header to send it in.
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

/// An opening handshake that is in order: made by [`WebSocketUpgrade::check`].
#[must_use = "a handshake is accepted by returning what it makes from `accept`"]
pub struct Handshake {
    headers: HeaderMap,
    subprotocol: Option<HeaderValue>,
    options: Options,
}

impl Handshake {
    /// The subprotocol that was chosen, if one was.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_ref()?.to_str().ok()
    }

    /// Accepts, and lets `speak` run the session.
    pub fn accept<F, Fut>(self, speak: F) -> Accept
    where
        F: FnOnce(WebSocket, Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let Self {
            headers,
            subprotocol,
            options,
        } = self;
        let mut accept = Accept::new(move |session| run(session, subprotocol, &options, speak));
        accept.headers = headers;
        accept
    }

    /// Accepts, and lets `speak` run the session on the bytes: with [frames of another
    /// library](super#other-frames). The switch is the same.
    pub fn accept_raw<F, Fut>(self, speak: F) -> Accept
    where
        F: FnOnce(Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let mut accept = Accept::new(speak);
        accept.headers = self.headers;
        accept
    }
}

/// Runs a session, and closes its WebSocket in the end.
///
/// Not an `async fn`: that would keep its arguments, the session among them, beside the handler's future for as long as the
/// session lives.
fn run<F, Fut>(
    mut session: Session,
    subprotocol: Option<HeaderValue>,
    options: &Options,
    speak: F,
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
        handler: Caught::new(|| speak(socket, session)),
        watch,
        end: Some(End { state, shared }),
        closing: None,
    }
}

pin_project! {
    /// The handler of a session beside the keep-alive of its WebSocket, and then the end.
    struct Running<Fut> {
        #[pin]
        handler: Caught<Fut>,
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

/// What the end of a WebSocket needs.
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
        // Bounded in time already. As a silence it would take the handler's own reason away.
        state.ignore_idleness();
        shared.close(&state, code).await;
        match ended {
            Err(panic) => panic::resume_unwind(panic),
            Ok(Err(error)) if is_in_order(&error, state.is_stopping()) => Ok(()),
            Ok(ended) => ended,
        }
    }
}

/// Ends a session whose peer is silent.
struct Watch {
    keep_alive: KeepAlive,
    /// How long the handler has to end then.
    grace: Duration,
    aborts: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    fn new(interval: Duration, grace: Duration) -> Self {
        Self {
            keep_alive: KeepAlive::new(interval),
            grace,
            aborts: None,
        }
    }

    /// Completes when the handler, which was told that the peer is silent, has not ended in time.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared, state: &State) -> Poll<BoxError> {
        if self.aborts.is_none() {
            let Silent = ready!(self.keep_alive.poll(cx, shared));
            state.set_idle();
            shared.end_idle();
            // The handler is woken by it, if it sends or receives.
            self.aborts = Some(Box::pin(sleep_until(after(self.grace))));
        }
        match &mut self.aborts {
            // Not bound by the budget of the task either.
            Some(aborts) => {
                let timer = pin!(tokio::task::unconstrained(aborts.as_mut()));
                timer.poll(cx).map(|()| Error::idle().into())
            }
            None => Poll::Pending,
        }
    }
}

/// Whether a handler that has ended with this is not to be blamed: a close frame had gone one way or the
/// other when it wanted to send, or nobody answered the one of its order to stop.
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
        let speak = Arc::clone(&self.speak);
        Ok(handshake.accept(move |socket, session| speak(socket, session)))
    }
}

impl<F> Clone for WebSocketUpgrade<F> {
    fn clone(&self) -> Self {
        Self {
            speak: Arc::clone(&self.speak),
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
