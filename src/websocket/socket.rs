//! The `WebSocket` type, for session handlers and clients.

use super::{
    CloseFrame, Error, Message, WebSocketConfig, broadcast::FrameOutbox, codec::Codec,
    keep_alive::KeepAlive, rate_limit::Meter, shared::Shared, stop::Stop,
};
use crate::{
    session::Session,
    time::{Timer, after},
};
use futures_util::{Sink, Stream};
use http::HeaderValue;
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// A WebSocket (RFC 6455): messages over an upgraded connection.
///
/// [Receiving](Self::recv) answers pings and the peer's close frame, and sends a close frame at the session's stop
/// signal. A handler that mostly sends must therefore also receive, in a `select!`. With `keep_alive` the session
/// answers and sends pings even while the handler does not receive.
///
/// A `WebSocket` is also a [`Stream`] and a [`Sink`] of messages, and can be split into both.
///
/// On the server, the session sends the close frame when the handler ends, unless the handler has sent one. The code is
/// 1000 if the handler returned `Ok`, and 1011 if it returned an error; after the stop signal the code is 1001 in both
/// cases. After a panic the code is 1011. To close before the handler ends, call [`close`](Self::close); dropping the
/// `WebSocket` sends nothing.
///
/// On the server, the WebSocket ends with its handler, even if another task still holds the WebSocket or a half of it.
/// In that task `recv` returns `None`, sending fails with kind [`Closed`](super::ErrorKind::Closed), and pending calls
/// return. A handler must therefore wait for the tasks that hold halves.
///
/// On the client, dropping the WebSocket ends it without a close frame.
pub struct WebSocket {
    shared: Arc<Shared>,
    subprotocol: Option<HeaderValue>,
    /// `None` without a rate limit.
    meter: Option<Box<Meter>>,
    /// Only on the client: on the server the session runs the keep-alive.
    keep_alive: Option<Box<KeepAlive>>,
    /// `Some` until the stop signal, on the server.
    stop: Option<Stop>,
    /// The time limit for the peer's answer, from the first close frame on.
    closing: Timer,
}

/// Queues a message.
type Start = fn(&mut Codec, Message) -> Result<(), Error>;

/// The time limit for a server to answer a close frame and end the connection.
#[cfg(feature = "client")]
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl WebSocket {
    /// Creates the WebSocket of a client.
    #[cfg(feature = "client")]
    pub(super) fn for_client(
        codec: Codec,
        config: &WebSocketConfig,
        subprotocol: Option<HeaderValue>,
    ) -> Self {
        let shared = Arc::new(Shared::new(codec, CLOSE_TIMEOUT));
        let keep_alive = config.keep_alive.map(|interval| {
            shared.watch();
            Box::new(KeepAlive::new(interval))
        });
        Self {
            keep_alive,
            ..Self::new(shared, config, subprotocol)
        }
    }

    /// Creates the WebSocket of a session, which closes it.
    pub(super) fn for_session(
        session: &Session,
        shared: Arc<Shared>,
        config: &WebSocketConfig,
        subprotocol: Option<HeaderValue>,
    ) -> Self {
        Self {
            stop: Some(Stop::new(session)),
            ..Self::new(shared, config, subprotocol)
        }
    }

    fn new(
        shared: Arc<Shared>,
        config: &WebSocketConfig,
        subprotocol: Option<HeaderValue>,
    ) -> Self {
        Self {
            shared,
            subprotocol,
            keep_alive: None,
            meter: config.rate_limit.map(|limit| Box::new(Meter::new(limit))),
            stop: None,
            closing: Timer::default(),
        }
    }

    /// Returns the negotiated subprotocol.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_ref()?.to_str().ok()
    }

    /// Returns a future that completes at the [stop](crate::Session::stop) signal of the session.
    ///
    /// After this call [`recv`](Self::recv) ignores the stop signal, so the handler can send a last message and close
    /// with its own code. The future never completes on the client, or if `take_stop` was called before.
    ///
    /// ```
    /// use tower_upgrade::websocket::{CloseFrame, WebSocket, websocket};
    ///
    /// let ticker = websocket(|mut socket: WebSocket, _session| async move {
    ///     let mut stop = socket.take_stop();
    ///     loop {
    ///         tokio::select! {
    ///             received = socket.recv() => match received.transpose()? {
    ///                 Some(_) => {}
    ///                 None => return Ok(()),
    ///             },
    ///             () = &mut stop => {
    ///                 socket.send("we are moving").await?;
    ///                 return Ok(socket.close(CloseFrame::new(4000, "moved")).await?);
    ///             }
    ///         }
    ///     }
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// After the future is dropped, only tasks that await [`Session::stop`](crate::Session::stop) react to the stop
    /// signal.
    pub fn take_stop(&mut self) -> impl Future<Output = ()> + Send + Sync + Unpin + use<> {
        match self.stop.take() {
            Some(stop) => stop.into_signal(),
            None => Box::pin(std::future::pending()),
        }
    }

    /// Receives the next message, or returns `None` after an orderly close of the WebSocket.
    ///
    /// The answer to a received ping or close frame is queued before this method returns the frame. The next call that
    /// receives or sends writes the answer, and so does the end of a server session.
    ///
    /// At the [stop](crate::Session::stop) signal of the session this method sends a close frame with 1001, unless the
    /// handler [has taken the signal](Self::take_stop). Then this method still returns the messages that the peer sends
    /// before it answers the close frame.
    ///
    /// # Errors
    ///
    /// Returns an error if the peer violates the protocol or a limit, or if the connection fails. On the server it also
    /// returns an error if the peer takes longer than [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) to
    /// answer a close frame. After an error the WebSocket receives no more messages.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: dropping the future loses no message, so it can be used in a `select!`.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Sends a message, and waits until it is written.
    ///
    /// # Errors
    ///
    /// Fails with kind
    ///
    /// - [`Closed`](super::ErrorKind::Closed) if a close frame was sent or received, or the handler has ended;
    /// - [`Io`](super::ErrorKind::Io) if the connection fails;
    /// - [`Idle`](super::ErrorKind::Idle) if the peer is [silent](super::WebSocketConfig::keep_alive);
    /// - [`TooLarge`](super::ErrorKind::TooLarge) if the message is a control frame that is too long;
    /// - [`InvalidCode`](super::ErrorKind::InvalidCode) if the message is a close frame whose
    ///   [code](CloseFrame::code) may not be sent.
    ///
    /// After the last two the WebSocket can still send other messages.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message is either not queued, or queued in full and written by a later call or the
    /// end of a server session.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.send_with(message.into(), Codec::start_send).await
    }

    /// Sends a message as [`send`](Self::send) does, but never compresses it.
    ///
    /// Use this for a message with a secret and with text that others choose:
    /// [the manual](crate::manual::threats#compression) explains why.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_uncompressed(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.send_with(message.into(), Codec::start_send_uncompressed)
            .await
    }

    /// Not an `async fn`, whose future would hold the message twice, also while the handler is idle.
    fn send_with(
        &mut self,
        message: Message,
        start: Start,
    ) -> impl Future<Output = Result<(), Error>> {
        let is_close = matches!(message, Message::Close(_));
        let mut message = Some(message);
        poll_fn(move |cx| {
            let polled = self.poll_write(cx, |codec, cx| codec.poll_send(cx, &mut message, start));
            if is_close && message.is_none() && !matches!(polled, Poll::Ready(Err(_))) {
                self.await_answer();
            }
            polled
        })
    }

    /// Closes the WebSocket: sends a close frame, and waits for the peer's answer. Messages that arrive before the
    /// answer are dropped.
    ///
    /// On the server, the peer has [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) to answer. On the
    /// client, the peer has 10 seconds to answer and to end the connection.
    ///
    /// If a close frame was already sent or received, this method does not send `frame`, and only waits.
    ///
    /// # Errors
    ///
    /// Fails without sending `frame` if its [code](CloseFrame::code) is invalid or its reason is too long. Fails with
    /// kind [`Closed`](super::ErrorKind::Closed) if the handler has ended, and with the error of [`recv`](Self::recv)
    /// if receiving the answer fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the WebSocket.
    pub async fn close(mut self, frame: CloseFrame) -> Result<(), Error> {
        self.begin_close(frame)?;
        while let Some(message) = self.recv().await {
            message?;
        }
        Ok(())
    }

    /// Returns the queue of broadcasts.
    pub(super) fn outbox(&self) -> Arc<FrameOutbox> {
        self.shared.outbox()
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Codec, &mut Context<'_>) -> Poll<Result<(), Error>>,
    ) -> Poll<Result<(), Error>> {
        let polled = match &mut *self.shared.lock() {
            Some(codec) => poll(codec, cx),
            None => Poll::Ready(Err(Error::closed())),
        };
        if polled.is_pending() && self.poll_keep_alive() {
            return Poll::Ready(Err(Error::idle()));
        }
        polled
    }

    /// Returns whether the server is silent, on the client.
    fn poll_keep_alive(&mut self) -> bool {
        let Some(keep_alive) = &mut self.keep_alive else {
            return false;
        };
        let Some(waker) = self.shared.waker() else {
            return false;
        };
        // A timer keeps one waker, and two tasks may hold the halves of a WebSocket: this waker wakes both.
        let cx = &mut Context::from_waker(&waker);
        let is_silent = keep_alive.poll(cx, &self.shared).is_ready();
        if is_silent {
            self.keep_alive = None;
            self.shared.end_idle();
        }
        is_silent
    }

    fn with_codec(&self, act: impl FnOnce(&mut Codec) -> Result<(), Error>) -> Result<(), Error> {
        match &mut *self.shared.lock() {
            Some(codec) => act(codec),
            None => Err(Error::closed()),
        }
    }

    fn queue(&mut self, message: Message) -> Result<(), Error> {
        let is_close = matches!(message, Message::Close(_));
        self.with_codec(|codec| codec.start_send(message))?;
        if is_close {
            self.await_answer();
        }
        Ok(())
    }

    pub(super) fn begin_close(&mut self, frame: CloseFrame) -> Result<(), Error> {
        self.with_codec(|codec| codec.start_close(frame))?;
        self.await_answer();
        Ok(())
    }

    /// Starts the time limit for the peer's answer to a close frame.
    fn await_answer(&mut self) {
        let limit = self.shared.close_timeout();
        if !self.closing.is_armed() && limit != Duration::MAX {
            self.closing.arm(after(limit));
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        loop {
            // Check before receiving: a peer that never stops sending must not delay the close.
            if self.stop.as_ref().is_some_and(Stop::is_signaled) {
                self.stop = None;
                // The frame is valid, so an error only means that the WebSocket is closed.
                let _ = self.begin_close(CloseFrame::new(1001, ""));
            }
            let mut shared = self.shared.lock();
            let Some(codec) = &mut *shared else {
                return Poll::Ready(None);
            };
            if self.stop.is_none() {
                // A client has no session that writes broadcasts.
                codec.poll_broadcasts(cx);
            }
            // After a close frame the rate limit is off: the answer may be behind other messages.
            let meter = self.meter.as_mut().filter(|_| !self.closing.is_armed());
            let next = match meter.map(|meter| meter.poll_ready(cx)) {
                None | Some(Poll::Ready(())) => codec.poll_next(cx),
                Some(Poll::Pending) => codec.poll_waiting(cx),
            };
            if let (Some(meter), Poll::Ready(Some(Ok(message)))) = (&mut self.meter, &next) {
                if meter.count(message.size()).is_err() {
                    return Poll::Ready(Some(Err(codec.end_rate_limited(cx))));
                }
            }
            match &next {
                Poll::Ready(None | Some(Err(_))) => return next,
                Poll::Ready(Some(Ok(Message::Close(_)))) => {
                    drop(shared);
                    // Writing the answer may block until the peer reads.
                    self.await_answer();
                    return next;
                }
                Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
            }
            if codec.is_closing() && !self.closing.is_armed() {
                // A broadcast was a close frame.
                let limit = self.shared.close_timeout();
                if limit != Duration::MAX {
                    self.closing.arm(after(limit));
                }
            }
            if self.closing.poll(cx).is_ready() {
                self.closing = Timer::default();
                return Poll::Ready(codec.give_up());
            }
            if next.is_ready() {
                return next;
            }
            if let Some(stop) = &mut self.stop {
                if stop.poll(cx).is_ready() {
                    continue;
                }
            }
            drop(shared);
            if self.poll_keep_alive() {
                continue;
            }
            return Poll::Pending;
        }
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        self.poll_recv(cx)
    }
}

impl Sink<Message> for WebSocket {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_write(cx, Codec::poll_ready)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.queue(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_write(cx, Codec::poll_flush)
    }

    /// Sends a close frame with 1000. To wait for the peer's answer, receive until the stream ends.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.begin_close(CloseFrame::new(1000, ""))?;
        self.poll_write(cx, Codec::poll_flush)
    }
}

impl fmt::Debug for WebSocket {
    /// Omits the subprotocol, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}
