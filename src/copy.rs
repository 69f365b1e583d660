//! A copy that owns no buffer while it waits.

use crate::buffer::Buffer;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Copies everything from `reader` to `writer` and returns how many bytes that were.
///
/// It does what [`tokio::io::copy`] does, and holds no memory while it waits for the reader: each
/// poll borrows a buffer of 72 KiB from a pool of its thread and gives it back. Only while the
/// writer takes no more is the buffer kept, with what is still to be written. So an idle session
/// costs no buffer, and a busy one moves much at a time.
///
/// A thread keeps up to four buffers for later. They are not cleared: a reader sees what other
/// copies left there if it looks at the part of the buffer that it did not fill.
///
/// The writer is flushed whenever the reader has nothing more at the moment, and at the end. It is
/// not shut down.
///
/// # Errors
///
/// The first error of either side; a writer that takes no bytes is [`io::ErrorKind::WriteZero`].
///
/// # Cancel safety
///
/// Bytes that were read and not yet written are lost if the future is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let mut reader: &[u8] = b"hello";
/// let mut writer = Vec::new();
/// assert_eq!(tower_upgrade::copy(&mut reader, &mut writer).await?, 5);
/// assert_eq!(writer, b"hello");
/// # Ok(())
/// # }
/// ```
pub async fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    let mut ends = (reader, writer);
    let mut copy = Copy::default();
    while poll_fn(|cx| copy.poll_turn(cx, &mut ends)).await? > 0 {}
    Ok(copy.copied)
}

/// Where a copy reads, and where it writes. It may be the same connection.
pub(crate) trait Ends {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl<R, W> Ends for (&mut R, &mut W)
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.1).poll_write(cx, buf)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.1).poll_flush(cx)
    }
}

/// A copy under way.
#[derive(Default)]
pub(crate) struct Copy {
    /// What the writer has not taken yet.
    unwritten: Option<Unwritten>,
    needs_flush: bool,
    is_read_to_end: bool,
    /// How many bytes were written.
    pub(crate) copied: u64,
}

struct Unwritten {
    buffer: Buffer,
    start: usize,
    end: usize,
}

/// Which end an error is of.
#[derive(Debug)]
pub(crate) enum Broken {
    Reader(io::Error),
    Writer(io::Error),
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Reader(error) | Broken::Writer(error) => error,
        }
    }
}

impl Copy {
    /// Whether there are bytes that were read and not written.
    #[cfg(feature = "tunnel")]
    pub(crate) fn has_unwritten(&self) -> bool {
        self.unwritten.is_some()
    }

    #[cfg(feature = "tunnel")]
    pub(crate) fn discard_unwritten(&mut self) {
        self.unwritten = None;
    }

    /// One turn: reads once and writes what was read. Returns how many bytes that were, and none at the
    /// end, once all is flushed.
    pub(crate) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut impl Ends,
    ) -> Poll<Result<usize, Broken>> {
        // Sources and sinks that are always ready must not keep the thread.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        if self.unwritten.is_none() && !self.is_read_to_end {
            match self.poll_read(cx, ends).map_err(Broken::Reader)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    if self.needs_flush {
                        ready!(ends.poll_flush(cx)).map_err(Broken::Writer)?;
                        self.needs_flush = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        if self.is_read_to_end {
            ready!(ends.poll_flush(cx)).map_err(Broken::Writer)?;
            return Poll::Ready(Ok(0));
        }
        let bytes = ready!(self.poll_write(cx, ends)).map_err(Broken::Writer)?;
        turn.made_progress();
        Poll::Ready(Ok(bytes))
    }

    /// Reads once. What was read is then in `unwritten`.
    fn poll_read(&mut self, cx: &mut Context<'_>, ends: &mut impl Ends) -> Poll<io::Result<()>> {
        let mut buffer = Buffer::borrow();
        let mut read_buf = ReadBuf::new(&mut buffer);
        ready!(ends.poll_read(cx, &mut read_buf))?;
        let end = read_buf.filled().len();
        if end == 0 {
            self.is_read_to_end = true;
        } else {
            self.unwritten = Some(Unwritten {
                buffer,
                start: 0,
                end,
            });
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all that was read. Returns how much that was.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut impl Ends,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = 0;
        while let Some(unwritten) = &mut self.unwritten {
            let rest = &unwritten.buffer[unwritten.start..unwritten.end];
            let written = ready!(ends.poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.copied += written as u64;
            unwritten.start += written;
            if unwritten.start == unwritten.end {
                bytes = unwritten.end;
                self.unwritten = None;
            }
        }
        Poll::Ready(Ok(bytes))
    }
}
