//! The codec, and its memory.

use super::{
    CloseFrame, Error, Message,
    frames::Frames,
    out::Out,
    reader::{CONTROL, Limits, Reader},
};
use crate::Upgraded;
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
    writers: Arc<Writers>,
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

/// Who waits to write: it may be two tasks, of which the IO knows one.
#[derive(Default)]
struct Writers {
    /// It sends messages.
    sender: AtomicWaker,
    /// It receives messages, and answers some.
    receiver: AtomicWaker,
}

impl Wake for Writers {
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
            writers: Arc::default(),
        }
    }

    /// Whether anything came since this was last asked.
    pub(super) fn has_heard(&mut self) -> bool {
        self.io.has_read()
    }

    /// The next message. Pings and the peer's close frame are answered.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        // Whether it can be written now or not, there may be something to read.
        let written = self.poll_write_all(cx, |writers| &writers.receiver);
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

    /// Ends it: the peer is not there any more.
    pub(super) fn idle(&mut self) -> Error {
        self.has_failed = true;
        self.phase = Phase::Ended;
        Error::idle()
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
        let flushed = ready!(self.poll_write_all(cx, |writers| &writers.sender));
        self.forget();
        self.has_failed |= flushed.is_err();
        Poll::Ready(flushed.map_err(|error| Error::codec(error.into())))
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        task: fn(&Writers) -> &AtomicWaker,
    ) -> Poll<io::Result<()>> {
        if !self.out.is_pending() {
            return Poll::Ready(Ok(()));
        }
        let was_blocked = self.io.is_blocked();
        let mut written = self.out.poll_write(cx, &mut self.io);
        if written.is_pending() {
            task(&self.writers).register(cx.waker());
            let writers = Waker::from(Arc::clone(&self.writers));
            written = self
                .out
                .poll_write(&mut Context::from_waker(&writers), &mut self.io);
        }
        let written = ready!(written);
        self.answers = 0;
        if was_blocked {
            // The IO may have told this task alone.
            self.writers.wake_by_ref();
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
            let _ = self.poll_write_all(cx, |writers| &writers.receiver);
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
