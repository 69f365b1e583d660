//! The write queue of a WebSocket.

use super::{
    frames::Frames,
    reader::{MAX_POOLED, SMALL},
};
use crate::{
    io::pool::{self, Pool},
    session::upgraded::Upgraded,
};
use std::{
    cell::RefCell,
    io::{self, ErrorKind, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

thread_local! {
    static POOL: RefCell<Pool<Vec<u8>>> = const { RefCell::new(Pool::new(MAX_POOLED)) };
}

/// A queue of bytes to write. Accepts every write; reads return nothing.
#[derive(Default)]
pub(super) struct WriteQueue {
    bytes: Vec<u8>,
    written: usize,
    /// Queued bytes have not all been written and flushed.
    is_pending: bool,
}

impl WriteQueue {
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Returns the number of bytes in the buffer, including written ones.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Reserves room for `more` bytes.
    pub(super) fn reserve(&mut self, more: usize) {
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
        io: &mut Frames<Upgraded>,
    ) -> Poll<io::Result<()>> {
        let written = ready!(self.poll_write_all(cx, io));
        self.is_pending = false;
        Poll::Ready(written)
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Frames<Upgraded>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let rest = &self.bytes[self.written..];
            match ready!(Pin::new(&mut *io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.bytes.clear();
        self.written = 0;
        Pin::new(io).poll_flush(cx)
    }
}

impl Read for WriteQueue {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for WriteQueue {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.is_pending = true;
        self.bytes.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
