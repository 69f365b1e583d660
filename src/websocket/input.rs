//! The IO of a WebSocket, and the bytes that were read before they were needed.

use crate::io::buffer::{BYTES, Buffer};
use bytes::{BufMut, Bytes};
use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// An IO whose reads fill a buffer of the thread's pool, which is returned once all its bytes are used.
pub(super) struct Input<T> {
    io: T,
    pub(super) ahead: Ahead,
    /// The last write or flush was pending.
    is_blocked: bool,
    has_read: bool,
    /// A blocked write has made progress.
    has_unblocked: bool,
}

impl<T> Input<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            ahead: Ahead::default(),
            is_blocked: false,
            has_read: false,
            has_unblocked: false,
        }
    }

    pub(super) fn io(&self) -> &T {
        &self.io
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Returns whether the IO was read since the last call.
    pub(super) fn has_read(&mut self) -> bool {
        std::mem::take(&mut self.has_read)
    }

    /// Returns whether a blocked write has made progress since the last call.
    pub(super) fn has_unblocked(&mut self) -> bool {
        std::mem::take(&mut self.has_unblocked)
    }
}

impl<T: AsyncRead + Unpin> Input<T> {
    /// Waits for bytes, and puts them into `ahead`, which must be empty. Returns `false` at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut buffer = Buffer::borrow();
        let mut read_buf = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read_buf))?;
        let end = read_buf.filled().len();
        self.has_read = true;
        if end > 0 {
            self.ahead = Ahead::new(buffer, end);
        }
        Poll::Ready(Ok(end > 0))
    }

    /// Reads into `room`, past `ahead`, which must be empty. Returns the number of bytes, which is 0 at the end of the
    /// stream.
    pub(super) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut dyn BufMut,
    ) -> Poll<io::Result<usize>> {
        let length = ready!(pin!(self.io.read_buf(room)).poll(cx))?;
        self.has_read = true;
        Poll::Ready(Ok(length))
    }
}

impl<T: AsyncWrite + Unpin> Input<T> {
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.after_write(written)
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.after_write(written)
    }

    fn after_write(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.has_unblocked |= self.is_blocked && matches!(written, Poll::Ready(Ok(1..)));
        self.is_blocked = written.is_pending();
        written
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.is_blocked = flushed.is_pending();
        flushed
    }
}

/// Bytes that were read, in a buffer of the thread's pool. The buffer returns to the pool with the last byte.
#[derive(Default)]
pub(super) struct Ahead {
    buffer: Option<Buffer>,
    start: u32,
    end: u32,
}

// The offsets are of 32 bits, because an idle session keeps them.
const _: () = assert!(BYTES <= u32::MAX as usize);

impl Ahead {
    pub(super) fn new(buffer: Buffer, end: usize) -> Self {
        Self {
            buffer: Some(buffer),
            start: 0,
            end: end as u32,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_none()
    }

    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.buffer {
            Some(buffer) => &buffer[self.start as usize..self.end as usize],
            None => &[],
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            Some(buffer) => &mut buffer[self.start as usize..self.end as usize],
            None => &mut [],
        }
    }

    /// Moves the bytes within the buffer, so that `more` bytes have room behind them. Returns `false` if they are too
    /// many.
    pub(super) fn make_room(&mut self, more: usize) -> bool {
        if self.len() + more > BYTES {
            return false;
        }
        if let Some(buffer) = &mut self.buffer {
            if self.end as usize + more > BYTES {
                buffer.copy_within(self.start as usize..self.end as usize, 0);
                self.end -= self.start;
                self.start = 0;
            }
        }
        self.buffer.is_some()
    }

    /// Returns the length of the rest of the buffer.
    pub(super) fn space(&self) -> usize {
        BYTES - self.end as usize
    }

    /// Returns the rest of the buffer.
    pub(super) fn room(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            Some(buffer) => &mut buffer[self.end as usize..],
            None => &mut [],
        }
    }

    /// Adds the first `length` bytes of the room, and returns them.
    pub(super) fn filled(&mut self, length: usize) -> &mut [u8] {
        self.end += length as u32;
        let start = self.len() - length;
        &mut self.bytes_mut()[start..]
    }

    /// Removes all bytes.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Removes the first `length` bytes.
    pub(super) fn advance(&mut self, length: usize) {
        self.start += length as u32;
        if self.start == self.end {
            *self = Self::default();
        }
    }

    /// Removes the first `length` bytes, and returns them: a part of the buffer if they fill at least half of it, and
    /// otherwise a copy, so that a handler that keeps a message does not keep a much larger buffer.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        if length < BYTES / 2 {
            let bytes = Bytes::copy_from_slice(&self.bytes()[..length]);
            self.advance(length);
            return bytes;
        }
        let Self { buffer, start, end } = std::mem::take(self);
        let Some(buffer) = buffer else {
            return Bytes::new();
        };
        let (start, end) = (start as usize, end as usize);
        let rest = start + length..end;
        if !rest.is_empty() {
            let mut next = Buffer::borrow();
            next[..rest.len()].copy_from_slice(&buffer[rest.clone()]);
            *self = Self::new(next, rest.len());
        }
        let bytes = Bytes::from_owner(buffer);
        bytes.slice(start..start + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(bytes: &[u8]) -> Ahead {
        let mut buffer = Buffer::borrow();
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ahead::new(buffer, bytes.len())
    }

    #[test]
    fn taken_bytes_are_followed_by_the_rest() {
        let bytes: Vec<_> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        for length in [0, 1, BYTES / 2 - 1, BYTES / 2, BYTES - 3, BYTES - 2] {
            let mut ahead = ahead(&bytes);
            ahead.advance(2);
            assert_eq!(ahead.take(length), bytes[2..2 + length], "{length}");
            assert_eq!(ahead.bytes(), &bytes[2 + length..], "{length}");
            assert_eq!(ahead.is_empty(), length == BYTES - 2, "{length}");
        }
    }

    #[test]
    fn large_message_shares_the_buffer() {
        let mut ahead = ahead(&[7; BYTES]);
        let before = ahead.bytes().as_ptr();
        assert_eq!(ahead.take(BYTES / 2).as_ptr(), before);
    }

    #[test]
    fn read_bytes_are_small() {
        assert_eq!(size_of::<Ahead>(), 24);
    }
}
