//! A copy that owns no buffer while it waits.

use crate::buffer::Buffer;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Copies everything from `reader` to `writer` and returns how many bytes that were.
///
/// It does what [`tokio::io::copy`] does, and holds no memory while it waits for the reader: each
/// poll borrows a buffer of 64 KiB from a pool of its thread and gives it back. Only while the
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
    let mut copy = Copy::default();
    std::future::poll_fn(|cx| copy.poll(cx, Pin::new(&mut *reader), Pin::new(&mut *writer))).await
}

#[derive(Default)]
struct Copy {
    /// What the writer has not taken yet.
    unwritten: Option<Unwritten>,
    needs_flush: bool,
    is_read_to_end: bool,
    copied: u64,
}

struct Unwritten {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl Copy {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut reader: Pin<&mut R>,
        mut writer: Pin<&mut W>,
    ) -> Poll<io::Result<u64>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        loop {
            // Sources and sinks that are always ready must not keep the thread.
            let turn = ready!(tokio::task::coop::poll_proceed(cx));
            ready!(self.poll_write(cx, writer.as_mut()))?;
            if self.is_read_to_end {
                ready!(writer.poll_flush(cx))?;
                return Poll::Ready(Ok(self.copied));
            }
            match self.poll_read(cx, reader.as_mut())? {
                Poll::Ready(0) => self.is_read_to_end = true,
                Poll::Ready(_) => turn.made_progress(),
                Poll::Pending => {
                    if self.needs_flush {
                        ready!(writer.as_mut().poll_flush(cx))?;
                        self.needs_flush = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads once. What was read is then in `unwritten`.
    fn poll_read<R: AsyncRead + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        reader: Pin<&mut R>,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = Buffer::borrow();
        let mut read_buf = ReadBuf::new(&mut buffer);
        let result = reader.poll_read(cx, &mut read_buf);
        let end = read_buf.filled().len();
        if end == 0 || !matches!(result, Poll::Ready(Ok(()))) {
            return result.map_ok(|()| 0);
        }
        self.unwritten = Some(Unwritten {
            buffer,
            start: 0,
            end,
        });
        Poll::Ready(Ok(end))
    }

    /// Writes all that was read.
    fn poll_write<W: AsyncWrite + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        mut writer: Pin<&mut W>,
    ) -> Poll<io::Result<()>> {
        while let Some(unwritten) = &mut self.unwritten {
            let rest = &unwritten.buffer[unwritten.start..unwritten.end];
            let written = ready!(writer.as_mut().poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.copied += written as u64;
            unwritten.start += written;
            if unwritten.start == unwritten.end {
                self.unwritten = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}
