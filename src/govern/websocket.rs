//! A governed WebSocket: follows the frames of both directions, to end it with a close frame.

use super::keep_alive::KeepAlive;
use crate::{
    frames::{Frames, GOING_AWAY_FROM_CLIENT, GOING_AWAY_FROM_SERVER},
    io::read::poll_read_at_most,
    session::{farewell::Farewell, state::State, upgraded::Upgraded},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

pub(super) struct WebSocket {
    /// The frames from the client, as the upgrader has read them.
    read: Frames,
    /// The frames from the upgrader.
    written: Frames,
    /// A write of the upgrader is pending.
    is_blocked: bool,
    /// The number of bytes of `GOING_AWAY_FROM_CLIENT` that the upgrader has read.
    closed: u8,
    keep_alive: Option<Box<KeepAlive>>,
}

impl WebSocket {
    pub(super) fn new(io: &Upgraded, keep_alive: Option<Duration>) -> Self {
        let websocket = Self {
            read: Frames::default(),
            written: Frames::default(),
            is_blocked: false,
            closed: 0,
            keep_alive: keep_alive.map(|interval| Box::new(KeepAlive::new(interval))),
        };
        websocket.set_farewell(io);
        websocket
    }

    /// Sets the close frame that the session sends if the upgrader drops its IO now.
    fn set_farewell(&self, io: &Upgraded) {
        let Some(session) = io.session() else { return };
        let is_in_ping = self.keep_alive.as_ref().is_some_and(|own| own.is_in_ping());
        let farewell = if self.written.has_closed() || !self.written.is_between() || is_in_ping {
            Farewell::default()
        } else if !self.read.has_closed() {
            Farewell::for_stop(GOING_AWAY_FROM_SERVER)
        } else {
            // The answer to the client's close frame has the same code (RFC 6455 §5.5.1).
            match self.read.close_code().map(u16::to_be_bytes) {
                Some([high, low]) => Farewell::new(&[0x88, 2, high, low]),
                None => Farewell::new(&[0x88, 0]),
            }
        };
        session.farewell.store(farewell);
    }

    pub(super) fn poll_read(
        &mut self,
        io: &mut Upgraded,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if is_stopping(io) {
            return self.poll_read_closing(io, cx, buf);
        }
        let read = match &mut self.keep_alive {
            Some(keep_alive) if keep_alive.is_filtering() => {
                keep_alive.poll_read(cx, io, &mut self.read, buf)
            }
            _ => {
                let before = buf.filled().len();
                let read = Pin::new(&mut *io).poll_read(cx, buf);
                self.read.follow(&buf.filled()[before..]);
                read
            }
        };
        if read.is_pending() {
            // The stop signal may have come before `io` registered the waker.
            if is_stopping(io) {
                return self.poll_read_closing(io, cx, buf);
            }
            if let Some(keep_alive) = &mut self.keep_alive {
                let silent = keep_alive.poll(cx, io, &self.written, self.is_blocked);
                self.set_farewell(io);
                return silent.map(Err);
            }
        }
        if self.read.has_closed() {
            self.set_farewell(io);
        }
        read
    }

    /// Reads for a closing WebSocket: the rest of a frame, then a close frame, then the end of stream.
    fn poll_read_closing(
        &mut self,
        io: &mut Upgraded,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        io.check()?;
        if self.read.is_between() {
            // After the client's close frame, another one would be an error.
            if !self.read.has_closed() {
                let rest = &GOING_AWAY_FROM_CLIENT[self.closed.into()..];
                let length = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..length]);
                self.closed += length as u8;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let limit = self.read.at_most();
        ready!(poll_read_at_most(limit, Pin::new(&mut *io), cx, buf))?;
        self.read.follow(&buf.filled()[before..]);
        self.set_farewell(io);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(
        &mut self,
        io: &mut Upgraded,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(keep_alive) = &mut self.keep_alive {
            // A ping that was begun comes before the upgrader's next frame.
            let pinged = keep_alive.poll_ping(cx, io);
            self.set_farewell(io);
            ready!(pinged)?;
        }
        let result = Pin::new(&mut *io).poll_write_vectored(cx, bufs);
        self.is_blocked = result.is_pending();
        let written = ready!(result)?;
        let mut rest = written;
        for buf in bufs {
            let length = buf.len().min(rest);
            self.written.follow(&buf[..length]);
            rest -= length;
        }
        self.set_farewell(io);
        Poll::Ready(Ok(written))
    }
}

fn is_stopping(io: &Upgraded) -> bool {
    io.session().is_some_and(State::is_stopping)
}
