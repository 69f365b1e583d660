//! The IO of a session.

use crate::io::parts::UpgradedParts;
#[cfg(feature = "tunnel")]
use crate::io::socket::SocketRef;
#[cfg(all(feature = "tunnel", target_os = "linux"))]
use crate::io::splice::Pipe;
use crate::{
    io::box_io::BoxIo,
    session::state::{SessionOver, State},
};
#[cfg(feature = "tunnel")]
use bytes::Bytes;
use hyper_util::rt::TokioIo;
#[cfg(feature = "tunnel")]
use std::any::Any;
use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An upgraded connection.
///
/// `Upgraded` implements the read and write traits of tokio and of hyper, including vectored writes. Bytes that the
/// server buffered after the head of the request are read first.
///
/// The `Upgraded` of a [`Session`](crate::Session) belongs to the session: dropping the `Upgraded` returns the
/// connection, and the session flushes the connection and closes it with an orderly shutdown. With
/// [`downcast`](Self::downcast) and [`into_parts`](Self::into_parts) a handler takes ownership of the connection. The
/// handler must then shut the connection down, and the session ends with the handler.
///
/// On HTTP/2 an `Upgraded` is one stream of the connection. A flush [guarantees
/// less](crate::manual::stack_below#a-flush-does-not-mean-that-data-was-sent) than on HTTP/1.1, and a reset by the peer
/// [can look like an end of stream](crate::manual::stack_below#a-reset-can-look-like-an-end).
///
/// A part of the `Upgraded` in another task, such as a half of `tokio::io::split`, does not keep the session open. When
/// the handler ends, pending and later operations on that part fail with [`NotConnected`](io::ErrorKind::NotConnected).
/// To use the connection after the handler has ended, take ownership of it first: for example to serve HTTP again with
/// hyper, including nested upgrades.
pub struct Upgraded {
    io: BoxIo,
    /// The session that owns the IO, and to which `Drop` returns the IO.
    session: Option<Arc<State>>,
}

impl Upgraded {
    /// Wraps the IO of a session. Dropping the `Upgraded` returns the IO to the session.
    pub(crate) fn owned_by_session(io: BoxIo, session: Arc<State>) -> Self {
        Self {
            io,
            session: Some(session),
        }
    }

    /// Wraps an IO without a session.
    pub(crate) fn from_box_io(io: BoxIo) -> Self {
        Self { io, session: None }
    }

    pub(crate) fn into_box_io(mut self) -> BoxIo {
        if self.check().is_ok() {
            self.leave_session();
        }
        std::mem::replace(&mut self.io, BoxIo::gone())
    }

    /// Returns the state of the session that owns the IO.
    pub(crate) fn session(&self) -> Option<&State> {
        self.session.as_deref()
    }

    /// Gives the IO to the handler: the session no longer owns it.
    fn leave_session(&mut self) {
        if let Some(session) = self.session.take() {
            session.close_io_slot();
        }
    }

    fn return_io(&mut self) {
        if let Some(session) = self.session.take() {
            session.return_io(std::mem::replace(&mut self.io, BoxIo::gone()));
        }
    }

    /// Returns an error, and returns the IO to the session, if the session has ended.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        match &self.session {
            Some(session) => {
                let is_going_on = session.is_going_on();
                self.or_return_io(is_going_on)
            }
            None => Ok(()),
        }
    }

    fn or_return_io(&mut self, is_going_on: Result<(), SessionOver>) -> io::Result<()> {
        if is_going_on.is_err() {
            self.return_io();
        }
        Ok(is_going_on?)
    }

    /// Reports the result of an operation to the session.
    fn moved<T>(
        &mut self,
        cx: &Context<'_>,
        record: fn(&State, &Context<'_>, Poll<usize>) -> Result<(), SessionOver>,
        result: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Some(session) = &self.session {
            let moved = match &result {
                Poll::Ready(Ok(done)) => Poll::Ready(bytes(done)),
                Poll::Ready(Err(_)) => {
                    session.fail();
                    Poll::Ready(0)
                }
                Poll::Pending => Poll::Pending,
            };
            let is_going_on = record(session, cx, moved);
            self.or_return_io(is_going_on)?;
        }
        result
    }

    /// Creates an upgraded connection from any IO: for servers other than hyper, or for tests.
    ///
    /// `parts.read_buf` is read before `parts.io`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use tokio::io::AsyncReadExt as _;
    /// use tower_upgrade::{Upgraded, UpgradedParts};
    ///
    /// let (io, peer) = tokio::io::duplex(64);
    /// let mut upgraded = Upgraded::from_parts(UpgradedParts::new(io, "early"));
    /// # drop(peer);
    /// let mut text = String::new();
    /// upgraded.read_to_string(&mut text).await?;
    /// assert_eq!(text, "early");
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_parts<T>(parts: UpgradedParts<T>) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::from_box_io(BoxIo::from(parts))
    }

    /// Records `bytes` that the handler has received from the peer outside of the byte stream, such as in a datagram.
    ///
    /// The session counts the bytes like those of the stream, and its idle timeout starts again, also if `bytes` is 0.
    /// `HttpDatagrams` records its datagrams itself. Without a session, the method has no effect.
    ///
    /// ```
    /// use tokio::net::UdpSocket;
    /// use tower_upgrade::Session;
    ///
    /// async fn relay(mut session: Session, media: UdpSocket) -> std::io::Result<()> {
    ///     let mut packet = [0; 1500];
    ///     loop {
    ///         let length = media.recv(&mut packet).await?;
    ///         session.io_mut().record_read(length);
    ///     }
    /// }
    /// ```
    pub fn record_read(&self, bytes: usize) {
        if let Some(session) = &self.session {
            session.record_read(bytes);
        }
    }

    /// Records `bytes` that the handler has sent to the peer outside of the byte stream, as
    /// [`record_read`](Self::record_read) does for received ones.
    pub fn record_written(&self, bytes: usize) {
        if let Some(session) = &self.session {
            session.record_written(bytes);
        }
    }

    /// Takes the connection out of the session.
    ///
    /// The caller must shut the connection down. The session no longer counts its bytes, and the idle timeout no longer
    /// applies. If the session has ended, operations on the returned IO fail.
    ///
    /// Early data of a hyper connection is read from the IO; `read_buf` has the unread rest of the `read_buf` passed to
    /// [`from_parts`](Self::from_parts).
    #[must_use]
    pub fn into_parts(self) -> UpgradedParts<BoxIo> {
        let mut io = self.into_box_io();
        let read_buf = io.take_read_buf();
        UpgradedParts::new(io, read_buf)
    }

    /// Takes the connection out of the session as its underlying type.
    ///
    /// `T` is the type of the connection that the server accepted, such as `tokio::net::TcpStream`. The method unwraps
    /// [`TokioIo`], [`BoxIo`] and the wrapper of hyper-util's `auto` connections, which axum uses.
    ///
    /// The caller must shut the connection down. Process `read_buf` before reading from `io`.
    ///
    /// # Errors
    ///
    /// Returns the `Upgraded` itself if the underlying type is not `T` or if the session has ended.
    ///
    /// ```
    /// use tokio::net::TcpStream;
    /// use tower_upgrade::{Session, UpgradedParts, handler_fn};
    ///
    /// let raw = handler_fn(|session: Session| async move {
    ///     match session.into_io().downcast::<TcpStream>() {
    ///         Ok(UpgradedParts { io, read_buf, .. }) => {
    ///             io.set_nodelay(true)?;
    ///             println!("{} bytes of early data", read_buf.len());
    ///         }
    ///         Err(_upgraded) => println!("not plain TCP"),
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn downcast<T>(mut self) -> Result<UpgradedParts<T>, Self>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if self.check().is_err() {
            return Err(self);
        }
        let io = std::mem::replace(&mut self.io, BoxIo::gone());
        match io.downcast() {
            Ok(parts) => {
                self.leave_session();
                Ok(parts)
            }
            Err(io) => {
                self.io = io;
                Err(self)
            }
        }
    }
}

/// For tunnels.
#[cfg(feature = "tunnel")]
impl Upgraded {
    /// Wraps any IO, and removes hyper's wrappers if their socket is known. An `Upgraded` keeps its session.
    pub(crate) fn uncovered<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut io = Some(io);
        let own = (&mut io as &mut dyn Any).downcast_mut::<Option<Self>>();
        let mut upgraded = match (own.and_then(Option::take), io) {
            (Some(upgraded), _) => upgraded,
            (None, Some(io)) => Self::from_parts(UpgradedParts::new(io, Bytes::new())),
            (None, None) => Self::gone(),
        };
        let io = std::mem::replace(&mut upgraded.io, BoxIo::gone());
        upgraded.io = io.uncover();
        upgraded
    }

    /// Returns an `Upgraded` without a connection: all operations fail.
    pub(crate) fn gone() -> Self {
        Self::from_box_io(BoxIo::gone())
    }

    /// Drops the connection without a shutdown, and resets it if the IO has a socket or is a stream of HTTP/3.
    pub(crate) fn break_off(&mut self) {
        let mut io = std::mem::replace(self, Self::gone()).into_box_io();
        if io.reset() {
            return;
        }
        if let Some(socket) = io.carrier() {
            // On failure the socket is dropped without a reset.
            let _ = socket.reset_on_drop();
        }
    }

    /// Returns `true` if `Drop` returns the IO to a session.
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Returns the socket if the IO passes its bytes on unchanged, without framing or encryption.
    #[cfg(target_os = "linux")]
    pub(crate) fn as_socket(&mut self) -> Option<SocketRef<'_>> {
        self.io.as_socket()
    }

    /// Returns the socket that carries the IO, which may be the IO itself.
    pub(crate) fn carrier(&mut self) -> Option<SocketRef<'_>> {
        self.io.carrier()
    }

    /// Moves bytes from the socket into a pipe. Resolves to `None` if the socket has no bytes for a pipe: the caller
    /// must read to wait for more.
    #[cfg(target_os = "linux")]
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<Option<usize>>> {
        self.check()?;
        let Some(socket) = self.io.as_socket() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let result = socket.poll_read_with(cx, |socket| pipe.fill(socket));
        if let Poll::Ready(Ok(Some(0))) = result {
            self.io.set_read_to_end();
        }
        self.moved(cx, State::has_read, result, |read| read.unwrap_or(0))
    }

    /// Moves bytes from a pipe into the socket.
    #[cfg(target_os = "linux")]
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let Some(socket) = self.io.as_socket() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let result = socket.poll_write_with(cx, |socket| pipe.drain(socket));
        self.moved(cx, State::has_written, result, |written| *written)
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        self.return_io();
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        let (before, room) = (buf.filled().len(), buf.remaining());
        let result = Pin::new(&mut this.io).poll_read(cx, buf);
        if let (Some(session), Poll::Ready(Ok(()))) = (&this.session, &result) {
            if room > 0 && buf.remaining() == room {
                session.end();
            }
        }
        this.moved(cx, State::has_read, result, |()| {
            buf.filled().len() - before
        })
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        let result = Pin::new(&mut this.io).poll_write(cx, buf);
        this.moved(cx, State::has_written, result, |written| *written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.moved(cx, State::has_written, result, |written| *written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        let result = Pin::new(&mut this.io).poll_flush(cx);
        this.moved(cx, State::has_written, result, |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        let result = Pin::new(&mut this.io).poll_shutdown(cx);
        this.moved(cx, State::has_written, result, |()| 0)
    }
}

impl hyper::rt::Read for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        hyper::rt::Read::poll_read(Pin::new(&mut TokioIo::new(self)), cx, buf)
    }
}

impl hyper::rt::Write for Upgraded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(self, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(self, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(self, cx)
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}
