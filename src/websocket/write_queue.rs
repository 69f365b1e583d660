//! The write queue of a WebSocket.

use super::{input::Input, mask};
use crate::{
    io::pool::{self, Pool},
    session::upgraded::Upgraded,
};
use bytes::Bytes;
use std::{
    cell::RefCell,
    io::{self, ErrorKind, IoSlice},
    task::{Context, Poll, ready},
};
use tungstenite::protocol::frame::FrameHeader;

/// The maximum size of a small buffer, in bytes, which an idle session may keep.
pub(super) const SMALL: usize = 2 * 1024;

/// The maximum number of pooled bytes per thread.
const MAX_POOLED: usize = 1024 * 1024;

/// The payload length from which on a payload is written from its own memory. A shorter one is copied, to be written
/// together with other frames.
const LARGE: usize = 16 * 1024;

thread_local! {
    static POOL: RefCell<Pool<Vec<u8>>> = const { RefCell::new(Pool::new(MAX_POOLED)) };
}

/// A queue of frames to write.
#[derive(Default)]
pub(super) struct WriteQueue {
    bytes: Vec<u8>,
    /// The payload after `bytes`, if it is large. Boxed, because an idle session has none.
    large: Option<Box<Bytes>>,
    /// The number of bytes of both that are written.
    written: usize,
    /// Queued bytes have not all been written and flushed.
    is_pending: bool,
}

impl WriteQueue {
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Returns the number of bytes in the queue, including written ones.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.large.as_ref().map_or(0, |large| large.len())
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, header: FrameHeader, payload: Bytes) {
        self.is_pending = true;
        self.copy_large();
        let length = payload.len() as u64;
        let is_large = header.mask.is_none() && payload.len() >= LARGE;
        let copied = if is_large { 0 } else { payload.len() };
        self.reserve(header.len(length) + copied);
        header
            .format(length, &mut self.bytes)
            .expect("writing to a vector does not fail");
        if is_large {
            self.large = Some(Box::new(payload));
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&payload);
        if let Some(mask) = header.mask {
            mask::apply(&mut self.bytes[start..], mask, 0);
        }
    }

    /// Adds an unmasked frame whose header is encoded.
    pub(super) fn push_encoded(&mut self, header: &[u8], payload: Bytes) {
        self.is_pending = true;
        self.copy_large();
        let is_large = payload.len() >= LARGE;
        let copied = if is_large { 0 } else { payload.len() };
        self.reserve(header.len() + copied);
        self.bytes.extend_from_slice(header);
        if is_large {
            self.large = Some(Box::new(payload));
        } else {
            self.bytes.extend_from_slice(&payload);
        }
    }

    /// Makes room for a large payload after the frames in the queue.
    fn copy_large(&mut self) {
        if let Some(previous) = self.large.take() {
            self.reserve(previous.len());
            self.bytes.extend_from_slice(&previous);
        }
    }

    /// Reserves room for `more` bytes.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > SMALL && needed > self.bytes.capacity() {
            if let Some(mut large) = pool::borrow(&POOL) {
                large.extend_from_slice(&self.bytes);
                self.bytes = large;
            }
        }
        self.bytes.reserve(more);
    }

    /// Returns a large buffer to the pool of the thread, unless bytes are pending.
    pub(super) fn release(&mut self) {
        if !self.is_pending && self.bytes.capacity() > SMALL {
            let Self { mut bytes, .. } = std::mem::take(self);
            // Discard bytes that could not be written.
            bytes.clear();
            let capacity = bytes.capacity();
            pool::give_back(&POOL, bytes, capacity);
        }
    }

    /// Writes and flushes all queued bytes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Input<Upgraded>,
    ) -> Poll<io::Result<()>> {
        let written = ready!(self.poll_write_all(cx, io));
        self.is_pending = false;
        Poll::Ready(written)
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Input<Upgraded>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.len() {
            let large = self.large.as_deref().map_or(&[][..], |large| large);
            let written = match self.bytes.get(self.written..) {
                Some(bytes @ [_, ..]) if large.is_empty() => io.poll_write(cx, bytes),
                Some(bytes @ [_, ..]) => {
                    io.poll_write_vectored(cx, &[IoSlice::new(bytes), IoSlice::new(large)])
                }
                _ => io.poll_write(cx, &large[self.written - self.bytes.len()..]),
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.bytes.clear();
        self.large = None;
        self.written = 0;
        io.poll_flush(cx)
    }
}
