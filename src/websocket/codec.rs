//! The WebSocket codec of one connection, with its queues and buffers.

mod link;
mod liveness;
mod send;
mod wakers;

use self::{link::Link, liveness::Idle, wakers::Wakers};
use super::{
    CloseFrame, Error, Message,
    frames::Frames,
    reader::{Limits, Reader},
    write_queue::WriteQueue,
};
use crate::session::upgraded::Upgraded;
use std::{
    io::{self, ErrorKind},
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tungstenite::protocol::Role;

/// Queued bytes of answers (pongs, close frames) from which on the codec stops reading from a peer that does not read.
const MAX_QUEUED_ANSWERS: usize = 16 * 1024;

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
    /// Whether `check_liveness` reads too: a receiving task then registers a waker, since `check_liveness` may read its
    /// message.
    is_watched: bool,
    wakers: Arc<Wakers>,
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
                if self.answers >= MAX_QUEUED_ANSWERS {
                    return Poll::Pending;
                }
                // The codec clears its buffer before each read, so call it only when bytes have arrived, or at
                // the end of the stream, where the codec returns the right error.
                match self.io.poll_fill(cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(self.fail(cx, error.into())),
                    Poll::Pending => {
                        self.release();
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
        let has_closed = self.has_closed();
        self.has_failed |= !has_closed;
        self.phase = Phase::Ended;
        (!has_closed).then(|| Err(Error::unanswered()))
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
    fn release(&mut self) {
        self.out.release();
        let is_needed = self.phase != Phase::Open || !self.io.is_between_messages();
        if let Some(reader) = self.reader.take_if(|_| !is_needed) {
            reader.give_back();
        }
    }
}

/// Returns the connection's codec, or borrows one from the pool.
fn reader(reader: &mut Option<Box<Reader>>, role: Role, limits: Limits) -> &mut Reader {
    reader.get_or_insert_with(|| Reader::borrow(role, limits))
}

#[cfg(test)]
mod tests;
