//! A WebSocket client that connects again after a failure.
//!
//! [`Reconnecting`] opens a WebSocket with any client service, and opens the next one when the connection is lost or an
//! attempt fails. Its [events](Event) come in order: connected, the messages of this connection, disconnected.
//!
//! ```no_run
//! use hyper_util::client::legacy::connect::HttpConnector;
//! use std::time::Duration;
//! use tower::Layer as _;
//! use tower_upgrade::{
//!     client::{Dial, UpgradeLayer},
//!     websocket::{
//!         Message, WebSocketConfig, WebSocketRequest,
//!         reconnect::{Event, Reconnecting},
//!     },
//! };
//!
//! # async fn example() -> Result<(), tower_upgrade::BoxError> {
//! let client = UpgradeLayer::new().layer(Dial::new(HttpConnector::new()));
//! let request = WebSocketRequest::new("ws://127.0.0.1:3000/prices".parse()?)
//!     .config(WebSocketConfig::new().keep_alive(Duration::from_secs(20)));
//! let mut prices = Reconnecting::new(client, request);
//! while let Some(event) = prices.recv().await {
//!     match event {
//!         // An error needs no action: `Disconnected` follows.
//!         Event::Connected(_) => drop(prices.send("subscribe").await),
//!         Event::Message(Message::Text(price)) => println!("{price}"),
//!         Event::Message(_) => {}
//!         Event::Disconnected(failure) => eprintln!("{failure}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The client service opens a new connection for each attempt, with TLS and through proxies as its connector does:
//! [`Dial`](crate::client::Dial) and hyper-util's `Client` are suitable. [`Http1`](crate::client::Http1) and
//! [`Http2`](crate::client::Http2) are not: each is one connection, and every attempt after its loss fails. The client's
//! [`handshake_timeout`](crate::client::UpgradeLayer::handshake_timeout) limits each attempt.
//!
//! Without [`keep_alive`](super::WebSocketConfig::keep_alive) a client that only receives does not detect a peer that has
//! vanished.
//!
//! # Another attempt
//!
//! | failure | another attempt |
//! |---|---|
//! | [`Unreachable`], [`Transport`] or [`Timeout`] in the handshake | yes |
//! | 408, 425, 429, or 5xx other than 501 and 505, from the server or from a proxy | yes, after its `Retry-After` |
//! | any other response | no |
//! | [`Request`], [`Unsupported`], [`Tls`], [`Connector`] or [`Protocol`] in the handshake | no |
//! | the connection ended without a close frame (1006), or a ping was not answered | yes |
//! | close code 1001 (going away), 1011 (internal error), 1014 (bad gateway) | yes |
//! | close code 1012 (service restart), 1013 (try again later) | yes, after a longer wait |
//! | any other close code, or a close frame without a code | no |
//! | the server violated the protocol or a limit, and received 1002, 1007, 1008 or 1009 | no |
//! | the application called [`reconnect`](Reconnecting::reconnect) | yes |
//!
//! [`Backoff`] has the waits and the limits. [`Reconnecting::retry_if`] replaces the table. For example, to send new
//! credentials after a 401:
//!
//! ```no_run
//! use http::{HeaderValue, StatusCode, header::AUTHORIZATION};
//! use tower_upgrade::websocket::{
//!     WebSocketRequest,
//!     reconnect::{Cause, Event, Reconnecting},
//! };
//! # use tower_upgrade::client;
//!
//! fn is_unauthorized(cause: &Cause) -> bool {
//!     // The kind differs if a proxy refused.
//!     matches!(cause, Cause::Handshake(error) if error.kind() == client::ErrorKind::Refused)
//!         && cause.status() == Some(StatusCode::UNAUTHORIZED)
//! }
//!
//! # async fn token() -> HeaderValue { HeaderValue::from_static("Bearer of-good-news") }
//! # async fn example<S>(client: S, request: WebSocketRequest)
//! # where
//! #     S: tower::Service<client::Request, Response = client::Session, Error = client::Error>,
//! #     S: Clone + Send + 'static,
//! #     S::Future: Send,
//! # {
//! let mut socket = Reconnecting::new(client, request.clone())
//!     .retry_if(|cause| cause.is_temporary() || is_unauthorized(cause));
//! while let Some(event) = socket.recv().await {
//!     match event {
//!         Event::Disconnected(failure) if is_unauthorized(&failure.cause) => {
//!             socket.set_request(request.clone().header(AUTHORIZATION, token().await));
//!         }
//!         # _ => {}
//!         // ...
//!     }
//! }
//! # }
//! ```
//!
//! # Resume
//!
//! Messages that the server sends while the client is away are lost, unless the client asks for them when it is
//! connected again. [The manual](crate::manual::scaling#across-nodes) has a contract for this: the server numbers the
//! messages of a room with an *offset*, and names the history in which the offsets count with an *epoch*. The client
//! keeps both, and sends them when it is connected:
//!
//! ```no_run
//! use tower_upgrade::websocket::{
//!     Message,
//!     reconnect::{Event, Reconnecting},
//! };
//! # fn parse(_: &str) -> Option<Received<'_>> { None }
//!
//! enum Received<'a> {
//!     /// The answer to `resume`: the messages after `offset` follow.
//!     Resumed { epoch: &'a str, offset: u64 },
//!     Chat { offset: u64, text: &'a str },
//! }
//!
//! async fn chat(mut room: Reconnecting) {
//!     let mut epoch = String::new();
//!     let mut last = 0; // the offset of the last message
//!     while let Some(event) = room.recv().await {
//!         match event {
//!             Event::Connected(_) => drop(room.send(format!("resume {epoch} {last}")).await),
//!             Event::Message(Message::Text(text)) => match parse(&text) {
//!                 Some(Received::Resumed { epoch: now, offset }) => {
//!                     let is_complete = now == epoch && offset <= last;
//!                     if !is_complete {
//!                         if !epoch.is_empty() {
//!                             println!("you may have missed messages");
//!                         }
//!                         (epoch, last) = (now.to_owned(), offset);
//!                     }
//!                 }
//!                 Some(Received::Chat { offset, .. }) if offset <= last => {} // a duplicate
//!                 Some(Received::Chat { offset, text }) => {
//!                     println!("{text}");
//!                     last = offset;
//!                 }
//!                 None => room.reconnect("the server sent an invalid message"),
//!             },
//!             Event::Message(_) => {}
//!             Event::Disconnected(failure) => println!("{failure}"),
//!         }
//!     }
//! }
//! ```
//!
//! # Sending
//!
//! Nothing is queued for the next connection. Whether the server has received a message depends on the result of
//! [`send`](Reconnecting::send):
//!
//! | result | the message |
//! |---|---|
//! | error of kind [`Closed`](super::ErrorKind::Closed) | was not sent: the client is not connected, or the WebSocket is closing |
//! | error of kind [`TooLarge`](super::ErrorKind::TooLarge) or [`InvalidCode`](super::ErrorKind::InvalidCode) | was not sent: the control frame is invalid |
//! | error of kind [`Io`](super::ErrorKind::Io) or [`Idle`](super::ErrorKind::Idle) | may have been received: the connection broke meanwhile |
//! | `Ok` | was written to the connection, and is lost if the connection breaks before the server has read it |
//!
//! A client that must not lose a message keeps it until the server acknowledges it, and sends it again on the next
//! connection. Then the server may receive the message twice: give it an identifier by which the server recognizes a
//! duplicate.
//!
//! # Tasks
//!
//! A `Reconnecting` starts no task. It connects, waits and answers pings only while a call of
//! [`recv`](Reconnecting::recv) is pending, and dropping it ends the connection or the attempt.
//!
//! [`Unreachable`]: crate::client::ErrorKind::Unreachable
//! [`Transport`]: crate::client::ErrorKind::Transport
//! [`Timeout`]: crate::client::ErrorKind::Timeout
//! [`Request`]: crate::client::ErrorKind::Request
//! [`Unsupported`]: crate::client::ErrorKind::Unsupported
//! [`Tls`]: crate::client::ErrorKind::Tls
//! [`Connector`]: crate::client::ErrorKind::Connector
//! [`Protocol`]: crate::client::ErrorKind::Protocol

mod backoff;
mod connected;
mod event;
mod retry_after;

use self::connected::Connected;
pub use self::{
    backoff::Backoff,
    event::{Cause, Disconnected, Event, State},
};
use super::{CloseFrame, Error, Message, WebSocket, WebSocketRequest};
use crate::{
    client::{self, Request, Session},
    error::{BoxError, BoxFuture},
    time::{Timer, after},
};
use futures_util::Stream;
use http::response;
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};
use sync_wrapper::SyncWrapper;
use tokio::time::Instant;
use tower_service::Service;

type Connecting = BoxFuture<Result<(WebSocket, response::Parts), client::Error>>;

/// A WebSocket client that connects again after a failure: see the [module](self).
///
/// It is also a [`Stream`] of [events](Event).
#[must_use = "a `Reconnecting` connects when it receives"]
pub struct Reconnecting {
    connect: SyncWrapper<Box<dyn FnMut(WebSocketRequest) -> Connecting + Send>>,
    request: WebSocketRequest,
    backoff: Backoff,
    retry_if: Box<dyn Fn(&Cause) -> bool + Send + Sync>,
    phase: Phase,
    /// The previous connection, during its closing handshake.
    closing: Option<WebSocket>,
    /// Failures in a row.
    failures: u32,
    /// The time of the first attempt, or of the loss of a stable connection.
    since: Option<Instant>,
}

enum Phase {
    /// The next attempt is due.
    Due,
    Connecting(SyncWrapper<Connecting>),
    Connected(Connected),
    Waiting {
        until: Instant,
        timer: Timer,
    },
    Ended,
}

impl Reconnecting {
    /// Creates a client that sends `request` with `client` at each attempt. The first attempt begins when the client
    /// first receives.
    ///
    /// Each attempt clones `client`, waits until the clone is ready, and calls it.
    pub fn new<S>(client: S, request: WebSocketRequest) -> Self
    where
        S: Service<Request, Response = Session> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
    {
        Self {
            connect: SyncWrapper::new(Box::new(move |request| {
                Box::pin(request.connect(client.clone()))
            })),
            request,
            backoff: Backoff::new(),
            retry_if: Box::new(Cause::is_temporary),
            phase: Phase::Due,
            closing: None,
            failures: 0,
            since: None,
        }
    }

    /// Sets the waits between attempts, and the limits on the attempts. The default is [`Backoff::new`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the function that decides whether another attempt follows a failure. The default is
    /// [`Cause::is_temporary`]. The limits of the [`Backoff`] apply in addition.
    pub fn retry_if(mut self, retry_if: impl Fn(&Cause) -> bool + Send + Sync + 'static) -> Self {
        self.retry_if = Box::new(retry_if);
        self
    }

    /// Replaces the request, from the next attempt on. For example, the new request has another token, or goes to another
    /// server.
    pub fn set_request(&mut self, request: WebSocketRequest) {
        self.request = request;
    }

    /// Returns the current state.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Due | Phase::Connecting(_) => State::Connecting {
                attempt: self.failures.saturating_add(1),
            },
            Phase::Connected(_) => State::Connected,
            Phase::Waiting { until, .. } => State::Waiting {
                remaining: until.saturating_duration_since(Instant::now()),
            },
            Phase::Ended => State::Ended,
        }
    }

    /// Receives the next event: connects, waits before the next attempt, and receives messages.
    ///
    /// Returns `None` after a [`Disconnected`] whose `retry_in` is `None`. This may take up to 10 seconds, in which the
    /// server ends the connection after the close frames (RFC 6455 §7.1.1).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a time driver.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe, so it can be used in a `select!`: dropping the future loses no event. A pending
    /// attempt, and a pending wait, continue with the next call.
    pub async fn recv(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Sends a message, and waits until it is written. The [module](self#sending) explains after which errors the server
    /// may have received the message.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`]. Also fails with kind [`Closed`](super::ErrorKind::Closed) at once while the client is not
    /// connected. After an error of kind [`Io`](super::ErrorKind::Io) or [`Idle`](super::ErrorKind::Idle),
    /// [`recv`](Self::recv) returns the messages that have arrived, and then [`Event::Disconnected`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is either not queued, or queued in full for the current connection, and
    /// written by a later call. It is lost with this connection, without an error.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let connected = self.connected()?;
        let sent = connected.socket.send(message).await;
        connected.note(sent)
    }

    /// Sends a message as [`send`](Self::send) does, but never [compresses](WebSocket::send_uncompressed) it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_uncompressed(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let connected = self.connected()?;
        let sent = connected.socket.send_uncompressed(message).await;
        connected.note(sent)
    }

    /// Gives up the current connection, for example because the server did not accept the subscription.
    ///
    /// The server receives a close frame with 1001. The next event is a [`Disconnected`] with
    /// [`Cause::Abandoned`]: as after any other loss, the next attempt waits, and a connection that has not been
    /// [stable](Backoff::stable_after) adds to the failures in a row. Does nothing while the client is not connected.
    pub fn reconnect(&mut self, error: impl Into<BoxError>) {
        if let Phase::Connected(connected) = &mut self.phase {
            connected.abandon(error.into());
        }
    }

    /// Closes the WebSocket as [`WebSocket::close`] does. Without a connection, no frame is sent.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::close`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn close(mut self, frame: CloseFrame) -> Result<(), Error> {
        match self.phase {
            Phase::Connected(connected) => connected.socket.close(frame).await,
            _ => {
                poll_fn(|cx| Self::poll_closing(&mut self.closing, cx)).await;
                Ok(())
            }
        }
    }

    fn connected(&mut self) -> Result<&mut Connected, Error> {
        match &mut self.phase {
            Phase::Connected(connected) if connected.is_usable() => Ok(connected),
            _ => Err(Error::closed()),
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let closing = Self::poll_closing(&mut self.closing, cx);
        loop {
            match &mut self.phase {
                Phase::Due => {
                    self.since.get_or_insert_with(Instant::now);
                    let connecting = (self.connect.get_mut())(self.request.clone());
                    self.phase = Phase::Connecting(SyncWrapper::new(connecting));
                }
                Phase::Waiting { timer, .. } => {
                    ready!(timer.poll(cx));
                    self.phase = Phase::Due;
                }
                Phase::Connecting(connecting) => {
                    let event = match ready!(connecting.get_mut().as_mut().poll(cx)) {
                        Ok((socket, response)) => {
                            self.phase = Phase::Connected(Connected::new(socket));
                            Event::Connected(response)
                        }
                        Err(error) => self.fail(Cause::Handshake(error)),
                    };
                    return Poll::Ready(Some(event));
                }
                Phase::Connected(connected) => {
                    let event = match ready!(connected.poll_receive(cx)) {
                        Ok(message) => Event::Message(message),
                        Err(cause) => self.fail(cause),
                    };
                    return Poll::Ready(Some(event));
                }
                Phase::Ended => return closing.map(|()| None),
            }
        }
    }

    /// Counts a failure, and begins the wait before the next attempt.
    fn fail(&mut self, cause: Cause) -> Event {
        let now = Instant::now();
        if let Phase::Connected(connected) = std::mem::replace(&mut self.phase, Phase::Ended) {
            if self.backoff.is_stable(now - connected.since) {
                self.failures = 0;
                self.since = Some(now);
            }
            if matches!(cause, Cause::Closed(_) | Cause::Abandoned(_)) {
                self.closing = Some(connected.socket);
            }
        }
        self.failures = self.failures.saturating_add(1);
        let elapsed = now - self.since.unwrap_or(now);
        let wait = self
            .backoff
            .wait(self.failures, cause.demand(), rand::random());
        let is_allowed = self
            .backoff
            .allows(self.failures, elapsed.saturating_add(wait));
        let retry_in = (is_allowed && (self.retry_if)(&cause)).then_some(wait);
        if let Some(wait) = retry_in {
            let until = after(wait);
            let mut timer = Timer::default();
            timer.arm(until);
            self.phase = Phase::Waiting { until, timer };
        }
        Event::Disconnected(Disconnected {
            cause,
            failures: self.failures,
            retry_in,
        })
    }

    /// Waits for the end of the previous connection.
    fn poll_closing(closing: &mut Option<WebSocket>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(socket) = closing {
            match ready!(Pin::new(socket).poll_next(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => *closing = None,
            }
        }
        Poll::Ready(())
    }
}

impl Stream for Reconnecting {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for Reconnecting {
    /// Omits the headers of the request, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting")
            .field("backoff", &self.backoff)
            .field("state", &self.state())
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}
