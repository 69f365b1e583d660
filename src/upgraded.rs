//! The IO of a session.

use crate::box_io::BoxIo;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// A connection that has left HTTP.
///
/// It has the read and write traits of tokio and of hyper, vectored writes included. What arrived
/// behind the head of the request is read first.
///
/// A [`Session`](crate::Session)'s `Upgraded` belongs to the session: when it is dropped, the
/// connection goes back to be flushed and shut down in order, before the session ends. With
/// [`downcast`](Self::downcast) and [`into_parts`](Self::into_parts) a handler takes the connection
/// for itself: then it has to shut it down, and the session ends with the handler.
///
/// On HTTP/2 it is one stream of its connection. There a flush
/// [says less](crate::manual::stack_below#a-flush-does-not-say-that-anything-was-sent) than on HTTP/1.1, and
/// a peer's reset [can look like its end](crate::manual::stack_below#a-reset-can-look-like-an-end).
///
/// If a part of it, such as a half of `tokio::io::split`, is still alive in another task when the
/// handler has ended, the session goes on until that is dropped.
pub struct Upgraded {
    io: BoxIo,
    /// Where the IO goes in the end, if it belongs to a session.
    home: Option<oneshot::Sender<BoxIo>>,
}

impl Upgraded {
    /// The IO of a session, and where it can be had back once this is dropped.
    pub(crate) fn owned_by_session(io: BoxIo) -> (Self, oneshot::Receiver<BoxIo>) {
        let (home, returned) = oneshot::channel();
        (
            Self {
                io,
                home: Some(home),
            },
            returned,
        )
    }

    /// A connection that belongs to no session.
    pub(crate) fn from_box_io(io: BoxIo) -> Self {
        Self { io, home: None }
    }

    pub(crate) fn into_box_io(mut self) -> BoxIo {
        self.home = None;
        std::mem::replace(&mut self.io, BoxIo::gone())
    }

    /// Makes an upgraded connection of any IO: of a server that is not hyper, or of a test.
    ///
    /// `parts.read_buf` is read before `parts.io`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use tokio::io::AsyncReadExt as _;
    /// use tower_upgrade::{Parts, Upgraded};
    ///
    /// let (io, peer) = tokio::io::duplex(64);
    /// let mut upgraded = Upgraded::from_parts(Parts { io, read_buf: "early".into() });
    /// # drop(peer);
    /// let mut text = String::new();
    /// upgraded.read_to_string(&mut text).await?;
    /// assert_eq!(text, "early");
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_parts<T>(parts: Parts<T>) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::from_box_io(BoxIo::from(parts))
    }

    /// Takes the connection out, away from its session.
    ///
    /// Nobody but the caller shuts it down then. Early bytes of a connection of hyper's are read
    /// from the IO; `read_buf` has what [`from_parts`](Self::from_parts) was given and nobody read.
    #[must_use]
    pub fn into_parts(self) -> Parts<BoxIo> {
        let mut io = self.into_box_io();
        let read_buf = io.take_read_buf();
        Parts { io, read_buf }
    }

    /// Takes the connection out as the type that it has beneath, away from its session.
    ///
    /// `T` is what the server accepted, such as `tokio::net::TcpStream`: the [`TokioIo`] around it
    /// is taken off, and so is the wrapper of hyper-util's `auto` connections, which axum uses.
    /// Nobody but the caller shuts the connection down then. Process `read_buf` before reading from
    /// `io`.
    ///
    /// # Errors
    ///
    /// The `Upgraded` itself, unchanged, if it is not a `T` beneath.
    ///
    /// ```
    /// use tokio::net::TcpStream;
    /// use tower_upgrade::{Parts, Session, handler_fn};
    ///
    /// let raw = handler_fn(|session: Session| async move {
    ///     match session.into_io().downcast::<TcpStream>() {
    ///         Ok(Parts { io, read_buf }) => {
    ///             io.set_nodelay(true)?;
    ///             println!("{} bytes came early", read_buf.len());
    ///         }
    ///         Err(_upgraded) => println!("not plain TCP"),
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn downcast<T>(mut self) -> Result<Parts<T>, Self>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = std::mem::replace(&mut self.io, BoxIo::gone());
        match io.downcast() {
            Ok(parts) => {
                self.home = None;
                Ok(parts)
            }
            Err(io) => {
                self.io = io;
                Err(self)
            }
        }
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut BoxIo> {
        Pin::new(&mut self.get_mut().io)
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // If the session is gone the IO is dropped.
            let _ = home.send(std::mem::replace(&mut self.io, BoxIo::gone()));
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}

impl hyper::rt::Read for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut TokioIo::new(self.io())).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Upgraded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}

/// An IO, and what was read from it already.
#[derive(Debug)]
pub struct Parts<T> {
    /// The IO itself.
    pub io: T,
    /// What arrived behind the head of the request and was read with it: the first bytes of the
    /// new protocol.
    pub read_buf: Bytes,
}
