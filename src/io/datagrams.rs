//! The QUIC datagrams of a request stream.

use bytes::Bytes;
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use sync_wrapper::SyncWrapper;

/// The QUIC datagrams (RFC 9221) of one request stream, as a server or a client of HTTP/3 provides them.
///
/// A payload is the HTTP Datagram Payload of RFC 9297 §2.1, without the Quarter Stream ID. [`QuicDatagrams`] shows how
/// a server passes a `Transport` to the session.
pub trait Transport: Send + 'static {
    /// Receives the payload of the next datagram of the stream, or returns `None` if the stream receives no more
    /// datagrams.
    ///
    /// Datagrams that arrive while the task is busy wait in a bounded queue of the transport. `poll_recv` is not called
    /// again after it has returned `None`.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// Sends one datagram with `context` and then `payload`.
    ///
    /// The method does not wait: a transport with a full send buffer drops its oldest datagrams. Neither part is
    /// longer than 65,543 bytes; `context` is empty or a Context ID.
    ///
    /// # Errors
    ///
    /// Returns an error if the datagram was not sent.
    fn send(&mut self, context: &[u8], payload: &[u8]) -> Result<(), SendError>;
}

/// The reason why a [`Transport`] has not sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The datagram exceeds the limit of the peer or of the path.
    ///
    /// The datagram is dropped and [counted](crate::datagram::HttpDatagrams::dropped). A capsule would carry it, but also hide the
    /// limit of the path from a protocol that probes for it (RFC 9298 §6.1).
    TooLarge,
    /// The peer has not sent `SETTINGS_H3_DATAGRAM`, or not yet: the datagram is sent in a capsule.
    Unavailable,
    /// The connection is closed.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the datagram is too large for the path or the peer",
            Self::Unavailable => "the peer has not enabled QUIC datagrams",
            Self::Closed => "the connection is closed",
        })
    }
}

impl std::error::Error for SendError {}

/// The QUIC datagrams of a request, in its extensions.
///
/// A server of HTTP/3 inserts `QuicDatagrams` into the extensions of a request, beside the
/// [`PendingUpgrade`](crate::PendingUpgrade) for the stream; a client inserts it into the extensions of the response.
/// [`HttpDatagrams`](crate::datagram::HttpDatagrams) takes the transport out of the extensions of the session, and sends and
/// receives QUIC datagrams beside the capsules of the stream. If the session does not start, the transport is dropped
/// with the request. Clones share the transport, which is taken once.
///
/// ```
/// use bytes::Bytes;
/// use std::task::{Context, Poll};
/// use tokio::sync::mpsc;
/// use tower_upgrade::datagram::{QuicDatagrams, SendError, Transport};
///
/// /// A QUIC connection.
/// trait Connection: Send {
///     fn max_datagram_size(&self) -> Option<usize>;
///     fn send_datagram(&self, datagram: Bytes);
/// }
///
/// struct Stream<C> {
///     connection: C,
///     /// The Quarter Stream ID of the request stream, encoded.
///     id: Bytes,
///     /// The task that reads the datagrams of the connection sends those of this stream, with `try_send`.
///     received: mpsc::Receiver<Bytes>,
/// }
///
/// impl<C: Connection + 'static> Transport for Stream<C> {
///     fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
///         self.received.poll_recv(cx)
///     }
///
///     fn send(&mut self, context: &[u8], payload: &[u8]) -> Result<(), SendError> {
///         let datagram = [&self.id, context, payload].concat();
///         match self.connection.max_datagram_size() {
///             None => Err(SendError::Unavailable),
///             Some(max) if datagram.len() > max => Err(SendError::TooLarge),
///             Some(_) => Ok(self.connection.send_datagram(datagram.into())),
///         }
///     }
/// }
///
/// fn attach<C: Connection + 'static>(request: &mut http::Request<()>, stream: Stream<C>) {
///     request.extensions_mut().insert(QuicDatagrams::new(stream));
/// }
/// ```
#[derive(Clone)]
pub struct QuicDatagrams {
    transport: Arc<Mutex<Option<Box<dyn Transport>>>>,
}

impl QuicDatagrams {
    /// Wraps the transport of one request stream.
    pub fn new(transport: impl Transport) -> Self {
        Self {
            transport: Arc::new(Mutex::new(Some(Box::new(transport)))),
        }
    }

    /// Takes the transport. Returns `None` if a clone has already returned it.
    pub(crate) fn take(self) -> Option<Box<Quic>> {
        let mut transport = self
            .transport
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let transport = transport.take()?;
        Some(Box::new(Quic {
            transport: SyncWrapper::new(transport),
            has_ended: false,
            is_closed: false,
            is_streams_turn: false,
        }))
    }
}

impl fmt::Debug for QuicDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicDatagrams").finish_non_exhaustive()
    }
}

/// The transport of an `HttpDatagrams`.
pub(crate) struct Quic {
    transport: SyncWrapper<Box<dyn Transport>>,
    /// The transport has returned `None`.
    has_ended: bool,
    /// The send side of the stream is closed: RFC 9297 §2.1 forbids to send more datagrams.
    is_closed: bool,
    /// Which source is polled first. They alternate: either can always be ready.
    is_streams_turn: bool,
}

impl Quic {
    /// Returns `true` if the next datagram is received from the stream if both have one.
    pub(crate) fn is_streams_turn(&mut self) -> bool {
        self.is_streams_turn = !self.is_streams_turn;
        !self.is_streams_turn
    }

    /// Receives a datagram. Remains pending after the last one, because the end of the stream ends the session.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if self.has_ended {
            return Poll::Pending;
        }
        match self.transport.get_mut().poll_recv(cx) {
            Poll::Ready(Some(datagram)) => Poll::Ready(datagram),
            Poll::Ready(None) => {
                self.has_ended = true;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Sends a datagram, or returns the reason why it was not sent.
    pub(crate) fn send(&mut self, context: &[u8], payload: &[u8]) -> io::Result<Outcome> {
        if self.is_closed {
            // Not in the queue, which could never be written and would fail every later operation.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match self.transport.get_mut().send(context, payload) {
            Ok(()) => Ok(Outcome::Sent),
            Err(SendError::TooLarge) => Ok(Outcome::Dropped),
            Err(SendError::Unavailable) => Ok(Outcome::NeedsCapsule),
            Err(SendError::Closed) => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                SendError::Closed,
            )),
        }
    }

    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }
}

/// The result of sending a QUIC datagram.
pub(crate) enum Outcome {
    Sent,
    Dropped,
    NeedsCapsule,
}
