//! The WebSocket codec of one connection, with its queues and buffers.

mod broadcasts;
mod liveness;
mod send;
mod wakers;

use self::{broadcasts::Attached, liveness::Idle, wakers::Wakers};
use super::{
    CloseFrame, Error, ErrorKind, Message,
    deflate::{Compression, Compressor},
    input::Input,
    reader::{Limits, Reader},
    write_queue::WriteQueue,
};
use crate::session::upgraded::Upgraded;
use std::{
    io,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};
use tungstenite::protocol::{
    Role,
    frame::coding::{Control, OpCode},
};

/// Queued bytes of answers (pongs, close frames) from which on the codec stops reading from a peer that does not read.
const MAX_QUEUED_ANSWERS: usize = 16 * 1024;

/// The messages of one connection, over its IO.
///
/// Between messages the codec holds no memory for them: neither a read buffer, which is in the pool of the thread, nor
/// the state of a message.
pub(super) struct Codec {
    io: Input<Upgraded>,
    reader: Reader,
    /// `None` if messages are sent uncompressed.
    compressor: Option<Box<Compressor>>,
    role: Role,
    out: WriteQueue,
    /// Bytes of answers to the peer in `out`.
    answers: usize,
    phase: Phase,
    /// The peer's close frame has arrived.
    has_closed: bool,
    has_failed: bool,
    /// Whether the peer was silent for too long: `recv` returns the error once, `send` always.
    idle: Idle,
    /// A message or an error that `check_liveness` read while the handler did not receive.
    waiting: Option<Box<Result<Message, Error>>>,
    /// Whether `check_liveness` reads too: a receiving task then registers a waker, since `check_liveness` may read its
    /// message.
    is_watched: bool,
    wakers: Arc<Wakers>,
    /// `Some` after the first subscription to a broadcast.
    outbox: Option<Attached>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// A close frame was sent.
    Closing,
    /// Both close frames were sent, and this is the server: the connection ends when all bytes are written.
    Closed,
    /// The codec receives no more messages.
    Ended,
}

impl Codec {
    pub(super) fn new(
        io: Upgraded,
        role: Role,
        limits: Limits,
        compression: Option<Compression>,
    ) -> Self {
        let (compressor, inflater) = match compression {
            Some(compression) => (compression.compressor, Some(compression.inflater)),
            None => (None, None),
        };
        Self {
            io: Input::new(io),
            reader: Reader::new(role, limits, inflater),
            compressor,
            role,
            out: WriteQueue::default(),
            answers: 0,
            phase: Phase::Open,
            has_closed: false,
            has_failed: false,
            idle: Idle::No,
            waiting: None,
            is_watched: false,
            wakers: Arc::default(),
            outbox: None,
        }
    }

    /// Returns a waker for all tasks that wait for the IO.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.wakers))
    }

    /// Receives the next message, and answers pings and the peer's close frame.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        if self.idle == Idle::Unreported {
            self.idle = Idle::Reported;
            return Poll::Ready(Some(Err(Error::idle())));
        }
        if let Some(waiting) = self.waiting.take() {
            return Poll::Ready(Some(*waiting));
        }
        if self.is_watched || self.outbox.is_some() {
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
        if self.is_watched || self.outbox.is_some() {
            self.wakers.receiver.register(cx.waker());
        }
        match self.poll_write_all(cx, |wakers| &wakers.receiver) {
            Poll::Ready(Err(error)) => Poll::Ready(self.fail(cx, Error::io(error))),
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
            return Poll::Ready(self.fail(cx, Error::io(error)));
        }
        match self.phase {
            Phase::Open if self.answers >= MAX_QUEUED_ANSWERS => return Poll::Pending,
            Phase::Open | Phase::Closing => {}
            Phase::Closed => return written.map(|_| None),
            Phase::Ended => return Poll::Ready(None),
        }
        let read = match self.poll_message(cx) {
            Poll::Ready(read) => read,
            Poll::Pending => {
                self.out.release();
                match self.reader.check_text() {
                    Ok(()) => return Poll::Pending,
                    Err(error) => Err(error),
                }
            }
        };
        Poll::Ready(match read.and_then(|message| self.answer(message)) {
            Ok(message) => Some(Ok(message)),
            Err(error) => self.fail(cx, error),
        })
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        loop {
            if self.has_closed {
                // The peer sends nothing after its close frame, and what it sends is discarded (RFC 6455 §1.4).
                self.io.ahead.clear();
                match ready!(self.io.poll_fill(cx)).map_err(Error::io)? {
                    true => continue,
                    false => return Poll::Ready(Err(Error::no_close_frame())),
                }
            }
            if let Some(message) = self.reader.read(&mut self.io.ahead)? {
                return Poll::Ready(Ok(message));
            }
            let read = match self.reader.rest() {
                Some(mut room) => {
                    let length = ready!(self.io.poll_read_into(cx, room.buffer()));
                    let length = length.map_err(Error::io)?;
                    if let Some(message) = self.reader.received(length)? {
                        return Poll::Ready(Ok(message));
                    }
                    length > 0
                }
                None => ready!(self.io.poll_fill(cx)).map_err(Error::io)?,
            };
            if !read {
                return Poll::Ready(Err(Error::no_close_frame()));
            }
        }
    }

    /// Queues the answer to a ping or a close frame.
    fn answer(&mut self, message: Message) -> Result<Message, Error> {
        let before = self.out.len();
        match &message {
            Message::Ping(payload) if self.phase == Phase::Open => {
                self.queue(OpCode::Control(Control::Pong), payload.clone());
            }
            Message::Close(frame) => {
                self.has_closed = true;
                if self.phase == Phase::Open {
                    self.queue_close(frame.as_ref());
                }
                // The server ends the connection (RFC 6455 §7.1.1).
                if self.role == Role::Server {
                    self.phase = Phase::Closed;
                }
            }
            _ => {}
        }
        self.answers += self.out.len() - before;
        Ok(message)
    }

    /// Returns whether a close frame can be written to the IO: no close frame was sent, and all frames are written.
    pub(super) fn can_close(&self) -> bool {
        self.phase == Phase::Open && !self.out.is_pending()
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

    /// Ends the WebSocket after the peer's time to close. Returns an error if the peer's close frame has not arrived.
    pub(super) fn give_up<T>(&mut self) -> Option<Result<T, Error>> {
        self.has_failed |= !self.has_closed;
        self.phase = Phase::Ended;
        (!self.has_closed).then(|| Err(Error::unanswered()))
    }

    /// Ends the WebSocket, and sends the peer a close code if the error has one.
    fn fail(&mut self, cx: &mut Context<'_>, error: Error) -> Option<Result<Message, Error>> {
        // After the peer's close frame, any end of the connection is orderly.
        if self.has_closed && error.kind() == ErrorKind::Io {
            self.phase = Phase::Ended;
            return None;
        }
        self.has_failed = true;
        if let Some(code) = error.close_code() {
            let _ = self.start_close(CloseFrame::new(code, ""));
            // The end of the session writes the close frame if the IO is blocked now.
            let _ = self.poll_write_all(cx, |wakers| &wakers.receiver);
        }
        self.phase = Phase::Ended;
        Some(Err(error))
    }
}

#[cfg(test)]
mod tests;
