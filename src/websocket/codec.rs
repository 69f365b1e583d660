//! The WebSocket codec of one connection, with its queues and buffers.

use super::{
    CloseFrame, Error, Message,
    frames::Frames,
    keep_alive::Liveness,
    reader::{CONTROL, Limits, Reader},
    write_queue::WriteQueue,
};
use crate::session::upgraded::Upgraded;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use std::{
    io::{self, ErrorKind, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
};
use tokio::io::{AsyncRead, ReadBuf};
use tungstenite::protocol::{
    Role,
    frame::{
        Frame, FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

/// Queued bytes from which on `poll_ready` flushes the queue.
const QUEUED: usize = 64 * 1024;

/// Queued bytes of answers (pongs, close frames) from which on the codec stops reading from a peer that does not read.
const ANSWERS: usize = 16 * 1024;

/// Maximum number of control frames that one `check_liveness` reads on behalf of a handler that does not receive.
const MOST_CONTROL_FRAMES: usize = 64;

/// tungstenite's codec around an IO.
///
/// The connection holds a `Reader` only while the `Reader` has state. Between messages the `Reader` is in the pool of
/// the thread, and reads the next message of any session.
///
/// The `Reader` reads frames and answers them. Sent messages bypass the `Reader`, except close frames, which change its
/// state.
pub(super) struct Codec {
    io: Frames<Upgraded>,
    reader: Option<Box<Reader>>,
    role: Role,
    limits: Limits,
    out: WriteQueue,
    /// Bytes of answers to the peer in `out`.
    answers: usize,
    phase: Phase,
    has_failed: bool,
    /// Whether the peer was silent for too long: `recv` returns the error once, `send` always.
    idle: Idle,
    /// A message or an error that `check_liveness` read while the handler did not receive.
    waiting: Option<Box<Result<Message, Error>>>,
    /// Whether `check_liveness` reads too: a receiving task then registers a waker, since `check_liveness` may read its message.
    is_watched: bool,
    wakers: Arc<Wakers>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Idle {
    No,
    Untold,
    Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// A close frame was sent or received: the `Reader` has state that must not be discarded.
    Closing,
    /// The client's close frame is answered: the connection ends when the answer is written.
    Closed,
    /// The codec receives no more messages.
    Ended,
}

/// Wakers of the sending and the receiving task. Both may wait for the IO, which keeps only the last waker.
#[derive(Default)]
struct Wakers {
    /// The task that sends messages.
    sender: AtomicWaker,
    /// The task that receives messages and writes answers.
    receiver: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.sender.wake();
        self.receiver.wake();
    }
}

impl Codec {
    pub(super) fn new(io: Upgraded, role: Role, limits: Limits) -> Self {
        Self {
            io: Frames::new(io),
            reader: None,
            role,
            limits,
            out: WriteQueue::default(),
            answers: 0,
            phase: Phase::Open,
            has_failed: false,
            idle: Idle::No,
            waiting: None,
            is_watched: false,
            wakers: Arc::default(),
        }
    }

    /// Returns a waker for all tasks that wait for the IO.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.wakers))
    }

    /// Prepares for [`check_liveness`](Self::check_liveness).
    pub(super) fn watch(&mut self) {
        self.is_watched = true;
    }

    /// Reads on behalf of a handler that does not receive, to see pongs, and returns the peer's signs of life.
    ///
    /// Pings are answered. One message is kept for the next call of [`poll_next`](Self::poll_next), and reading stops
    /// after that message.
    pub(super) fn check_liveness(&mut self) -> Liveness {
        // The IO keeps one waker per direction: register the sending and receiving tasks, not the current one.
        let waker = self.waker();
        let cx = &mut Context::from_waker(&waker);
        // A peer that floods the connection must not keep this loop running.
        for _ in 0..MOST_CONTROL_FRAMES {
            // Continue writing a message whose `send` future was dropped half-way.
            let written = self.poll_write_some(cx);
            if self.waiting.is_some() || self.phase != Phase::Open {
                self.has_failed |= matches!(written, Poll::Ready(Err(_)));
                break;
            }
            match self.poll_read(cx, written) {
                Poll::Ready(Some(Ok(Message::Ping(_)))) => {}
                Poll::Ready(Some(Ok(Message::Pong(payload)))) if payload.is_empty() => {}
                Poll::Ready(Some(received)) => {
                    self.waiting = Some(Box::new(received));
                    self.wakers.receiver.wake();
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Liveness {
            has_read: self.io.has_read(),
            // A handler that has not received the end may be waiting elsewhere, possibly forever.
            is_behind: match self.waiting.as_deref() {
                Some(received) => matches!(received, Ok(Message::Text(_) | Message::Binary(_))),
                None => self.phase != Phase::Open,
            },
            has_unblocked: self.io.has_unblocked(),
            is_blocked: self.io.is_blocked() && self.out.is_pending(),
        }
    }

    /// Queues a ping, and writes as many bytes as the IO accepts now.
    pub(super) fn ping(&mut self) {
        // A closed WebSocket needs no ping.
        if self.start_send(Message::Ping(Bytes::new())).is_ok() {
            // The sending task, the receiving task and the next `check_liveness` write the rest.
            let waker = self.waker();
            let written = self.poll_write_some(&mut Context::from_waker(&waker));
            if let Poll::Ready(Err(_)) = written {
                self.has_failed = true;
            }
        }
    }

    /// Receives the next message, and answers pings and the peer's close frame.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        if self.idle == Idle::Untold {
            self.idle = Idle::Told;
            return Poll::Ready(Some(Err(Error::idle())));
        }
        if let Some(waiting) = self.waiting.take() {
            return Poll::Ready(Some(*waiting));
        }
        if self.is_watched {
            self.wakers.receiver.register(cx.waker());
        }
        // Read even if the write is blocked: a message may have arrived.
        let written = self.poll_write_all(cx, |wakers| &wakers.receiver);
        self.poll_read(cx, written)
    }

    /// Writes the queued bytes. Receives only if the peer is silent or the WebSocket has ended.
    pub(super) fn poll_waiting(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        if self.is_idle() || self.phase == Phase::Ended {
            return self.poll_next(cx);
        }
        if self.is_watched {
            self.wakers.receiver.register(cx.waker());
        }
        match self.poll_write_all(cx, |wakers| &wakers.receiver) {
            Poll::Ready(Err(error)) => Poll::Ready(self.fail(cx, error.into())),
            _ => Poll::Pending,
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<()>>,
    ) -> Poll<Option<Result<Message, Error>>> {
        if self.phase == Phase::Ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(self.fail(cx, error.into()));
        }
        match self.phase {
            Phase::Open => {
                if self.answers >= ANSWERS {
                    return Poll::Pending;
                }
                // The codec clears its buffer before each read, so call it only when bytes have arrived, or at
                // the end of the stream, where the codec returns the right error.
                match self.io.poll_fill(cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(self.fail(cx, error.into())),
                    Poll::Pending => {
                        self.forget();
                        return Poll::Pending;
                    }
                }
            }
            Phase::Closed => return written.map(|_| None),
            Phase::Closing | Phase::Ended => {}
        }
        match self.read(cx) {
            Ok(message) => {
                if matches!(message, Message::Ping(_) | Message::Close(_)) {
                    self.answer(&message);
                }
                Poll::Ready(Some(Ok(message)))
            }
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                Poll::Pending
            }
            Err(error) => Poll::Ready(self.fail(cx, error)),
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> tungstenite::Result<Message> {
        let reader = reader(&mut self.reader, self.role, self.limits);
        let (io, out) = (&mut self.io, &mut self.out);
        reader.read(&mut Link { io, cx, out })
    }

    /// Queues the codec's answer to `message`.
    fn answer(&mut self, message: &Message) {
        let before = self.out.len();
        let reader = reader(&mut self.reader, self.role, self.limits);
        let flushed = reader.flush(&mut self.out);
        self.answers += self.out.len() - before;
        if matches!(message, Message::Close(_)) {
            self.phase = match flushed {
                // The server side ends the connection.
                Err(tungstenite::Error::ConnectionClosed) => Phase::Closed,
                _ => Phase::Closing,
            };
        }
    }

    /// Returns whether the connection or the peer failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Ends the WebSocket of a peer that exceeded the rate limit, with close code 1008.
    pub(super) fn end_rate_limited(&mut self, cx: &mut Context<'_>) -> Error {
        self.has_failed = true;
        let _ = self.start_close(CloseFrame::new(1008, ""));
        // The end of the session writes the rest.
        let _ = self.poll_write_all(cx, |wakers| &wakers.receiver);
        self.phase = Phase::Ended;
        Error::rate_limited()
    }

    /// Ends the WebSocket of a silent peer, and wakes the sending and receiving tasks.
    pub(super) fn end_idle(&mut self) {
        self.has_failed = true;
        self.phase = Phase::Ended;
        self.idle = Idle::Untold;
        self.wakers.wake_by_ref();
    }

    /// Returns whether the peer was silent for too long.
    pub(super) fn is_idle(&self) -> bool {
        self.idle != Idle::No
    }

    fn check_idle(&self) -> Result<(), Error> {
        match self.is_idle() {
            true => Err(Error::idle()),
            false => Ok(()),
        }
    }

    /// Ends the WebSocket after the peer's time to close. Returns an error if the peer's close frame has not arrived.
    pub(super) fn give_up<T>(&mut self) -> Option<Result<T, Error>> {
        let has_closed = self.has_closed();
        self.has_failed |= !has_closed;
        self.phase = Phase::Ended;
        (!has_closed).then(|| Err(Error::unanswered()))
    }

    /// Queues a message.
    pub(super) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        self.check_idle()?;
        if self.phase != Phase::Open {
            return Err(Error::closed());
        }
        let (opcode, payload) = match message {
            Message::Text(text) => (OpCode::Data(Data::Text), text.into()),
            Message::Binary(bytes) => (OpCode::Data(Data::Binary), bytes),
            Message::Ping(bytes) => (OpCode::Control(Control::Ping), bytes),
            Message::Pong(bytes) => (OpCode::Control(Control::Pong), bytes),
            Message::Close(frame) => return self.send_close(frame),
        };
        if let OpCode::Control(_) = opcode {
            check_control(payload.len())?;
        }
        let header = FrameHeader {
            opcode,
            mask: (self.role == Role::Client).then(rand::random),
            ..FrameHeader::default()
        };
        let frame = Frame::from_payload(header, payload);
        self.out.reserve(frame.len());
        frame.format(&mut self.out).map_err(Error::codec)
    }

    fn send_close(&mut self, frame: Option<CloseFrame>) -> Result<(), Error> {
        if let Some(frame) = &frame {
            if !frame.has_valid_code() {
                return Err(Error::invalid_code(frame.code));
            }
            check_control(2 + frame.reason.len())?;
        }
        self.phase = Phase::Closing;
        let frame = frame.map(CloseFrame::into_codec);
        let reader = reader(&mut self.reader, self.role, self.limits);
        reader.close(&mut self.out, frame).map_err(Error::codec)
    }

    /// Starts the closing handshake unless it has already started. Fails only if the frame is invalid.
    pub(super) fn start_close(&mut self, frame: CloseFrame) -> Result<(), Error> {
        match self.phase {
            Phase::Open => self.send_close(Some(frame)),
            Phase::Closing | Phase::Closed | Phase::Ended => Ok(()),
        }
    }

    /// Waits until the queue has room for another message.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.out.len() >= QUEUED || self.io.is_blocked() {
            return self.poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes and flushes all queued bytes.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.check_idle()?;
        let flushed = ready!(self.poll_write_all(cx, |wakers| &wakers.sender));
        self.forget();
        self.has_failed |= flushed.is_err();
        Poll::Ready(flushed.map_err(|error| Error::codec(error.into())))
    }

    /// Writes as many queued bytes as the IO accepts, and wakes all waiting tasks when the queue is written. `cx` must
    /// hold a waker for all of them.
    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_pending() {
            return Poll::Ready(Ok(()));
        }
        let written = ready!(self.out.poll_write(cx, &mut self.io));
        self.answers = 0;
        // Another task may be waiting for this write.
        self.wakers.wake_by_ref();
        Poll::Ready(written)
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        task: fn(&Wakers) -> &AtomicWaker,
    ) -> Poll<io::Result<()>> {
        if !self.out.is_pending() {
            return Poll::Ready(Ok(()));
        }
        let was_blocked = self.io.is_blocked();
        let mut written = self.out.poll_write(cx, &mut self.io);
        if written.is_pending() {
            task(&self.wakers).register(cx.waker());
            let waker = self.waker();
            written = self
                .out
                .poll_write(&mut Context::from_waker(&waker), &mut self.io);
        }
        let written = ready!(written);
        self.answers = 0;
        if was_blocked {
            // The IO may have woken only this task.
            self.wakers.wake_by_ref();
        }
        Poll::Ready(written)
    }

    /// Ends the WebSocket, and sends the peer a close code if the error has one.
    fn fail(
        &mut self,
        cx: &mut Context<'_>,
        error: tungstenite::Error,
    ) -> Option<Result<Message, Error>> {
        let is_over = match &error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => true,
            // After the peer's close frame, an IO error is a normal end.
            tungstenite::Error::Io(_) => self.has_closed(),
            _ => false,
        };
        if is_over {
            self.phase = Phase::Ended;
            return None;
        }
        self.has_failed = true;
        let error = Error::codec(error);
        if let Some(code) = error.close_code() {
            let _ = self.start_close(CloseFrame::new(code, ""));
            // The end of the session writes the close frame if the IO is blocked now.
            let _ = self.poll_write_all(cx, |wakers| &wakers.receiver);
        }
        self.phase = Phase::Ended;
        Some(Err(error))
    }

    /// Returns whether the peer's close frame has arrived.
    fn has_closed(&self) -> bool {
        self.reader.as_deref().is_some_and(Reader::has_closed)
    }

    /// Returns the codec and a large write buffer to the pools of the thread, if they have no state.
    fn forget(&mut self) {
        self.out.forget();
        let is_needed = self.phase != Phase::Open || !self.io.is_between_messages();
        if let Some(reader) = self.reader.take_if(|_| !is_needed) {
            reader.give_back();
        }
    }
}

fn check_control(size: usize) -> Result<(), Error> {
    match size {
        ..=CONTROL => Ok(()),
        size => Err(Error::too_long(size)),
    }
}

/// Returns the connection's codec, or borrows one from the pool.
fn reader(reader: &mut Option<Box<Reader>>, role: Role, limits: Limits) -> &mut Reader {
    reader.get_or_insert_with(|| Reader::borrow(role, limits))
}

/// Blocking IO for the codec: reads from the frames and writes answers to the queue. Returns `WouldBlock` when pending.
struct Link<'a, 'c> {
    io: &'a mut Frames<Upgraded>,
    cx: &'a mut Context<'c>,
    out: &'a mut WriteQueue,
}

impl Read for Link<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.io).poll_read(self.cx, &mut buf) {
            Poll::Ready(Ok(())) => Ok(buf.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Link<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
