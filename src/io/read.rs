//! Reads with a limit.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, ReadBuf};

/// Reads at most `limit` bytes into `buf`.
pub(crate) fn poll_read_at_most(
    limit: usize,
    io: Pin<&mut impl AsyncRead>,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if limit >= buf.remaining() {
        return io.poll_read(cx, buf);
    }
    let mut part = ReadBuf::new(buf.initialize_unfilled_to(limit));
    ready!(io.poll_read(cx, &mut part))?;
    let length = part.filled().len();
    buf.advance(length);
    Poll::Ready(Ok(()))
}
