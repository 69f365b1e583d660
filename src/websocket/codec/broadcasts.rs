//! Broadcasts: moves the messages of the outbox into the write queue.

use super::{Codec, Phase, liveness::Idle};
use crate::websocket::{
    CloseFrame, Error, Message,
    broadcast::{Frame, FrameOutbox, Next},
};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tungstenite::protocol::Role;

/// Queued bytes from which on `poll_broadcasts` writes before it moves more messages. The other messages wait in the
/// outbox, where they are not copied, and a slow consumer may still drop them.
const BATCH: usize = 16 * 1024;

/// An outbox that ends with its codec.
pub(super) struct Attached(Arc<FrameOutbox>);

impl Attached {
    /// Drops all messages, and accepts no more.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.close();
    }
}

impl Codec {
    /// Returns the outbox, which the first call creates.
    pub(in crate::websocket) fn outbox(&mut self) -> Arc<FrameOutbox> {
        if let Some(Attached(outbox)) = &self.outbox {
            return Arc::clone(outbox);
        }
        let outbox = Arc::new(FrameOutbox::new());
        self.outbox = Some(Attached(Arc::clone(&outbox)));
        // The task that subscribes may not be the session's, which must register itself in the outbox.
        if let Some(session) = self.io.io().session() {
            session.wake_task();
        }
        if self.phase != Phase::Open {
            outbox.close();
        }
        outbox
    }

    /// Returns whether a close frame was sent or received, and the WebSocket has not ended.
    pub(in crate::websocket) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Writes messages of the outbox while the IO accepts them, and registers the task for more.
    pub(in crate::websocket) fn poll_broadcasts(&mut self, cx: &mut Context<'_>) {
        let Some(Attached(outbox)) = &self.outbox else {
            return;
        };
        let outbox = Arc::clone(outbox);
        loop {
            if self.phase != Phase::Open {
                outbox.close();
                return;
            }
            match self.poll_write_all(cx, |wakers| &wakers.broadcasts) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    let failed = self.fail(cx, Error::io(error));
                    self.waiting = failed.map(Box::new);
                    self.wakers.wake_all();
                    continue;
                }
                Poll::Pending => {
                    if let Some(code) = outbox.watch(cx) {
                        self.end_too_slow(cx, code);
                    }
                    return;
                }
            }
            while self.out.len() < BATCH && self.phase == Phase::Open {
                match outbox.next(cx) {
                    Next::Send(frame) => self.append(&frame),
                    Next::Wait if self.out.is_pending() => break,
                    Next::Wait => {
                        self.out.release();
                        return;
                    }
                    Next::Close(code) => return self.end_too_slow(cx, code),
                }
            }
        }
    }

    /// Moves all messages of the outbox into the write queue.
    pub(super) fn take_broadcasts(&mut self) {
        let Some(Attached(outbox)) = &self.outbox else {
            return;
        };
        for frame in outbox.take_all() {
            if self.phase == Phase::Open {
                self.append(&frame);
            }
        }
    }

    fn append(&mut self, frame: &Frame) {
        // A client masks each frame, and a close frame changes the state of the codec.
        if self.role == Role::Server {
            if let Some(encoded) = frame.encoded(self.compressor.as_deref_mut()) {
                self.out.push_encoded(encoded.header(), encoded.payload());
                return;
            }
        }
        let message = frame.message().clone();
        let is_close = matches!(message, Message::Close(_));
        // Does not fail: the message is valid and the WebSocket open.
        let _ = self.start_frame(message);
        if is_close {
            // `recv` starts the time limit for the answer.
            self.wakers.wake_all();
        }
    }

    /// Ends the WebSocket of a peer that reads too slowly, and wakes the sending and receiving tasks.
    fn end_too_slow(&mut self, cx: &mut Context<'_>, code: u16) {
        self.has_failed = true;
        let _ = self.start_close(CloseFrame::new(code, ""));
        // The end of the session writes the rest.
        let _ = self.poll_write_all(cx, |wakers| &wakers.broadcasts);
        self.phase = Phase::Ended;
        self.idle = Idle::TooSlow;
        self.waiting = Some(Box::new(Err(Error::too_slow())));
        self.wakers.wake_all();
    }
}
