//! The IO of a session.

use crate::io::parts::Parts;
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
/// handler has ended, the session is over all the same: what that part does fails with
/// [`NotConnected`](io::ErrorKind::NotConnected), and if it waits it is woken. What is to outlive the
/// handler is taken out first: for example a connection on which hyper serves HTTP again, with upgrades
/// of its own.
pub struct Upgraded {
    io: BoxIo,
    /// The session that it belongs to, and goes back to in the end.
    session: Option<Arc<State>>,
}

impl Upgraded {
    /// The IO of a session. Once this is dropped, it has it back.
    pub(crate) fn owned_by_session(io: BoxIo, session: Arc<State>) -> Self {
        Self {
            io,
            session: Some(session),
        }
    }

    /// A connection that belongs to no session.
    pub(crate) fn from_box_io(io: BoxIo) -> Self {
        Self { io, session: None }
    }

    pub(crate) fn into_box_io(mut self) -> BoxIo {
        if self.check().is_ok() {
            self.leave_session();
        }
        std::mem::replace(&mut self.io, BoxIo::gone())
    }

    /// From here on the IO is the handler's.
    fn leave_session(&mut self) {
        if let Some(session) = self.session.take() {
            session.take_for_good();
        }
    }

    fn go_home(&mut self) {
        if let Some(session) = self.session.take() {
            session.bring_home(std::mem::replace(&mut self.io, BoxIo::gone()));
        }
    }

    /// An error: the session has ended while this was in other hands.
    fn check(&mut self) -> io::Result<()> {
        match &self.session {
            Some(session) => {
                let is_going_on = session.is_going_on();
                self.or_go_home(is_going_on)
            }
            None => Ok(()),
        }
    }

    fn or_go_home(&mut self, is_going_on: Result<(), SessionOver>) -> io::Result<()> {
        if is_going_on.is_err() {
            self.go_home();
        }
        Ok(is_going_on?)
    }

    /// Lets the session know what an operation came to.
    fn moved<T>(
        &mut self,
        cx: &Context<'_>,
        tell: fn(&State, &Context<'_>, Poll<usize>) -> Result<(), SessionOver>,
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
            let is_going_on = tell(session, cx, moved);
            self.or_go_home(is_going_on)?;
        }
        result
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

    /// Takes the connection out, away from its session. If that has ended there is nothing to take out:
    /// what the IO does fails. From here on nobody counts its bytes, and there is no idle timeout.
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
    /// `T` is the type of the connection that the server accepted, such as `tokio::net::TcpStream`: the [`TokioIo`]
    /// around it is taken off, and so are a [`BoxIo`] and the wrapper of hyper-util's `auto` connections, which axum
    /// uses.
    /// Nobody but the caller shuts the connection down then. Process `read_buf` before reading from
    /// `io`.
    ///
    /// # Errors
    ///
    /// The `Upgraded` itself, unchanged, if it is not a `T` beneath, or if its session has ended.
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

/// For a relay.
#[cfg(feature = "tunnel")]
impl Upgraded {
    /// Any IO as one, with the socket beneath uncovered. What is one already stays with its session.
    pub(crate) fn uncovered<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut io = Some(io);
        let own = (&mut io as &mut dyn Any).downcast_mut::<Option<Self>>();
        let mut upgraded = match (own.and_then(Option::take), io) {
            (Some(upgraded), _) => upgraded,
            (None, Some(io)) => Self::from_parts(Parts {
                io,
                read_buf: Bytes::new(),
            }),
            (None, None) => Self::gone(),
        };
        let io = std::mem::replace(&mut upgraded.io, BoxIo::gone());
        upgraded.io = io.uncover();
        upgraded
    }

    /// One that is nobody's: what it does fails.
    pub(crate) fn gone() -> Self {
        Self::from_box_io(BoxIo::gone())
    }

    /// Lets go of the connection at once: it is not shut down, and reset where it can be.
    pub(crate) fn break_off(&mut self) {
        let mut io = std::mem::replace(self, Self::gone()).into_box_io();
        if let Some(socket) = io.carrier() {
            // It is dropped in any case.
            let _ = socket.reset_on_drop();
        }
    }

    /// Whether it goes back to its session when it is dropped.
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// The socket that this is: all bytes that are read from it, and written to it, are those of the socket.
    #[cfg(target_os = "linux")]
    pub(crate) fn as_socket(&mut self) -> Option<SocketRef<'_>> {
        self.io.as_socket()
    }

    /// The socket that carries this, which may be the IO itself.
    pub(crate) fn carrier(&mut self) -> Option<SocketRef<'_>> {
        self.io.carrier()
    }

    /// Moves bytes from the socket that this is into a pipe. `None`: none that a pipe can have. Whoever waits
    /// for some has to read.
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

    /// Moves bytes from a pipe into the socket that this is.
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
        self.go_home();
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
