//! An IO that hands out one frame at a time.

use crate::io::buffer::Buffer;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An IO wrapper that never returns bytes of two frames in one read.
///
/// The codec above therefore holds no bytes of the next message: between messages the codec and its buffers can be
/// returned to the pool, and borrowed again when bytes arrive. Bytes of later frames stay here, in a buffer of the
/// thread's pool that is returned once it is empty.
pub(super) struct Frames<T> {
    io: T,
    ahead: Option<Ahead>,
    position: Position,
    /// The last write or flush was pending.
    is_blocked: bool,
    has_read: bool,
    /// A blocked write has made progress.
    has_unblocked: bool,
}

struct Ahead {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl<T> Frames<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            ahead: None,
            position: Position::default(),
            is_blocked: false,
            has_read: false,
            has_unblocked: false,
        }
    }

    /// Returns whether the bytes returned so far are whole messages.
    pub(super) fn is_between_messages(&self) -> bool {
        self.position.is_between_messages()
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

impl<T: AsyncRead + Unpin> Frames<T> {
    /// Waits until bytes have arrived. Returns `false` at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ahead.is_some() {
            return Poll::Ready(Ok(true));
        }
        let mut buffer = Buffer::borrow();
        let mut read_buf = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read_buf))?;
        let end = read_buf.filled().len();
        self.has_read = true;
        if end > 0 {
            self.ahead = Some(Ahead {
                buffer,
                start: 0,
                end,
            });
        }
        Poll::Ready(Ok(end > 0))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Frames<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx))?;
        if let Some(ahead) = &mut this.ahead {
            let most = buf.remaining().min(ahead.end - ahead.start);
            let next = &ahead.buffer[ahead.start..ahead.start + most];
            let taken = this.position.advance(next);
            buf.put_slice(&next[..taken]);
            ahead.start += taken;
            if ahead.start == ahead.end {
                this.ahead = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Frames<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.has_unblocked |= self.is_blocked && matches!(written, Poll::Ready(Ok(1..)));
        self.is_blocked = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.is_blocked = flushed.is_pending();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Position of a byte stream within its frames (RFC 6455 §5.2).
#[derive(Default)]
struct Position {
    /// The bytes of an incomplete header.
    header: [u8; 14],
    header_len: usize,
    payload_left: u64,
    /// Between the first and the last frame of a message.
    is_in_message: bool,
}

impl Position {
    fn is_between_messages(&self) -> bool {
        self.header_len == 0 && self.payload_left == 0 && !self.is_in_message
    }

    /// Advances over `bytes`, at most to the end of the frame, and returns the number of bytes consumed.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        let header = match self.payload_left {
            0 => self.advance_header(bytes),
            _ => 0,
        };
        let left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
        let payload = left.min(bytes.len() - header);
        self.payload_left -= payload as u64;
        header + payload
    }

    /// Advances over the bytes of the frame's header, and returns their number.
    fn advance_header(&mut self, bytes: &[u8]) -> usize {
        let before = self.header_len;
        let most = bytes.len().min(self.header.len() - before);
        self.header[before..before + most].copy_from_slice(&bytes[..most]);
        match lengths(&self.header[..before + most]) {
            Some((header, payload)) => {
                self.header_len = 0;
                self.payload_left = payload;
                let is_control = self.header[0] & 0x08 != 0;
                if !is_control {
                    self.is_in_message = self.header[0] & 0x80 == 0;
                }
                // `bytes` may continue after the header.
                header - before
            }
            None => {
                self.header_len += most;
                most
            }
        }
    }
}

/// Returns the lengths of a frame's header and payload, or `None` if the header is incomplete. The codec validates the
/// header.
fn lengths(header: &[u8]) -> Option<(usize, u64)> {
    let second = *header.get(1)?;
    let (length, payload) = match second & 0x7f {
        126 => (
            4,
            u64::from(u16::from_be_bytes(*header[2..].first_chunk()?)),
        ),
        127 => (10, u64::from_be_bytes(*header[2..].first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let is_masked = second & 0x80 != 0;
    let length = if is_masked { length + 4 } else { length };
    (header.len() >= length).then_some((length, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    /// Two messages, one of them in fragments with a ping between them.
    const STREAM: &[u8] =
        b"\x81\x85\0\0\0\0hello\x01\x81\0\0\0\0a\x89\x80\0\0\0\0\x80\x81\0\0\0\0b";

    #[tokio::test]
    async fn read_ends_at_the_frame_boundary() {
        let mut frames = Frames::new(STREAM);
        let mut read = Vec::new();
        for (bytes, is_between) in [(11, true), (7, false), (6, false), (7, true)] {
            assert_eq!(frames.read_buf(&mut read).await.expect("a slice"), bytes);
            assert_eq!(frames.is_between_messages(), is_between);
        }
        assert_eq!(read, STREAM);
        assert_eq!(frames.read_buf(&mut read).await.expect("a slice"), 0);
        assert!(frames.ahead.is_none());
    }

    #[test]
    fn frames_end_where_they_do_however_they_come() {
        let long = [&b"\x82\xfe\x01\x00mask"[..], &[7; 256]].concat();
        let longer = [&b"\x82\x7f\0\0\0\0\0\x01\0\0"[..], &[7; 65536]].concat();
        for stream in [STREAM, &long, &longer] {
            for piece in 1..20 {
                let mut position = Position::default();
                let mut last_end = 0;
                for (at, bytes) in stream.chunks(piece).enumerate() {
                    let mut taken = 0;
                    while taken < bytes.len() {
                        taken += position.advance(&bytes[taken..]);
                        if position.is_between_messages() {
                            last_end = at * piece + taken;
                        }
                    }
                }
                assert_eq!(last_end, stream.len(), "{piece}");
            }
        }
    }
}
