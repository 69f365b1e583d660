//! The IO of a governed session, as the foreign upgrader has it.

use crate::{
    frames::{Frames, GOING_AWAY_FROM_CLIENT, GOING_AWAY_FROM_SERVER},
    session::{farewell::Farewell, state::State, upgraded::Upgraded},
};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The request that hyper reads to create an `OnUpgrade`.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nconnection:upgrade\r\nupgrade:x\r\n\r\n";

/// First the scripted IO of a minted `OnUpgrade`, then the connection of a session.
pub(super) enum GovernedIo {
    /// hyper has read this many bytes of the request.
    Scripted(usize, Arc<Handover>),
    Open {
        io: Upgraded,
        /// `None` for other protocols than WebSocket.
        websocket: Option<WebSocket>,
    },
}

/// The state of a WebSocket, for a close at the session's stop signal.
#[derive(Default)]
pub(super) struct WebSocket {
    /// The frames from the client, as the upgrader has read them.
    read: Frames,
    /// The frames from the upgrader.
    written: Frames,
    /// The number of bytes of `GOING_AWAY_FROM_CLIENT` that the upgrader has read.
    closed: u8,
}

/// The connection, on its way to the upgrader.
#[derive(Default)]
pub(super) struct Handover(Mutex<Option<Given>>);

struct Given {
    io: Upgraded,
    is_websocket: bool,
}

impl Handover {
    /// Gives a connection to the upgrader.
    pub(super) fn give(&self, io: Upgraded, is_websocket: bool) {
        *self.lock() = Some(Given { io, is_websocket });
    }

    /// Takes a connection back that the upgrader has not taken.
    pub(super) fn take_back(&self) {
        let given = self.lock().take();
        drop(given);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Given>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GovernedIo {
    pub(super) fn new() -> (Self, Arc<Handover>) {
        let handover = Arc::<Handover>::default();
        (Self::Scripted(0, Arc::clone(&handover)), handover)
    }
}

impl WebSocket {
    /// Sets the close frame that the session sends if the upgrader drops its IO now.
    fn set_farewell(&self, session: Option<&State>) {
        let Some(session) = session else { return };
        let farewell = if self.written.has_closed() || !self.written.is_between() {
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

    fn poll_read(
        &mut self,
        io: &mut Upgraded,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if is_stopping(io) {
            return self.poll_read_closing(io, cx, buf);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut *io).poll_read(cx, buf);
        // The stop signal may have come before `io` registered the waker.
        if read.is_pending() && is_stopping(io) {
            return self.poll_read_closing(io, cx, buf);
        }
        self.has_read(io, &buf.filled()[before..]);
        read
    }

    fn has_read(&mut self, io: &Upgraded, bytes: &[u8]) {
        self.read.follow(bytes);
        if self.read.has_closed() {
            self.set_farewell(io.session());
        }
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
        let room = buf.remaining().min(self.read.at_most());
        let mut rest = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut *io).poll_read(cx, &mut rest))?;
        let length = rest.filled().len();
        buf.advance(length);
        let start = buf.filled().len() - length;
        self.has_read(io, &buf.filled()[start..]);
        Poll::Ready(Ok(()))
    }

    fn has_written(&mut self, io: &Upgraded, bytes: &[u8]) {
        self.written.follow(bytes);
        self.set_farewell(io.session());
    }
}

fn is_stopping(io: &Upgraded) -> bool {
    io.session().is_some_and(State::is_stopping)
}

impl AsyncRead for GovernedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Open {
                io,
                websocket: Some(websocket),
            } => websocket.poll_read(io, cx, buf),
            Self::Open { io, .. } => Pin::new(io).poll_read(cx, buf),
            Self::Scripted(read, _) => {
                let rest = &REQUEST[*read..];
                let length = rest.len().min(buf.remaining());
                if length == 0 {
                    return Poll::Pending;
                }
                buf.put_slice(&rest[..length]);
                *read += length;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for GovernedIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Open { io, websocket } => {
                let written = ready!(Pin::new(&mut *io).poll_write(cx, buf))?;
                if let Some(websocket) = websocket {
                    websocket.has_written(io, &buf[..written]);
                }
                Poll::Ready(Ok(written))
            }
            Self::Scripted(..) => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Open { io, websocket } => {
                let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, bufs))?;
                if let Some(websocket) = websocket {
                    let mut rest = written;
                    for buf in bufs {
                        let length = buf.len().min(rest);
                        websocket.has_written(io, &buf[..length]);
                        rest -= length;
                    }
                }
                Poll::Ready(Ok(written))
            }
            Self::Scripted(..) => Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Open { io, .. } => AsyncWrite::is_write_vectored(io),
            Self::Scripted(..) => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this {
            Self::Open { io, .. } => Pin::new(io).poll_flush(cx),
            Self::Scripted(_, handover) => {
                let Some(Given { io, is_websocket }) = handover.lock().take() else {
                    return Poll::Pending;
                };
                let websocket = is_websocket.then(WebSocket::default);
                if let Some(websocket) = &websocket {
                    websocket.set_farewell(io.session());
                }
                *this = Self::Open { io, websocket };
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Open { io, .. } => Pin::new(io).poll_shutdown(cx),
            Self::Scripted(..) => Poll::Ready(Ok(())),
        }
    }
}
