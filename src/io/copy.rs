//! Copies bytes without holding a buffer while the reader is pending.

use crate::io::buffer::Buffer;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Copies the entire contents of a reader into a writer, and returns the number of bytes copied.
///
/// Unlike [`tokio::io::copy`], this function holds no buffer while it waits for the reader. Each poll borrows a buffer
/// of 72 KiB from a pool of its thread and returns it; the copy keeps the buffer only while the writer cannot accept
/// all data. An idle session therefore holds no buffer, and a busy session copies large amounts at a time.
///
/// A thread keeps up to four unused buffers. They are not cleared: a reader that inspects the unfilled part of its
/// buffer can see data of other copies.
///
/// The writer is flushed whenever the reader is pending, and at the end, but not shut down.
///
/// # Errors
///
/// Returns the first error of the reader or the writer. A writer that accepts no bytes causes
/// [`io::ErrorKind::WriteZero`].
///
/// # Cancel safety
///
/// If the future is dropped, bytes that were read but not yet written are lost.
///
/// # Examples
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

/// The reader and the writer of a copy, which may be the same connection.
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

/// The state of a copy.
#[derive(Default)]
pub(crate) struct Copy {
    /// Bytes that were read but not yet written.
    unwritten: Option<Unwritten>,
    needs_flush: bool,
    is_read_to_end: bool,
    /// The number of bytes written.
    pub(crate) copied: u64,
}

struct Unwritten {
    buffer: Buffer,
    start: usize,
    end: usize,
}

/// An error, and the side on which it occurred.
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
    /// Returns `true` if bytes were read but not yet written.
    #[cfg(feature = "tunnel")]
    pub(crate) fn has_unwritten(&self) -> bool {
        self.unwritten.is_some()
    }

    #[cfg(feature = "tunnel")]
    pub(crate) fn discard_unwritten(&mut self) {
        self.unwritten = None;
    }

    /// Reads once and writes all bytes read. Returns the number of bytes, or 0 at the end of the reader, once the
    /// writer is flushed.
    pub(crate) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut impl Ends,
    ) -> Poll<Result<usize, Broken>> {
        // A reader and a writer that are always ready must not monopolize the thread.
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

    /// Reads once into `unwritten`.
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

    /// Writes all of `unwritten` and returns its length.
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
