//! The codec, and its memory.

use super::{CloseFrame, Error, Message, frames::Frames};
use crate::Upgraded;
use futures_util::task::AtomicWaker;
use std::{
    io::{self, ErrorKind, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// How large a message may be for the codec to be kept behind it. A larger one leaves larger buffers.
const KEPT: usize = 2 * 1024;

/// How large a control frame may be, whatever a message may be (RFC 6455 §5.5).
const CONTROL: usize = 125;

/// How much may be queued before it has to be written.
const QUEUED: usize = 64 * 1024;

/// What the codec reads at a time. It clears as much each time.
const READ: usize = 1024;

/// What a peer may send, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) message: usize,
    pub(super) frame: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 1024 * 1024,
            frame: 1024 * 1024,
        }
    }
}

/// tungstenite's codec around an IO. It is there only while it has something to remember: its buffers grow with
/// messages, and do not shrink.
pub(super) struct Codec {
    io: Frames<Upgraded>,
    context: Option<Box<WebSocketContext>>,
    role: Role,
    limits: Limits,
    /// The largest message that its buffers have seen.
    largest: usize,
    /// How much was handed to it since all was written.
    queued: usize,
    /// It has something to say of its own accord.
    has_answer: bool,
    /// A close frame went one way or the other: from then on it cannot be made anew.
    is_closing: bool,
    /// Nothing can be read any more.
    is_ended: bool,
    writers: Arc<Writers>,
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
            context: None,
            role,
            limits,
            largest: 0,
            queued: 0,
            has_answer: false,
            is_closing: false,
            is_ended: false,
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
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(self.fail(cx, error));
        }
        if self.is_ended {
            return Poll::Ready(None);
        }
        if !self.is_closing {
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
        match ready!(self.with(cx, |context, io| context.read(io))) {
            Ok(message) => {
                self.is_closing |= message.is_close();
                self.has_answer |= message.is_close() || message.is_ping();
                self.largest = self.largest.max(message.len());
                Poll::Ready(Some(Ok(Message::from_codec(message))))
            }
            Err(error) => Poll::Ready(self.fail(cx, error)),
        }
    }

    /// Ends it: the peer is not there any more.
    pub(super) fn idle(&mut self) -> Error {
        self.is_ended = true;
        Error::idle()
    }

    /// Queues a message.
    pub(super) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        if self.is_ended {
            return Err(Error::closed());
        }
        let message = message.into_codec();
        self.is_closing |= message.is_close();
        self.largest = self.largest.max(message.len());
        self.queued += message.len().max(1);
        match self.context().write(&mut Queueing, message) {
            Err(tungstenite::Error::Io(error)) if is_would_block(&error) => Ok(()),
            written => written.map_err(Error::codec),
        }
    }

    /// Begins to close, unless that has begun.
    pub(super) fn start_close(&mut self, frame: CloseFrame) {
        if !self.is_closing && !self.is_ended {
            // Nothing is wrong with it.
            let _ = self.start_send(Message::Close(Some(frame)));
        }
    }

    /// Waits until there is room for another message.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.queued >= QUEUED || self.io.is_blocked() {
            return self.poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all that is queued.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let flushed = ready!(self.poll_write_all(cx, |writers| &writers.sender));
        Poll::Ready(flushed.map_err(Error::codec))
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        task: fn(&Writers) -> &AtomicWaker,
    ) -> Poll<Result<(), tungstenite::Error>> {
        if self.queued == 0 && !self.has_answer {
            return Poll::Ready(Ok(()));
        }
        let mut written = self.with(cx, |context, io| context.flush(io));
        if written.is_pending() {
            task(&self.writers).register(cx.waker());
            let writers = Waker::from(Arc::clone(&self.writers));
            written = self.with(&mut Context::from_waker(&writers), |context, io| {
                context.flush(io)
            });
        }
        let written = ready!(written);
        self.queued = 0;
        self.has_answer = false;
        match written {
            // The peer's close frame is answered.
            Err(tungstenite::Error::ConnectionClosed) => {
                self.is_ended = true;
                Poll::Ready(Ok(()))
            }
            written => Poll::Ready(written),
        }
    }

    /// Ends it, and tells the peer why if it was the peer's mistake.
    fn fail(
        &mut self,
        cx: &mut Context<'_>,
        error: tungstenite::Error,
    ) -> Option<Result<Message, Error>> {
        let error = match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                self.is_ended = true;
                return None;
            }
            error => Error::codec(error),
        };
        if let Some(code) = error.close_code() {
            self.start_close(CloseFrame::new(code, ""));
            // If it cannot be written now, it is when the session ends.
            let _ = self.poll_write_all(cx, |writers| &writers.receiver);
        }
        self.is_ended = true;
        Some(Err(error))
    }

    /// Drops the codec with its buffers, if they are large and there is nothing in them.
    fn forget(&mut self) {
        let is_needed =
            self.is_closing || self.queued > 0 || self.has_answer || !self.io.is_between_messages();
        if self.largest > KEPT && !is_needed {
            self.context = None;
            self.largest = 0;
        }
    }

    fn context(&mut self) -> &mut WebSocketContext {
        let Limits { message, frame } = self.limits;
        // A frame that is longer than its message may be need not be read to be refused.
        let frame = frame.min(message.max(CONTROL));
        self.context.get_or_insert_with(|| {
            let config = WebSocketConfig::default()
                .read_buffer_size(READ)
                .write_buffer_size(0)
                .max_write_buffer_size(usize::MAX)
                .max_message_size(Some(message))
                .max_frame_size(Some(frame));
            Box::new(WebSocketContext::new(self.role, Some(config)))
        })
    }

    fn with<R>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut WebSocketContext, &mut Blocking<'_, '_>) -> tungstenite::Result<R>,
    ) -> Poll<tungstenite::Result<R>> {
        self.context();
        let Some(context) = &mut self.context else {
            unreachable!("it was made the line before");
        };
        let io = &mut self.io;
        match call(context, &mut Blocking { io, cx }) {
            Err(tungstenite::Error::Io(error)) if is_would_block(&error) => Poll::Pending,
            result => Poll::Ready(result),
        }
    }
}

fn is_would_block(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

fn ready_or_would_block<R>(poll: Poll<io::Result<R>>) -> io::Result<R> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

/// tungstenite wants blocking IO, and takes `WouldBlock` for an answer.
struct Blocking<'a, 'c> {
    io: &'a mut Frames<Upgraded>,
    cx: &'a mut Context<'c>,
}

impl Read for Blocking<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        ready_or_would_block(Pin::new(&mut *self.io).poll_read(self.cx, &mut buf))?;
        Ok(buf.filled().len())
    }
}

impl Write for Blocking<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        ready_or_would_block(Pin::new(&mut *self.io).poll_write(self.cx, buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        ready_or_would_block(Pin::new(&mut *self.io).poll_flush(self.cx))
    }
}

/// An IO that takes nothing, so that what is written stays in the codec.
struct Queueing;

impl Read for Queueing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Queueing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(ErrorKind::WouldBlock.into())
    }
}
