//! The send queue of datagrams.

use super::capsule::{self, MAX_HEADER};
use crate::{
    io::buffer::{BYTES, Buffer},
    session::upgraded::Upgraded,
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite as _;

/// The maximum size of the waiting datagrams in bytes, with `OVERHEAD` for each.
const MAX_WAITING: u32 = 64 * 1024;

/// The approximate memory of a waiting datagram, without its payload.
const OVERHEAD: usize = 64;

/// The capacity that an empty queue may keep.
const KEPT: usize = 4;

/// A bounded queue of datagrams that are written as DATAGRAM capsules. A full queue drops its oldest datagram.
///
/// Datagrams that wait together are written together: a small write costs as much as a large one, and over HTTP/2 each
/// write is a frame.
#[derive(Default)]
pub(super) struct SendQueue {
    /// Encoded capsules that are being written. A part of a capsule cannot be dropped.
    writing: Option<Writing>,
    waiting: VecDeque<Datagram>,
    /// The size of `waiting`.
    size: u32,
    dropped: u64,
    needs_flush: bool,
}

struct Writing {
    buffer: Buffer,
    start: usize,
    end: usize,
}

struct Datagram {
    /// Bytes before the payload: a Context ID, if the caller has not put one into the payload.
    context: &'static [u8],
    payload: Bytes,
}

impl Datagram {
    fn length(&self) -> usize {
        self.context.len() + self.payload.len()
    }

    fn size(&self) -> u32 {
        (self.payload.len() + OVERHEAD) as u32
    }
}

impl SendQueue {
    /// Adds a datagram of at most [`MAX_LENGTH`](super::datagrams::MAX_LENGTH) bytes.
    pub(super) fn push(&mut self, context: &'static [u8], payload: Bytes) {
        let datagram = Datagram { context, payload };
        self.size += datagram.size();
        self.waiting.push_back(datagram);
        while self.size > MAX_WAITING && self.waiting.len() > 1 {
            self.pop();
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.waiting.pop_front()?;
        self.size -= datagram.size();
        Some(datagram)
    }

    /// Counts a datagram that was dropped without being added to the queue.
    pub(super) fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Returns the number of dropped datagrams.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns `true` if no datagram waits or is being written.
    pub(super) fn is_empty(&self) -> bool {
        self.writing.is_none() && self.waiting.is_empty()
    }

    /// Returns `true` if a capsule may be written in part.
    pub(super) fn is_within_capsule(&self) -> bool {
        self.writing
            .as_ref()
            .is_some_and(|writing| writing.start > 0)
    }

    /// Drops the datagrams that wait.
    pub(super) fn clear(&mut self) {
        self.dropped += self.waiting.len() as u64;
        self.waiting = VecDeque::new();
        self.size = 0;
    }

    /// Sets the capsules to write next, in the first `end` bytes of `buffer`. The queue must be empty.
    pub(super) fn write_encoded(&mut self, buffer: Buffer, end: usize) {
        debug_assert!(self.is_empty());
        self.writing = Some(Writing {
            buffer,
            start: 0,
            end,
        });
    }

    /// Writes all datagrams and flushes.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Upgraded,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.writing.is_none() {
                self.encode();
            }
            let Some(writing) = &mut self.writing else {
                break;
            };
            let rest = &writing.buffer[writing.start..writing.end];
            let written = ready!(Pin::new(&mut *io).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            writing.start += written;
            if writing.start == writing.end {
                self.writing = None;
            }
        }
        if self.needs_flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Moves datagrams from `waiting` to `writing`, as many as one buffer holds.
    fn encode(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let (mut buffer, mut end) = (Buffer::borrow(), 0);
        while let Some(next) = self.waiting.front() {
            if BYTES - end < MAX_HEADER + next.length() {
                break;
            }
            end += capsule::datagram_header(next.length(), &mut buffer[end..]);
            for bytes in [next.context, &next.payload] {
                buffer[end..end + bytes.len()].copy_from_slice(bytes);
                end += bytes.len();
            }
            self.pop();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting = VecDeque::new();
        }
        self.writing = Some(Writing {
            buffer,
            start: 0,
            end,
        });
    }
}
