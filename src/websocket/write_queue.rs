//! The write queue of a WebSocket.

use super::input::Input;
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
use tungstenite::protocol::frame::{Frame, FrameHeader, coding::OpCode};

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
    /// The payload after `bytes`, if it is large.
    payload: Bytes,
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
        self.bytes.len() + self.payload.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, opcode: OpCode, mask: Option<[u8; 4]>, payload: Bytes) {
        self.is_pending = true;
        let header = FrameHeader {
            opcode,
            mask,
            ..FrameHeader::default()
        };
        let previous = std::mem::take(&mut self.payload);
        self.reserve(previous.len());
        self.bytes.extend_from_slice(&previous);
        let formatted = if mask.is_none() && payload.len() >= LARGE {
            let length = payload.len() as u64;
            self.reserve(header.len(length));
            self.payload = payload;
            header.format(length, &mut self.bytes)
        } else {
            let frame = Frame::from_payload(header, payload);
            self.reserve(frame.len());
            frame.format(&mut self.bytes)
        };
        formatted.expect("writing to a vector does not fail");
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
            let in_bytes = self.written.min(self.bytes.len());
            let bufs = [
                IoSlice::new(&self.bytes[in_bytes..]),
                IoSlice::new(&self.payload[self.written - in_bytes..]),
            ];
            // An empty slice must not come first: an IO without vectored writes writes only the first one.
            let bufs = match in_bytes < self.bytes.len() {
                true if self.payload.is_empty() => &bufs[..1],
                true => &bufs[..],
                false => &bufs[1..],
            };
            match ready!(io.poll_write_vectored(cx, bufs))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.bytes.clear();
        self.payload = Bytes::new();
        self.written = 0;
        io.poll_flush(cx)
    }
}
