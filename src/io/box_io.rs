//! The type-erased IO of an [`Upgraded`](crate::Upgraded).

use crate::io::parts::UpgradedParts;
#[cfg(feature = "tunnel")]
use crate::io::socket::{Socket, SocketRef};
use bytes::Bytes;
use hyper_util::{rt::TokioIo, server::conn::auto};
use std::{
    any::{Any, TypeId},
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use sync_wrapper::SyncWrapper;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(feature = "tunnel")]
use tokio::net::TcpStream;

/// A type-erased connection.
///
/// [`Upgraded::into_parts`](crate::Upgraded::into_parts) returns a `BoxIo`. A server that accepts several types of
/// connections, such as TCP with and without TLS, can serve each as a `BoxIo` instead of an enum:
/// [`Upgraded::downcast`](crate::Upgraded::downcast) finds the type in the box, and the relays and proxies of the
/// module `tunnel` find the socket. An enum hides both.
///
#[cfg_attr(feature = "tunnel", doc = "```")]
#[cfg_attr(not(feature = "tunnel"), doc = "```ignore")]
/// use std::io;
/// use tokio::net::TcpStream;
/// use tokio_rustls::TlsAcceptor;
/// use tower_upgrade::BoxIo;
///
/// /// Serve the result with `hyper_util::rt::TokioIo::new`.
/// async fn handshake(tls: Option<&TlsAcceptor>, tcp: TcpStream) -> io::Result<BoxIo> {
///     Ok(match tls {
///         Some(tls) => BoxIo::over(tls.accept(tcp).await?, |tls| tls.get_ref().0),
///         None => BoxIo::new(tcp),
///     })
/// }
/// ```
pub struct BoxIo {
    kind: SyncWrapper<Kind>,
    /// Bytes to read before the IO. Boxed, because most sessions have no such bytes.
    read_buf: Option<Box<Bytes>>,
    is_write_vectored: bool,
    is_read_to_end: bool,
    is_shut_down: bool,
}

enum Kind {
    /// hyper's `Upgraded`, with its buffered bytes. It already is a box, so it is not boxed again.
    Hyper(TokioIo<hyper::upgrade::Upgraded>),
    Other(Box<dyn OtherIo>),
    /// The IO was taken out; the containing `Upgraded` is no longer accessible.
    Gone,
}

/// A connection that can be reset.
#[cfg(feature = "http3")]
pub(crate) trait Reset {
    /// Resets the connection, so that the peer does not take the abort for an orderly end.
    fn reset(&mut self);
}

trait OtherIo: AsyncRead + AsyncWrite + Send + Unpin {
    fn is(&self, id: TypeId) -> bool;

    /// Resets the connection. Returns `false` if its type cannot be reset.
    fn reset(&mut self) -> bool;

    /// Moves the IO into `slot`, an `Option` of its type.
    fn move_into(self: Box<Self>, slot: &mut dyn Any);

    /// Returns the socket if the IO is a socket.
    #[cfg(feature = "tunnel")]
    fn as_socket(&self) -> Option<SocketRef<'_>>;

    /// Returns the socket that carries the IO, which may be the IO itself.
    #[cfg(feature = "tunnel")]
    fn carrier(&self) -> Option<SocketRef<'_>>;
}

/// An IO, with a function that finds its socket.
struct Located<T, L> {
    io: T,
    #[cfg_attr(not(feature = "tunnel"), allow(dead_code))]
    locate: L,
}

trait Locate<T>: Send + Unpin {
    /// Resets the IO. Returns `false` if its type cannot be reset.
    fn reset(&self, _io: &mut T) -> bool {
        false
    }

    #[cfg(feature = "tunnel")]
    fn locate<'a>(&self, io: &'a T) -> Option<SocketRef<'a>>;
}

/// The socket is the IO, or unknown.
struct Itself;

impl<T: 'static> Locate<T> for Itself {
    #[cfg(feature = "tunnel")]
    fn locate<'a>(&self, io: &'a T) -> Option<SocketRef<'a>> {
        SocketRef::of(io)
    }
}

/// The IO can be reset.
#[cfg(feature = "http3")]
struct Resettable;

#[cfg(feature = "http3")]
impl<T: Reset> Locate<T> for Resettable {
    fn reset(&self, io: &mut T) -> bool {
        io.reset();
        true
    }

    #[cfg(feature = "tunnel")]
    fn locate<'a>(&self, _io: &'a T) -> Option<SocketRef<'a>> {
        None
    }
}

/// The IO runs over the socket.
#[cfg(feature = "tunnel")]
struct Over<F, S>(F, std::marker::PhantomData<fn(&S)>);

#[cfg(feature = "tunnel")]
impl<T, S, F> Locate<T> for Over<F, S>
where
    S: Socket,
    F: Fn(&T) -> &S + Send + Unpin,
{
    fn locate<'a>(&self, io: &'a T) -> Option<SocketRef<'a>> {
        Some(self.0(io).socket_ref())
    }
}

impl<T, L> OtherIo for Located<T, L>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    L: Locate<T>,
{
    fn is(&self, id: TypeId) -> bool {
        TypeId::of::<T>() == id
    }

    fn reset(&mut self) -> bool {
        self.locate.reset(&mut self.io)
    }

    fn move_into(self: Box<Self>, slot: &mut dyn Any) {
        if let Some(slot) = slot.downcast_mut() {
            *slot = Some(self.io);
        }
    }

    #[cfg(feature = "tunnel")]
    fn as_socket(&self) -> Option<SocketRef<'_>> {
        SocketRef::of(&self.io)
    }

    #[cfg(feature = "tunnel")]
    fn carrier(&self) -> Option<SocketRef<'_>> {
        self.locate.locate(&self.io)
    }
}

impl BoxIo {
    /// Boxes a connection.
    ///
    /// If `io` is a `tokio::net::TcpStream` or a `tokio::net::UnixStream`, the relays of the module `tunnel` use it as
    /// a socket. A `BoxIo` is returned unchanged.
    pub fn new<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::from(UpgradedParts::new(io, Bytes::new()))
    }

    /// Boxes a connection that runs over a socket, such as TLS over TCP. `socket` returns that socket.
    ///
    /// A relay uses the socket to reset the connection and to detect a reset by the peer; see
    /// [`Relay`](crate::tunnel::Relay#the-socket-of-a-connection). Bytes still pass through `io`.
    ///
    /// ```no_run
    /// use tokio::net::TcpStream;
    /// use tokio_rustls::server::TlsStream;
    /// use tower_upgrade::BoxIo;
    ///
    /// fn box_tls(tls: TlsStream<TcpStream>) -> BoxIo {
    ///     BoxIo::over(tls, |tls| tls.get_ref().0)
    /// }
    /// ```
    #[cfg(feature = "tunnel")]
    pub fn over<T, S, F>(io: T, socket: F) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S: Socket,
        F: Fn(&T) -> &S + Send + Unpin + 'static,
    {
        let locate = Over(socket, std::marker::PhantomData);
        let io = Kind::Other(Box::new(Located { io, locate }));
        Self::from_kind(io, Bytes::new())
    }

    /// Boxes a connection that can be reset.
    #[cfg(feature = "http3")]
    pub(crate) fn resettable<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Reset + Send + Unpin + 'static,
    {
        let locate = Resettable;
        let io = Kind::Other(Box::new(Located { io, locate }));
        Self::from_kind(io, Bytes::new())
    }

    /// Resets the connection, if its type has a reset: the streams of HTTP/3.
    pub(crate) fn reset(&mut self) -> bool {
        match self.kind.get_mut() {
            Kind::Other(io) => io.reset(),
            Kind::Hyper(_) | Kind::Gone => false,
        }
    }

    fn from_kind(kind: Kind, read_buf: Bytes) -> Self {
        let is_write_vectored = match &kind {
            Kind::Hyper(io) => io.is_write_vectored(),
            Kind::Other(io) => io.is_write_vectored(),
            Kind::Gone => false,
        };
        let read_buf = (!read_buf.is_empty()).then(|| Box::new(read_buf));
        Self {
            kind: SyncWrapper::new(kind),
            read_buf,
            is_write_vectored,
            is_read_to_end: false,
            is_shut_down: false,
        }
    }

    pub(crate) fn gone() -> Self {
        Self::from_kind(Kind::Gone, Bytes::new())
    }

    pub(crate) fn take_read_buf(&mut self) -> Bytes {
        self.read_buf
            .take()
            .map(|read_buf| *read_buf)
            .unwrap_or_default()
    }

    /// Returns `true` if the end of the peer's stream has been read.
    pub(crate) fn is_read_to_end(&self) -> bool {
        self.is_read_to_end
    }

    /// Returns `true` if the write side was shut down.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.is_shut_down
    }

    fn kind(self: Pin<&mut Self>) -> &mut Kind {
        self.get_mut().kind.get_mut()
    }

    pub(crate) fn downcast<T>(mut self) -> Result<UpgradedParts<T>, Self>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let read_buf = self.take_read_buf();
        if TypeId::of::<T>() == TypeId::of::<Self>() {
            // Do not search hyper's type for a served `BoxIo`: an earlier downcast may already have taken it out.
            let mut io = Some(self);
            return match take(&mut io) {
                Some(io) => Ok(UpgradedParts::new(io, read_buf)),
                None => unreachable!("the type was compared before"),
            };
        }
        match self.kind.into_inner() {
            Kind::Hyper(io) => match downcast_hyper(io.into_inner()) {
                Ok(parts) => Ok(parts.behind(read_buf)),
                // The server may have wrapped a `T` in a `BoxIo`.
                Err(io) => match downcast_hyper::<Self>(io) {
                    Ok(parts) => Self::from(parts.behind(read_buf)).downcast(),
                    Err(io) => Err(Self::from_kind(Kind::Hyper(TokioIo::new(io)), read_buf)),
                },
            },
            Kind::Other(io) if io.is(TypeId::of::<T>()) => {
                let mut slot = None;
                io.move_into(&mut slot);
                match slot {
                    Some(io) => Ok(UpgradedParts::new(io, read_buf)),
                    None => unreachable!("the type was compared before"),
                }
            }
            kind => Err(Self::from_kind(kind, read_buf)),
        }
    }
}

/// Socket access for the relays.
#[cfg(feature = "tunnel")]
impl BoxIo {
    /// Removes hyper's wrappers if the socket in them is known.
    pub(crate) fn uncover(self) -> Self {
        let io = match self.downcast::<TcpStream>() {
            Ok(parts) => return parts.into(),
            Err(io) => io,
        };
        #[cfg(unix)]
        let io = match io.downcast::<tokio::net::UnixStream>() {
            Ok(parts) => return parts.into(),
            Err(io) => io,
        };
        io
    }

    /// Returns the socket if the IO passes its bytes on unchanged, without framing or encryption.
    pub(crate) fn as_socket(&mut self) -> Option<SocketRef<'_>> {
        match (self.kind.get_mut(), &self.read_buf) {
            (Kind::Other(io), None) => io.as_socket(),
            _ => None,
        }
    }

    /// Returns the socket that carries the IO, which may be the IO itself.
    pub(crate) fn carrier(&mut self) -> Option<SocketRef<'_>> {
        match self.kind.get_mut() {
            Kind::Other(io) => io.carrier(),
            Kind::Hyper(_) | Kind::Gone => None,
        }
    }

    /// Records that the end of the peer's stream has been read from the socket.
    #[cfg(target_os = "linux")]
    pub(crate) fn set_read_to_end(&mut self) {
        self.is_read_to_end = true;
    }
}

impl<T> UpgradedParts<T> {
    /// Puts bytes that were already read in front of the IO.
    fn behind(self, first: Bytes) -> Self {
        Self {
            read_buf: join(first, self.read_buf),
            ..self
        }
    }
}

/// Joins two sequences of buffered bytes, in reading order.
fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        second
    } else if second.is_empty() {
        first
    } else {
        [first, second].concat().into()
    }
}

/// Takes the IO out, if `T` and `U` are the same type.
fn take<T: 'static, U: 'static>(io: &mut Option<T>) -> Option<U> {
    (io as &mut dyn Any)
        .downcast_mut::<Option<U>>()
        .and_then(Option::take)
}

/// Removes the wrappers between hyper's `Upgraded` and the IO that the server accepted.
fn downcast_hyper<T>(
    io: hyper::upgrade::Upgraded,
) -> Result<UpgradedParts<T>, hyper::upgrade::Upgraded>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = match io.downcast::<TokioIo<T>>() {
        Ok(parts) => {
            return Ok(UpgradedParts::new(parts.io.into_inner(), parts.read_buf));
        }
        Err(io) => io,
    };
    auto::upgrade::downcast::<TokioIo<T>>(io)
        .map(|parts| UpgradedParts::new(parts.io.into_inner(), parts.read_buf))
}

impl From<hyper::upgrade::Upgraded> for BoxIo {
    fn from(io: hyper::upgrade::Upgraded) -> Self {
        Self::from_kind(Kind::Hyper(TokioIo::new(io)), Bytes::new())
    }
}

impl<T> From<UpgradedParts<T>> for BoxIo
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    fn from(UpgradedParts { io, read_buf }: UpgradedParts<T>) -> Self {
        // Do not box a `BoxIo` that `into_parts` returned.
        let mut io = Some(io);
        match take::<_, Self>(&mut io) {
            Some(mut io) => {
                let read_buf = join(read_buf, io.take_read_buf());
                Self::from_kind(io.kind.into_inner(), read_buf)
            }
            None => match io {
                Some(io) => {
                    let io = Located { io, locate: Itself };
                    Self::from_kind(Kind::Other(Box::new(io)), read_buf)
                }
                None => Self::gone(),
            },
        }
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl<T: AsyncRead + Unpin, L: Unpin> AsyncRead for Located<T, L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin, L: Unpin> AsyncWrite for Located<T, L> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncRead for BoxIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buf.remaining();
        if let Some(read_buf) = &mut this.read_buf {
            let early = read_buf.split_to(read_buf.len().min(room));
            buf.put_slice(&early);
            if read_buf.is_empty() {
                this.read_buf = None;
            }
        } else {
            match this.kind.get_mut() {
                Kind::Hyper(io) => ready!(Pin::new(io).poll_read(cx, buf))?,
                Kind::Other(io) => ready!(Pin::new(io).poll_read(cx, buf))?,
                Kind::Gone => return gone(),
            }
            this.is_read_to_end |= room > 0 && buf.remaining() == room;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoxIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.kind() {
            Kind::Hyper(io) => Pin::new(io).poll_write(cx, buf),
            Kind::Other(io) => Pin::new(io).poll_write(cx, buf),
            Kind::Gone => gone(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.kind() {
            Kind::Hyper(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Kind::Other(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Kind::Gone => gone(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.is_write_vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.kind() {
            Kind::Hyper(io) => Pin::new(io).poll_flush(cx),
            Kind::Other(io) => Pin::new(io).poll_flush(cx),
            Kind::Gone => gone(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.kind.get_mut() {
            Kind::Hyper(io) => ready!(Pin::new(io).poll_shutdown(cx))?,
            Kind::Other(io) => ready!(Pin::new(io).poll_shutdown(cx))?,
            Kind::Gone => return gone(),
        }
        this.is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for BoxIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxIo").finish_non_exhaustive()
    }
}
