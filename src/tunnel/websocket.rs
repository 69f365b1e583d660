//! One direction of a relayed WebSocket, which ends with a close frame.

use super::direction::Side;
use crate::{
    frames::{Frames, GOING_AWAY_FROM_CLIENT, GOING_AWAY_FROM_SERVER},
    io::read::poll_read_at_most,
    session::{farewell::Farewell, upgraded::Upgraded},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncWrite as _, ReadBuf};

/// Follows the frames of one direction.
pub(super) struct WebSocket {
    frames: Frames,
    /// The receiver of the frames. Side A is the client.
    to: Side,
    /// The bytes of the close frame to send, once the WebSocket is closing.
    close: Option<&'static [u8]>,
}

impl WebSocket {
    pub(super) fn new(to: Side) -> Self {
        Self {
            frames: Frames::default(),
            to,
            close: None,
        }
    }

    /// Sends a close frame at the next frame boundary, and nothing after it.
    pub(super) fn close(&mut self) {
        self.close = Some(match self.to {
            Side::A => GOING_AWAY_FROM_SERVER,
            Side::B => GOING_AWAY_FROM_CLIENT,
        });
    }

    pub(super) fn is_closing(&self) -> bool {
        self.close.is_some()
    }

    /// Sets the close frame that the receiver's session sends if the relay is dropped now.
    pub(super) fn set_farewell(&self, to: &Upgraded, has_unwritten: bool) {
        let is_open = self.frames.is_between() && !self.frames.has_closed() && !has_unwritten;
        let farewell = match is_open && self.to == Side::A && !self.is_closing() {
            true => Farewell::for_stop(GOING_AWAY_FROM_SERVER),
            false => Farewell::default(),
        };
        if let Some(session) = to.session() {
            session.farewell.store(farewell);
        }
    }

    /// Reads from the sender: from a closing WebSocket at most the rest of a frame.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Upgraded,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        let limit = match self.is_closing() {
            true => self.frames.at_most(),
            false => usize::MAX,
        };
        ready!(poll_read_at_most(limit, Pin::new(from), cx, buf))?;
        self.frames.follow(&buf.filled()[start..]);
        Poll::Ready(Ok(()))
    }

    /// Sends the close frame of a closing WebSocket at a frame boundary, unless the sender has sent one. All bytes read
    /// must have been written.
    ///
    /// Resolves to `false` if the WebSocket is not closing, or is within a frame.
    pub(super) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Upgraded,
    ) -> Poll<io::Result<bool>> {
        let Some(close) = &mut self.close else {
            return Poll::Ready(Ok(false));
        };
        if !self.frames.is_between() {
            return Poll::Ready(Ok(false));
        }
        if !self.frames.has_closed() {
            while !close.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, close))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => *close = &close[written..],
                }
            }
        }
        ready!(Pin::new(to).poll_flush(cx))?;
        Poll::Ready(Ok(true))
    }
}
