//! The IO of a governed session, as the foreign upgrader has it.

use super::frames::Frames;
use crate::session::upgraded::Upgraded;
use futures_util::task::AtomicWaker;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The request that hyper reads to create an `OnUpgrade`.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nconnection:upgrade\r\nupgrade:x\r\n\r\n";

/// A close frame with code 1001 from a client: with a mask, of zeros.
const CLOSE_FROM_CLIENT: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// A close frame with code 1001 from a server.
pub(super) const CLOSE_FROM_SERVER: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// First the scripted IO of a minted `OnUpgrade`, then the connection of a session.
pub(crate) struct GovernedIo {
    phase: Phase,
    shared: Arc<Shared>,
}

enum Phase {
    /// hyper has read this many bytes of the request.
    Scripted(usize),
    Open {
        io: Upgraded,
        /// `None` for other protocols than WebSocket.
        websocket: Option<Box<WebSocket>>,
    },
    Closed,
}

/// The state of a WebSocket, for a close at the session's stop signal.
#[derive(Default)]
struct WebSocket {
    /// The frames from the client, as the upgrader has read them.
    read: Frames,
    /// The frames from the upgrader.
    written: Frames,
    /// The number of bytes of `CLOSE_FROM_CLIENT` that the upgrader has read.
    closed: usize,
}

/// The session's handle to its IO.
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

/// The connection, when the upgrader has dropped it.
pub(super) struct Returned {
    pub(super) io: Upgraded,
    /// The connection is a WebSocket on which a close frame can and must still be written.
    pub(super) needs_close: bool,
}

#[derive(Default)]
struct Shared {
    exchange: Mutex<Exchange>,
    returned: AtomicWaker,
    /// The upgrader must end its WebSocket.
    is_closing: AtomicBool,
}

#[derive(Default)]
enum Exchange {
    #[default]
    Empty,
    ToUpgrader(Box<Given>),
    ToSession(Box<Returned>),
}

/// The connection, before the upgrader has it.
struct Given {
    io: Upgraded,
    is_websocket: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GovernedIo {
    pub(super) fn new() -> (Self, Handle) {
        let shared = Arc::default();
        let handle = Handle {
            shared: Arc::clone(&shared),
        };
        let phase = Phase::Scripted(0);
        (Self { phase, shared }, handle)
    }
}

impl Handle {
    /// Gives a connection to the upgrader.
    pub(super) fn give(&self, io: Upgraded, is_websocket: bool) {
        let given = Given { io, is_websocket };
        *self.shared.lock() = Exchange::ToUpgrader(Box::new(given));
    }

    /// Waits until the upgrader has dropped the connection.
    pub(super) fn poll_returned(&self, cx: &Context<'_>) -> Poll<Returned> {
        self.shared.returned.register(cx.waker());
        let mut exchange = self.shared.lock();
        match std::mem::take(&mut *exchange) {
            Exchange::ToSession(returned) => Poll::Ready(*returned),
            // hyper has not taken the connection: end the session instead of waiting.
            Exchange::ToUpgrader(given) => Poll::Ready(Returned {
                io: given.io,
                needs_close: false,
            }),
            Exchange::Empty => Poll::Pending,
        }
    }

    /// Makes the upgrader read a close frame at the next frame boundary. The caller wakes the reader.
    pub(super) fn close_websocket(&self) {
        self.shared.is_closing.store(true, Ordering::Release);
    }
}

impl Drop for GovernedIo {
    fn drop(&mut self) {
        if let Phase::Open { io, websocket } = std::mem::replace(&mut self.phase, Phase::Closed) {
            let needs_close = websocket.is_some_and(|websocket| {
                websocket.written.is_between() && !websocket.written.has_closed()
            });
            let returned = Returned { io, needs_close };
            *self.shared.lock() = Exchange::ToSession(Box::new(returned));
            self.shared.returned.wake();
        }
    }
}

impl WebSocket {
    /// Reads for a closing WebSocket: the rest of a frame, then a close frame, then the end of stream.
    fn poll_read_closing(
        &mut self,
        io: &mut Upgraded,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_between() {
            // After the client's close frame, another one would be an error.
            if !self.read.has_closed() {
                let rest = &CLOSE_FROM_CLIENT[self.closed..];
                let length = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..length]);
                self.closed += length;
            }
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 1024];
        let room = bytes.len().min(buf.remaining());
        let limit = usize::try_from(self.read.at_most()).unwrap_or(usize::MAX);
        let mut rest = ReadBuf::new(&mut bytes[..room.min(limit)]);
        ready!(Pin::new(io).poll_read(cx, &mut rest))?;
        self.read.follow(rest.filled());
        buf.put_slice(rest.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for GovernedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.phase {
            Phase::Open { io, websocket } => {
                let Some(websocket) = websocket else {
                    return Pin::new(io).poll_read(cx, buf);
                };
                if this.shared.is_closing.load(Ordering::Acquire) {
                    return websocket.poll_read_closing(io, cx, buf);
                }
                let before = buf.filled().len();
                let read = Pin::new(&mut *io).poll_read(cx, buf);
                websocket.read.follow(&buf.filled()[before..]);
                // The stop signal may have come before `io` registered the waker.
                if read.is_pending() && this.shared.is_closing.load(Ordering::Acquire) {
                    return websocket.poll_read_closing(io, cx, buf);
                }
                read
            }
            Phase::Scripted(read) => {
                let rest = &REQUEST[*read..];
                let length = rest.len().min(buf.remaining());
                if length == 0 {
                    return Poll::Pending;
                }
                buf.put_slice(&rest[..length]);
                *read += length;
                Poll::Ready(Ok(()))
            }
            Phase::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for GovernedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.phase {
            Phase::Open { io, websocket } => {
                let written = ready!(Pin::new(io).poll_write(cx, buf))?;
                if let Some(websocket) = websocket {
                    websocket.written.follow(&buf[..written]);
                }
                Poll::Ready(Ok(written))
            }
            Phase::Scripted(_) | Phase::Closed => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.phase {
            Phase::Open { io, websocket } => {
                let written = ready!(Pin::new(io).poll_write_vectored(cx, bufs))?;
                if let Some(websocket) = websocket {
                    let mut rest = written;
                    for buf in bufs {
                        let length = buf.len().min(rest);
                        websocket.written.follow(&buf[..length]);
                        rest -= length;
                    }
                }
                Poll::Ready(Ok(written))
            }
            Phase::Scripted(_) | Phase::Closed => {
                Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.phase {
            Phase::Open { io, .. } => AsyncWrite::is_write_vectored(io),
            Phase::Scripted(_) | Phase::Closed => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.phase {
            Phase::Open { io, .. } => Pin::new(io).poll_flush(cx),
            Phase::Scripted(_) => {
                let mut exchange = this.shared.lock();
                match std::mem::take(&mut *exchange) {
                    Exchange::ToUpgrader(given) => {
                        this.phase = Phase::Open {
                            io: given.io,
                            websocket: given.is_websocket.then(Box::default),
                        };
                        Poll::Ready(Ok(()))
                    }
                    other => {
                        *exchange = other;
                        Poll::Pending
                    }
                }
            }
            Phase::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.phase {
            Phase::Open { io, .. } => Pin::new(io).poll_shutdown(cx),
            Phase::Scripted(_) | Phase::Closed => Poll::Ready(Ok(())),
        }
    }
}
