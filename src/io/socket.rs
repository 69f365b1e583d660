//! The socket that carries a connection.

use std::{any::Any, io};
#[cfg(target_os = "linux")]
use std::{
    os::fd::{AsFd as _, BorrowedFd},
    task::{Context, Poll, ready},
};
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// A socket that [`BoxIo::over`](crate::BoxIo::over) takes: a [`TcpStream`], or a `UnixStream` on Unix.
///
/// The trait is sealed.
pub trait Socket: sealed::Sealed + 'static {}

impl Socket for TcpStream {}

#[cfg(unix)]
impl Socket for UnixStream {}

mod sealed {
    use super::SocketRef;

    pub trait Sealed {
        fn socket_ref(&self) -> SocketRef<'_>;
    }
}

impl sealed::Sealed for TcpStream {
    fn socket_ref(&self) -> SocketRef<'_> {
        SocketRef::Tcp(self)
    }
}

#[cfg(unix)]
impl sealed::Sealed for UnixStream {
    fn socket_ref(&self) -> SocketRef<'_> {
        SocketRef::Unix(self)
    }
}

/// A socket of a known type.
#[derive(Clone, Copy, Debug)]
pub enum SocketRef<'a> {
    Tcp(&'a TcpStream),
    #[cfg(unix)]
    Unix(&'a UnixStream),
}

impl<'a> SocketRef<'a> {
    pub(crate) fn of(io: &'a dyn Any) -> Option<Self> {
        if let Some(tcp) = io.downcast_ref() {
            return Some(Self::Tcp(tcp));
        }
        #[cfg(unix)]
        if let Some(unix) = io.downcast_ref() {
            return Some(Self::Unix(unix));
        }
        None
    }

    /// Returns the pending error of the socket (`SO_ERROR`), and clears it.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(tcp) => tcp.take_error(),
            #[cfg(unix)]
            Self::Unix(unix) => unix.take_error(),
        }
    }

    /// Configures the socket to send a reset when it is dropped, instead of an orderly shutdown.
    pub(crate) fn reset_on_drop(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.set_zero_linger(),
            // Unix sockets do not support resets.
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
    }
}

#[cfg(target_os = "linux")]
impl SocketRef<'_> {
    /// Waits until the socket may be readable, and calls `read`, which must not block.
    ///
    /// Returns `None` if `read` would block. A different read call may still return data, so the socket stays marked as
    /// readable and the task is not woken.
    pub(crate) fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<Option<usize>>> {
        let mut read = |socket: BorrowedFd<'_>| match read(socket) {
            // On `WouldBlock`, tokio would clear the readiness and wait for new data.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result.map(Some),
        };
        loop {
            let result = match self {
                Self::Tcp(tcp) => {
                    ready!(tcp.poll_read_ready(cx))?;
                    tcp.try_io(Interest::READABLE, || read(tcp.as_fd()))
                }
                Self::Unix(unix) => {
                    ready!(unix.poll_read_ready(cx))?;
                    unix.try_io(Interest::READABLE, || read(unix.as_fd()))
                }
            };
            if let Some(result) = settled(result) {
                return Poll::Ready(result);
            }
        }
    }

    /// Waits until `write`, which must not block, has written to the socket.
    pub(crate) fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let result = match self {
                Self::Tcp(tcp) => {
                    ready!(tcp.poll_write_ready(cx))?;
                    tcp.try_io(Interest::WRITABLE, || write(tcp.as_fd()))
                }
                Self::Unix(unix) => {
                    ready!(unix.poll_write_ready(cx))?;
                    unix.try_io(Interest::WRITABLE, || write(unix.as_fd()))
                }
            };
            if let Some(result) = settled(result) {
                return Poll::Ready(result);
            }
        }
    }
}

/// Returns the result, or `None` if the call must be retried: the socket was not ready, or the call was interrupted.
#[cfg(target_os = "linux")]
fn settled<T>(result: io::Result<T>) -> Option<io::Result<T>> {
    match &result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
        _ => Some(result),
    }
}
