//! Keep-alive: pings, the peer's signs of life, and the end of a silent peer's WebSocket.

use super::{Codec, Phase};
use crate::websocket::{Error, Message, keep_alive::Liveness};
use bytes::Bytes;
use std::task::{Context, Poll};

/// Maximum number of control frames that one `check_liveness` reads on behalf of a handler that does not receive.
const MAX_CONTROL_FRAMES: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    No,
    Unreported,
    Reported,
    /// The peer read broadcasts too slowly.
    TooSlow,
}

impl Codec {
    /// Prepares for [`check_liveness`](Self::check_liveness).
    pub(in crate::websocket) fn watch(&mut self) {
        self.is_watched = true;
    }

    /// Reads on behalf of a handler that does not receive, to see pongs, and returns the peer's signs of life.
    ///
    /// Pings are answered. One message is kept for the next call of [`poll_next`](Self::poll_next), and reading stops
    /// after that message.
    pub(in crate::websocket) fn check_liveness(&mut self) -> Liveness {
        // The IO keeps one waker per direction: register the sending and receiving tasks, not the current one.
        let waker = self.waker();
        let cx = &mut Context::from_waker(&waker);
        // A peer that floods the connection must not keep this loop running.
        for _ in 0..MAX_CONTROL_FRAMES {
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
    pub(in crate::websocket) fn ping(&mut self) {
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

    /// Ends the WebSocket of a silent peer, and wakes the sending and receiving tasks.
    pub(in crate::websocket) fn end_idle(&mut self) {
        self.has_failed = true;
        self.phase = Phase::Ended;
        self.idle = Idle::Unreported;
        self.wakers.wake_all();
    }

    /// Returns whether the peer was silent for too long.
    pub(in crate::websocket) fn is_idle(&self) -> bool {
        matches!(self.idle, Idle::Unreported | Idle::Reported)
    }

    pub(super) fn check_idle(&self) -> Result<(), Error> {
        match self.idle {
            Idle::No => Ok(()),
            Idle::Unreported | Idle::Reported => Err(Error::idle()),
            Idle::TooSlow => Err(Error::too_slow()),
        }
    }
}
