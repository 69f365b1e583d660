//! The IO of a governed session, as the foreign upgrader has it.

use super::websocket::WebSocket;
use crate::session::upgraded::Upgraded;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
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

/// The connection, on its way to the upgrader.
#[derive(Default)]
pub(super) struct Handover(Mutex<Option<Given>>);

struct Given {
    io: Upgraded,
    websocket: Option<WebSocket>,
}

impl Handover {
    /// Gives a connection to the upgrader.
    pub(super) fn give(&self, io: Upgraded, websocket: Option<WebSocket>) {
        *self.lock() = Some(Given { io, websocket });
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
            Self::Open {
                io,
                websocket: Some(websocket),
            } => websocket.poll_write(io, cx, &[io::IoSlice::new(buf)]),
            Self::Open { io, .. } => Pin::new(io).poll_write(cx, buf),
            Self::Scripted(..) => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Open {
                io,
                websocket: Some(websocket),
            } => websocket.poll_write(io, cx, bufs),
            Self::Open { io, .. } => Pin::new(io).poll_write_vectored(cx, bufs),
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
                let Some(Given { io, websocket }) = handover.lock().take() else {
                    return Poll::Pending;
                };
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
