//! The WebSocket, as those who speak have it.

use super::{
    CloseFrame, Error, Message,
    codec::Codec,
    keep_alive::{KeepAlive, Signs},
    rate_limit::{Meter, RateLimit},
};
use crate::{
    session::{Session, state::State},
    time::within,
};
use futures_util::{Sink, Stream};
use http::HeaderValue;
use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// A WebSocket (RFC 6455): messages over an upgraded connection.
///
/// [Receiving](Self::recv) answers pings and the peer's close frame, and sends a close frame when the session is to stop.
/// A handler that mostly sends therefore receives as well, in a `select!`. With `keep_alive` the session answers and sends
/// pings also while the handler does not receive.
///
/// A `WebSocket` is also a [`Stream`] and a [`Sink`] of messages, and can be split into both.
///
/// On the server, a close frame is sent when the handler ends without one: 1000 if it returned `Ok`, 1011 if it returned
/// an error or panicked. Dropping the `WebSocket` earlier does not send it earlier; [`close`](Self::close) does. The
/// WebSocket ends with its handler, even if it or a half of it is in another task: there `recv` returns `None`, sending
/// fails with kind [`Closed`](super::ErrorKind::Closed), and waiting tasks are woken. A handler therefore waits for the
/// tasks that hold halves.
///
/// On the client, the WebSocket ends when it is dropped, without a close frame.
pub struct WebSocket {
    shared: Arc<Shared>,
    subprotocol: Option<HeaderValue>,
    /// None without a limit.
    meter: Option<Box<Meter>>,
    /// On the client, where no session looks after it.
    keep_alive: Option<Box<KeepAlive>>,
    /// Until the session is to stop.
    stop: Option<Stop>,
    /// How long an answer to a close frame is waited for, once there was one.
    closing: Option<Pin<Box<Sleep>>>,
}

struct Stop {
    session: Arc<State>,
    ordered: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// Who is woken by it.
    waiting: Option<Waker>,
}

/// How long a server may take to answer a close frame, and to end the connection.
#[cfg(feature = "client")]
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a WebSocket has in common with its session, which closes it in the end, wherever it is then.
pub(super) struct Shared {
    /// `None` once the session closes it.
    codec: Mutex<Option<Codec>>,
    /// How long the peer may take to answer a close frame.
    limit: Duration,
}

impl WebSocket {
    /// That of a client.
    #[cfg(feature = "client")]
    pub(super) fn of_client(
        codec: Codec,
        keep_alive: Option<Duration>,
        subprotocol: Option<HeaderValue>,
    ) -> Self {
        let shared = Arc::new(Shared::new(codec, CLOSE_TIMEOUT));
        if keep_alive.is_some() {
            shared.watch();
        }
        Self {
            keep_alive: keep_alive.map(|interval| Box::new(KeepAlive::new(interval))),
            ..Self::new(shared, subprotocol)
        }
    }

    /// That of a session, which closes it.
    pub(super) fn of_session(
        session: &Session,
        shared: Arc<Shared>,
        rate_limit: Option<RateLimit>,
        subprotocol: Option<HeaderValue>,
    ) -> Self {
        let stop = Stop {
            session: Arc::clone(session.state()),
            ordered: Box::pin(session.stop()),
            waiting: None,
        };
        Self {
            stop: Some(stop),
            meter: rate_limit.map(|limit| Box::new(Meter::new(limit))),
            ..Self::new(shared, subprotocol)
        }
    }

    fn new(shared: Arc<Shared>, subprotocol: Option<HeaderValue>) -> Self {
        Self {
            shared,
            subprotocol,
            keep_alive: None,
            meter: None,
            stop: None,
            closing: None,
        }
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_ref()?.to_str().ok()
    }

    /// Takes the order to stop away from [`recv`](Self::recv): for a handler that says goodbye in its own words,
    /// and closes with a code of its own.
    ///
    /// The future completes when the session is to [stop](crate::Session::stop). If it was taken before, and on
    /// the client, it never does.
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
    /// If the future is dropped nothing heeds the order any more but what awaits
    /// [`Session::stop`](crate::Session::stop).
    pub fn take_stop(&mut self) -> impl Future<Output = ()> + Send + Sync + Unpin + use<> {
        match self.stop.take() {
            Some(stop) => stop.ordered,
            None => Box::pin(std::future::pending()),
        }
    }

    /// Receives the next message. `None`: the WebSocket is closed, in order.
    ///
    /// Pings and a close frame have been answered, or are with the next call.
    ///
    /// When the session is to [stop](crate::Session::stop) a close frame with 1001 is sent, unless the handler
    /// [sees to that](Self::take_stop). What the peer still sends until it answers is received.
    ///
    /// # Errors
    ///
    /// What the peer did wrong, or what broke. After an error nothing more is received. On the server it is an
    /// error as well if the peer takes longer than
    /// [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) to answer a close frame.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: use it in a `select!`.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Sends a message, and waits until it is written.
    ///
    /// # Errors
    ///
    /// Of kind [`Closed`](super::ErrorKind::Closed) if a close frame went one way or the other, or the handler has
    /// ended. Of kind [`TooLarge`](super::ErrorKind::TooLarge) if it is a control frame that is too long, and
    /// [`InvalidCode`](super::ErrorKind::InvalidCode) if it is a close frame whose [code](CloseFrame::code) may not
    /// be sent: then the next message can still be sent.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the message may or may not be sent, as a whole, with the next one.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let mut message = Some(message.into());
        poll_fn(|cx| {
            if message.is_some() {
                ready!(self.poll_write(cx, Codec::poll_ready))?;
            }
            if let Some(message) = message.take() {
                self.queue(message)?;
            }
            self.poll_write(cx, Codec::poll_flush)
        })
        .await
    }

    /// Closes: sends a close frame, and waits until the peer has answered. What it still sends is dropped.
    ///
    /// A client has [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) to answer, a server 10 seconds, in
    /// which it ends the connection as well.
    ///
    /// # Errors
    ///
    /// What breaks in the meantime; a [code](CloseFrame::code) that may not be sent, and a reason that is too long:
    /// then nothing was sent. If a close frame went one way or the other already, this one is not sent.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, so is the WebSocket.
    pub async fn close(mut self, frame: CloseFrame) -> Result<(), Error> {
        self.begin_close(frame)?;
        while let Some(message) = self.recv().await {
            message?;
        }
        Ok(())
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        poll: fn(&mut Codec, &mut Context<'_>) -> Poll<Result<(), Error>>,
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
        let (Some(keep_alive), Some(waker)) = (&mut self.keep_alive, self.shared.waker()) else {
            return false;
        };
        // The timer knows one task, and the halves of a WebSocket may be in two: it wakes both.
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

    fn begin_close(&mut self, frame: CloseFrame) -> Result<(), Error> {
        self.with_codec(|codec| codec.start_close(frame))?;
        self.await_answer();
        Ok(())
    }

    /// From here on there is an end to it, whether the peer answers or not.
    fn await_answer(&mut self) {
        let limit = self.shared.limit;
        if self.closing.is_none() && limit != Duration::MAX {
            self.closing = Some(Box::pin(sleep(limit)));
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        loop {
            // Before there is nothing to receive: there may always be something.
            if self.stop.as_ref().is_some_and(Stop::is_ordered) {
                self.stop = None;
                // Nothing is wrong with the frame.
                let _ = self.begin_close(CloseFrame::new(1001, ""));
            }
            let mut shared = self.shared.lock();
            let Some(codec) = &mut *shared else {
                return Poll::Ready(None);
            };
            // Once a close frame was sent the answer is waited for, whatever is in front of it.
            let meter = self.meter.as_mut().filter(|_| self.closing.is_none());
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
                    // The answer may have to wait for the peer to read.
                    self.await_answer();
                    return next;
                }
                Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
            }
            if let Some(timer) = &mut self.closing {
                // Not bound by the budget of the task, which a peer that never stops sending spends.
                let timer = tokio::task::unconstrained(timer.as_mut());
                if pin!(timer).poll(cx).is_ready() {
                    self.closing = None;
                    return Poll::Ready(codec.give_up());
                }
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

impl Stop {
    fn is_ordered(&self) -> bool {
        self.session.is_stopping()
    }

    /// Waits for the order. To ask again costs more than to remember who has asked.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self.waiting.as_ref();
        if waiting.is_some_and(|waiting| waiting.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waiting = Some(cx.waker().clone());
        self.ordered.as_mut().poll(cx)
    }
}

impl Shared {
    pub(super) fn new(codec: Codec, limit: Duration) -> Self {
        let codec = Mutex::new(Some(codec));
        Self { codec, limit }
    }

    /// Prepares for a [`KeepAlive`].
    pub(super) fn watch(&self) {
        if let Some(codec) = &mut *self.lock() {
            codec.watch();
        }
    }

    /// A waker of the tasks that wait for the IO.
    fn waker(&self) -> Option<Waker> {
        self.lock().as_ref().map(Codec::waker)
    }

    /// Says what was noticed of the peer. `None`: the session closes the WebSocket.
    pub(super) fn look(&self) -> Option<Signs> {
        Some(self.lock().as_mut()?.look())
    }

    pub(super) fn ping(&self) {
        if let Some(codec) = &mut *self.lock() {
            codec.ping();
        }
    }

    /// Ends the WebSocket of a peer that is silent: to send and to receive fail, wherever that is done.
    pub(super) fn end_idle(&self) {
        if let Some(codec) = &mut *self.lock() {
            codec.end_idle();
        }
    }

    /// Returns whether this WebSocket failed. An error that a handler ends with may be of another one, which is the
    /// client of another server.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().as_ref().is_some_and(Codec::has_failed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Codec>> {
        self.codec.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the WebSocket of a session, and waits for the peer's answer. In other hands it is of no use from
    /// here on.
    pub(super) async fn close(&self, session: &State, code: u16) {
        let Some(mut codec) = self.lock().take() else {
            return;
        };
        session.wake_io();
        if codec.is_idle() {
            // Nothing can be written, and nothing is answered.
            return;
        }
        // Nothing is wrong with the frame.
        let _ = codec.start_close(CloseFrame::new(code, ""));
        let answer = poll_fn(|cx| {
            while let Some(Ok(_)) = ready!(codec.poll_next(cx)) {}
            // What was said on an error may not be written yet.
            codec.poll_flush(cx)
        });
        within(self.limit, answer).await;
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

    /// Sends a close frame. Receive until there is nothing more to wait for the peer's.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.begin_close(CloseFrame::new(1000, ""))?;
        self.poll_write(cx, Codec::poll_flush)
    }
}

impl fmt::Debug for WebSocket {
    /// Without the subprotocol, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").finish_non_exhaustive()
    }
}
