//! The codec of a WebSocket, shared between the `WebSocket` and its session.

use super::{CloseFrame, broadcast::FrameOutbox, codec::Codec, keep_alive::Liveness};
use crate::{session::state::State, time::within};
use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker, ready},
    time::Duration,
};

/// The codec, shared by a `WebSocket` and its session: the session closes the WebSocket while any task holds it.
pub(super) struct Shared {
    /// `None` once the session closes the WebSocket.
    codec: Mutex<Option<Codec>>,
    /// Whether the WebSocket was ever subscribed to a broadcast.
    has_outbox: AtomicBool,
    /// The time limit for the peer to answer a close frame.
    close_timeout: Duration,
}

impl Shared {
    pub(super) fn new(codec: Codec, close_timeout: Duration) -> Self {
        let codec = Mutex::new(Some(codec));
        Self {
            codec,
            has_outbox: AtomicBool::new(false),
            close_timeout,
        }
    }

    /// Returns the queue of broadcasts, closed if the session is closing the WebSocket.
    pub(super) fn outbox(&self) -> Arc<FrameOutbox> {
        match &mut *self.lock() {
            Some(codec) => {
                self.has_outbox.store(true, Ordering::Relaxed);
                codec.outbox()
            }
            None => {
                let outbox = FrameOutbox::new();
                outbox.close();
                Arc::new(outbox)
            }
        }
    }

    /// Writes queued broadcasts.
    pub(super) fn poll_broadcasts(&self, cx: &mut Context<'_>) {
        if self.has_outbox.load(Ordering::Relaxed) {
            if let Some(codec) = &mut *self.lock() {
                codec.poll_broadcasts(cx);
            }
        }
    }

    /// Prepares the codec for a [`KeepAlive`].
    pub(super) fn watch(&self) {
        if let Some(codec) = &mut *self.lock() {
            codec.watch();
        }
    }

    /// Returns a waker that wakes all tasks that wait for the IO.
    pub(super) fn waker(&self) -> Option<Waker> {
        self.lock().as_ref().map(Codec::waker)
    }

    /// Returns the signs of life from the peer, or `None` if the session is closing the WebSocket.
    pub(super) fn check_liveness(&self) -> Option<Liveness> {
        Some(self.lock().as_mut()?.check_liveness())
    }

    pub(super) fn ping(&self) {
        if let Some(codec) = &mut *self.lock() {
            codec.ping();
        }
    }

    /// Ends the WebSocket of a silent peer: sending and receiving fail in all tasks.
    pub(super) fn end_idle(&self) {
        if let Some(codec) = &mut *self.lock() {
            codec.end_idle();
        }
    }

    /// Returns whether this WebSocket failed. The handler may return the error of another WebSocket, for example of its
    /// client connection to another server.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().as_ref().is_some_and(Codec::has_failed)
    }

    /// Returns the time limit for the peer to answer a close frame.
    pub(super) fn close_timeout(&self) -> Duration {
        self.close_timeout
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Codec>> {
        self.codec.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the WebSocket of a session, and waits for the peer's answer. Other tasks that hold the WebSocket can no
    /// longer use it.
    pub(super) async fn close(&self, session: &State, code: u16) {
        let Some(mut codec) = self.lock().take() else {
            return;
        };
        session.wake_io();
        if codec.is_idle() {
            // A silent peer does not read the close frame or answer it.
            return;
        }
        // Does not fail: the frame is valid.
        let _ = codec.start_close(CloseFrame::new(code, ""));
        let answer = poll_fn(|cx| {
            while let Some(Ok(_)) = ready!(codec.poll_next(cx)) {}
            // The close frame sent on an error may not be written yet.
            codec.poll_flush_rest(cx)
        });
        within(self.close_timeout, answer).await;
    }
}
