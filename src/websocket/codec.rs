//! The codec, and its memory.

use super::{
    CloseFrame, Error, Message,
    frames::Frames,
    keep_alive::Signs,
    out::Out,
    reader::{CONTROL, Limits, Reader},
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

/// How much may be queued before it has to be written.
const QUEUED: usize = 64 * 1024;

/// How much may be queued of answers to a peer that does not read them, before nothing more is read of it.
const ANSWERS: usize = 16 * 1024;

/// How many control frames are read at one look, on behalf of a handler that does not receive.
const MOST_CONTROL_FRAMES: usize = 64;

/// tungstenite's codec around an IO. It is there only while it has something to remember: between messages it is the
/// thread's, and reads the next one that comes to any session.
///
/// It reads frames, and answers them. What is sent goes past it, but for close frames, which it has to know of.
pub(super) struct Codec {
    io: Frames<Upgraded>,
    reader: Option<Box<Reader>>,
    role: Role,
    limits: Limits,
    out: Out,
    /// How much of what is queued are answers to the peer.
    answers: usize,
    phase: Phase,
    has_failed: bool,
    /// The peer was silent for too long: `recv` says so once, and `send` always.
    idle: Idle,
    /// A message that was read while nothing received, or the error.
    waiting: Option<Box<Result<Message, Error>>>,
    /// Tasks that read are woken when another one has read.
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
    /// A close frame went one way or the other: from then on the codec cannot be made anew.
    Closing,
    /// The client's close frame is answered: it is over when that is written.
    Closed,
    /// Nothing is received any more.
    Ended,
}

/// The tasks that wait for the IO: it may be two, of which the IO knows the last.
#[derive(Default)]
struct Wakers {
    /// It sends messages.
    sender: AtomicWaker,
    /// It receives messages, and answers some.
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
            out: Out::default(),
            answers: 0,
            phase: Phase::Open,
            has_failed: false,
            idle: Idle::No,
            waiting: None,
            is_watched: false,
            wakers: Arc::default(),
        }
    }

    /// A waker of the tasks that wait for the IO.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.wakers))
    }

    /// Prepares for [`look`](Self::look).
    pub(super) fn watch(&mut self) {
        self.is_watched = true;
    }

    /// Reads on behalf of a handler that does not receive, so that a pong is seen, and says what was noticed of the peer.
    ///
    /// Pings are answered. One message is kept for the next call of [`poll_next`](Self::poll_next), and nothing is read
    /// behind it.
    pub(super) fn look(&mut self) -> Signs {
        // The IO knows one task for each direction: it wakes those that send and receive, and not the one that looks.
        let waker = self.waker();
        let cx = &mut Context::from_waker(&waker);
        // A peer that floods is not read on and on.
        for _ in 0..MOST_CONTROL_FRAMES {
            // A message whose `send` was dropped half-way is written on.
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
        Signs {
            has_read: self.io.has_read(),
            // A handler that has not received the end waits elsewhere, perhaps for ever.
            is_behind: match self.waiting.as_deref() {
                Some(received) => matches!(received, Ok(Message::Text(_) | Message::Binary(_))),
                None => self.phase != Phase::Open,
            },
            has_unblocked: self.io.has_unblocked(),
            is_blocked: self.io.is_blocked() && self.out.is_pending(),
        }
    }

    /// Sends a ping, or as much of it as can be written now.
    pub(super) fn ping(&mut self) {
        // If it is closed there is nothing to wait for.
        if self.start_send(Message::Ping(Bytes::new())).is_ok() {
            // The tasks that send and receive go on with the rest, and so does the next look.
            let waker = self.waker();
            let written = self.poll_write_some(&mut Context::from_waker(&waker));
            if let Poll::Ready(Err(_)) = written {
                self.has_failed = true;
            }
        }
    }

    /// The next message. Pings and the peer's close frame are answered.
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
        // Whether it can be written now or not, there may be something to read.
        let written = self.poll_write_all(cx, |wakers| &wakers.receiver);
        self.poll_read(cx, written)
    }

    /// Receives nothing, but for the end of a peer that is silent, and writes what is queued.
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
                // The codec clears its buffer before each read, so it is asked when there is something to
                // read. At the end there is nothing: it says what that means.
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

    /// Queues what the codec answers.
    fn answer(&mut self, message: &Message) {
        let before = self.out.len();
        let reader = reader(&mut self.reader, self.role, self.limits);
        let flushed = reader.flush(&mut self.out);
        self.answers += self.out.len() - before;
        if matches!(message, Message::Close(_)) {
            self.phase = match flushed {
                // The server is the one to end the connection.
                Err(tungstenite::Error::ConnectionClosed) => Phase::Closed,
                _ => Phase::Closing,
            };
        }
    }

    /// Whether the connection or the peer failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Ends it: the peer sent too much, and is told.
    pub(super) fn end_rate_limited(&mut self, cx: &mut Context<'_>) -> Error {
        self.has_failed = true;
        let _ = self.start_close(CloseFrame::new(1008, ""));
        // What cannot be written now is when the session ends.
        let _ = self.poll_write_all(cx, |wakers| &wakers.receiver);
        self.phase = Phase::Ended;
        Error::rate_limited()
    }

    /// Ends it: the peer is silent. The tasks that send and receive are told.
    pub(super) fn end_idle(&mut self) {
        self.has_failed = true;
        self.phase = Phase::Ended;
        self.idle = Idle::Untold;
        self.wakers.wake_by_ref();
    }

    /// Whether the peer was silent for too long.
    pub(super) fn is_idle(&self) -> bool {
        self.idle != Idle::No
    }

    fn check_idle(&self) -> Result<(), Error> {
        match self.is_idle() {
            true => Err(Error::idle()),
            false => Ok(()),
        }
    }

    /// Ends it: the peer had its time to close. It has closed, if its close frame has come.
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

    /// Begins to close, unless that has begun. It fails only where something is wrong with the frame.
    pub(super) fn start_close(&mut self, frame: CloseFrame) -> Result<(), Error> {
        match self.phase {
            Phase::Open => self.send_close(Some(frame)),
            Phase::Closing | Phase::Closed | Phase::Ended => Ok(()),
        }
    }

    /// Waits until there is room for another message.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.out.len() >= QUEUED || self.io.is_blocked() {
            return self.poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all that is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.check_idle()?;
        let flushed = ready!(self.poll_write_all(cx, |wakers| &wakers.sender));
        self.forget();
        self.has_failed |= flushed.is_err();
        Poll::Ready(flushed.map_err(|error| Error::codec(error.into())))
    }

    /// Writes as much as can be written, with a waker of all tasks that wait.
    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_pending() {
            return Poll::Ready(Ok(()));
        }
        let written = ready!(self.out.poll_write(cx, &mut self.io));
        self.answers = 0;
        // A task may wait for what was written here.
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
            // The IO may have told this task alone.
            self.wakers.wake_by_ref();
        }
        Poll::Ready(written)
    }

    /// Ends it, and tells the peer why if it was the peer's mistake.
    fn fail(
        &mut self,
        cx: &mut Context<'_>,
        error: tungstenite::Error,
    ) -> Option<Result<Message, Error>> {
        let is_over = match &error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => true,
            // How the connection ends does not matter any more.
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
            // If it cannot be written now, it is when the session ends.
            let _ = self.poll_write_all(cx, |wakers| &wakers.receiver);
        }
        self.phase = Phase::Ended;
        Some(Err(error))
    }

    /// Whether the peer's close frame has come.
    fn has_closed(&self) -> bool {
        self.reader.as_deref().is_some_and(Reader::has_closed)
    }

    /// Leaves the codec, and a buffer that is large, to the thread if there is nothing in them.
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

/// The codec, another one if it is not there.
fn reader(reader: &mut Option<Box<Reader>>, role: Role, limits: Limits) -> &mut Reader {
    reader.get_or_insert_with(|| Reader::borrow(role, limits))
}

/// What the codec reads from, and where it answers. It wants blocking IO, and takes `WouldBlock` for an answer.
struct Link<'a, 'c> {
    io: &'a mut Frames<Upgraded>,
    cx: &'a mut Context<'c>,
    out: &'a mut Out,
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
