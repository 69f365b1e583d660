//! The IO beneath an [`Upgraded`](crate::Upgraded), whatever its type.

use crate::Parts;
#[cfg(feature = "tunnel")]
use crate::tunnel::socket::Socket;
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

/// A connection that no session owns, without its type: what
/// [`Upgraded::into_parts`](crate::Upgraded::into_parts) takes out.
pub struct BoxIo {
    kind: SyncWrapper<Kind>,
    /// Read before everything else. In a box, since most sessions have none.
    read_buf: Option<Box<Bytes>>,
    is_write_vectored: bool,
    is_read_to_end: bool,
}

enum Kind {
    /// hyper's, with early bytes of its own. It is a box already, so it is not boxed again.
    Hyper(TokioIo<hyper::upgrade::Upgraded>),
    Other(Box<dyn OtherIo>),
    /// It was taken out of its `Upgraded`, which nobody can see any more.
    Gone,
}

trait OtherIo: AsyncRead + AsyncWrite + Send + Unpin + Any {
    fn is(&self, id: TypeId) -> bool;
    #[cfg(feature = "tunnel")]
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + Any> OtherIo for T {
    fn is(&self, id: TypeId) -> bool {
        self.type_id() == id
    }

    #[cfg(feature = "tunnel")]
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl BoxIo {
    fn new(kind: Kind, read_buf: Bytes) -> Self {
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
        }
    }

    pub(crate) fn gone() -> Self {
        Self::new(Kind::Gone, Bytes::new())
    }

    pub(crate) fn take_read_buf(&mut self) -> Bytes {
        self.read_buf
            .take()
            .map(|read_buf| *read_buf)
            .unwrap_or_default()
    }

    /// Whether the peer's end has been read.
    pub(crate) fn is_read_to_end(&self) -> bool {
        self.is_read_to_end
    }

    fn kind(self: Pin<&mut Self>) -> &mut Kind {
        self.get_mut().kind.get_mut()
    }

    pub(crate) fn downcast<T>(mut self) -> Result<Parts<T>, Self>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let read_buf = self.take_read_buf();
        match self.kind.into_inner() {
            Kind::Hyper(io) => match downcast_hyper(io.into_inner()) {
                Ok(parts) => Ok(Parts {
                    read_buf: join(read_buf, parts.read_buf),
                    ..parts
                }),
                Err(io) => Err(Self::new(Kind::Hyper(TokioIo::new(io)), read_buf)),
            },
            Kind::Other(io) if OtherIo::is(&*io, TypeId::of::<T>()) => {
                match io.into_any().downcast() {
                    Ok(io) => Ok(Parts { io: *io, read_buf }),
                    Err(_) => unreachable!("the type was compared the line before"),
                }
            }
            kind => Err(Self::new(kind, read_buf)),
        }
    }
}

/// For a relay, which knows how to make use of sockets.
#[cfg(feature = "tunnel")]
impl BoxIo {
    /// Takes off what stands between this and a socket beneath.
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

    /// The socket that this is, if it is one with nothing in front of it.
    pub(crate) fn socket(&mut self) -> Option<Socket<'_>> {
        match (self.kind.get_mut(), &self.read_buf) {
            (Kind::Other(io), None) => Socket::of(OtherIo::as_any(&**io)),
            _ => None,
        }
    }

    /// Notes that the peer's end has been read from the socket.
    #[cfg(target_os = "linux")]
    pub(crate) fn set_read_to_end(&mut self) {
        self.is_read_to_end = true;
    }
}

/// What is read first, and what is read then.
fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        second
    } else if second.is_empty() {
        first
    } else {
        [first, second].concat().into()
    }
}

/// Takes off what stands between hyper's `Upgraded` and the IO that the server accepted.
fn downcast_hyper<T>(io: hyper::upgrade::Upgraded) -> Result<Parts<T>, hyper::upgrade::Upgraded>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = match io.downcast::<TokioIo<T>>() {
        Ok(parts) => {
            return Ok(Parts {
                io: parts.io.into_inner(),
                read_buf: parts.read_buf,
            });
        }
        Err(io) => io,
    };
    auto::upgrade::downcast::<TokioIo<T>>(io).map(|parts| Parts {
        io: parts.io.into_inner(),
        read_buf: parts.read_buf,
    })
}

impl From<hyper::upgrade::Upgraded> for BoxIo {
    fn from(io: hyper::upgrade::Upgraded) -> Self {
        Self::new(Kind::Hyper(TokioIo::new(io)), Bytes::new())
    }
}

impl<T> From<Parts<T>> for BoxIo
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    fn from(Parts { io, read_buf }: Parts<T>) -> Self {
        // What `into_parts` took out is not wrapped once more.
        let mut io = Some(io);
        match (&mut io as &mut dyn Any)
            .downcast_mut::<Option<Self>>()
            .and_then(Option::take)
        {
            Some(mut io) => {
                let read_buf = join(read_buf, io.take_read_buf());
                Self::new(io.kind.into_inner(), read_buf)
            }
            None => match io {
                Some(io) => Self::new(Kind::Other(Box::new(io)), read_buf),
                None => Self::gone(),
            },
        }
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
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
        match self.kind() {
            Kind::Hyper(io) => Pin::new(io).poll_shutdown(cx),
            Kind::Other(io) => Pin::new(io).poll_shutdown(cx),
            Kind::Gone => gone(),
        }
    }
}

impl fmt::Debug for BoxIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxIo").finish_non_exhaustive()
    }
}
