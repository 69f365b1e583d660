//! HTTP datagrams over an upgraded connection.

use super::{
    capsule::{Decoder, Malformed},
    send_queue::SendQueue,
};
use crate::{
    client,
    io::buffer::Buffer,
    session::{Session, upgraded::Upgraded},
};
use bytes::Bytes;
use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

/// The maximum length of a datagram: a UDP payload of 65,527 bytes with a Context ID takes up to 65,535 bytes; other
/// protocols may need 8 more.
pub(super) const MAX_LENGTH: usize = 65_535 + 8;

/// Sends and receives HTTP datagrams (RFC 9297) over a session, on the server or on the client.
///
/// Over HTTP/1.1 and HTTP/2, each datagram is a DATAGRAM capsule in the byte stream of the session. Capsules of other
/// types are skipped, as RFC 9297 §3.2 requires. The stream delivers all written datagrams in order, but a protocol of
/// datagrams must not rely on it: another HTTP version or an intermediary may lose or reorder them.
///
/// The datagrams count as bytes and as activity of the session. An idle `HttpDatagrams` holds no buffer.
///
/// A handler for a protocol of datagrams announces the capsules in its response (RFC 9297 §3.4):
///
/// ```
/// use http::HeaderValue;
/// use tower_upgrade::{
///     Accept, Rejection, Session, UpgradeLayer, UpgradeRequest, accept_fn, datagram::HttpDatagrams,
/// };
///
/// async fn accept(_request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
///     let run = |session: Session| async move {
///         let mut datagrams = HttpDatagrams::from(session);
///         while let Some(datagram) = datagrams.recv().await {
///             datagrams.send(datagram?).await?;
///         }
///         Ok(())
///     };
///     Ok(Accept::new(run).header("capsule-protocol", HeaderValue::from_static("?1")))
/// }
///
/// let layer = UpgradeLayer::new().protocol("echo-datagrams", accept_fn(accept));
/// ```
///
/// # Sending
///
/// [`send`](Self::send) does not wait for the peer. Datagrams that the connection does not accept wait in a queue of
/// 64 KiB; a datagram for a full queue replaces the oldest ones, which [`dropped`](Self::dropped) counts. Every later
/// `send`, [`recv`](Self::recv) or [`flush`](Self::flush) writes waiting datagrams.
///
/// # Errors
///
/// The methods return the errors of the connection, and an error if the peer violates the capsule protocol:
///
/// | violation | kind |
/// |---|---|
/// | a datagram of more than 65,543 bytes | [`InvalidData`](io::ErrorKind::InvalidData) |
/// | the stream ends within a capsule | [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) |
///
/// A violation aborts the stream. Over HTTP/1.1 the connection is reset, if its socket is [known](crate::BoxIo). Over
/// HTTP/2 the stream ends, because hyper [cannot reset](crate::manual::stack_below#a-stream-outlives-its-session) it. The
/// session of a server is then logged as a failure of the client.
pub struct HttpDatagrams {
    io: Upgraded,
    input: Option<Input>,
    decoder: Decoder,
    queue: SendQueue,
    /// The stream of the peer has ended, or an error has occurred.
    has_ended: bool,
}

/// Bytes that were read and not yet decoded, in a buffer of the thread's pool.
struct Input {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl HttpDatagrams {
    /// Sends and receives datagrams as capsules over `io`.
    ///
    /// To create an `HttpDatagrams` for a session, convert the [`Session`] or the [`client::Session`], which also have
    /// the extensions of their requests.
    #[must_use]
    pub fn new(io: Upgraded) -> Self {
        Self {
            io,
            input: None,
            decoder: Decoder::new(MAX_LENGTH),
            queue: SendQueue::default(),
            has_ended: false,
        }
    }

    /// Receives the next datagram, and writes waiting datagrams meanwhile.
    ///
    /// Returns `None` once the peer has ended its stream, and after an error. The payload of a protocol that has Context
    /// IDs, such as CONNECT-UDP, starts with the Context ID.
    ///
    /// # Errors
    ///
    /// Returns an error of the [table above](Self#errors) or of the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no datagram.
    pub async fn recv(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            if !self.has_ended {
                self.has_ended = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
        // One read can return thousands of datagrams, which must not monopolize the thread.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let take = |_: &mut Context<'_>, datagram: &[u8]| Bytes::copy_from_slice(datagram);
        let received = ready!(self.poll_recv_with(cx, take));
        turn.made_progress();
        Poll::Ready(received)
    }

    /// Receives the next datagram, and passes it to `take` without a copy.
    pub(super) fn poll_recv_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut Context<'_>, &[u8]) -> R,
    ) -> Poll<Option<io::Result<R>>> {
        loop {
            if self.has_ended {
                return Poll::Ready(None);
            }
            if let Some(input) = &mut self.input {
                let mut rest = &input.buffer[input.start..input.end];
                let taken = self.decoder.next(&mut rest);
                let taken = taken.map(|datagram| datagram.map(|datagram| take(cx, &datagram)));
                input.start = input.end - rest.len();
                if rest.is_empty() {
                    self.input = None;
                }
                match taken {
                    Ok(Some(taken)) => return Poll::Ready(Some(Ok(taken))),
                    Ok(None) => {}
                    Err(malformed) => return Poll::Ready(Some(Err(self.abort(malformed)))),
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(malformed) = self.decoder.end() {
                        return Poll::Ready(Some(Err(self.abort(malformed))));
                    }
                    self.has_ended = true;
                }
                Err(error) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Reads once. Returns `false` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut buffer = Buffer::borrow();
        let mut read_buf = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read_buf))?;
        let end = read_buf.filled().len();
        self.input = (end > 0).then_some(Input {
            buffer,
            start: 0,
            end,
        });
        Poll::Ready(Ok(end > 0))
    }

    /// Aborts the stream because the peer violates the protocol.
    pub(super) fn abort(&mut self, malformed: Malformed) -> io::Error {
        self.has_ended = true;
        self.input = None;
        self.queue = SendQueue::default();
        self.break_off();
        malformed.into()
    }

    fn break_off(&mut self) {
        let io = std::mem::replace(&mut self.io, Upgraded::gone());
        Upgraded::uncovered(io).break_off();
    }

    /// Sends a datagram: adds it to the queue, and writes as much of the queue as the connection accepts.
    ///
    /// The future completes when it is first polled. The payload of a protocol that has Context IDs, such as
    /// CONNECT-UDP, must start with the Context ID.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails, or of kind [`InvalidInput`](io::ErrorKind::InvalidInput) if `payload` is
    /// longer than 65,543 bytes.
    pub async fn send(&mut self, mut payload: Bytes) -> io::Result<()> {
        poll_fn(|cx| Poll::Ready(self.start_send(cx, std::mem::take(&mut payload)))).await
    }

    /// Sends a datagram like [`send`](Self::send), and registers the current task to be woken when the connection
    /// accepts more bytes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send).
    pub fn start_send(&mut self, cx: &mut Context<'_>, payload: Bytes) -> io::Result<()> {
        self.start_send_in(cx, &[], payload)
    }

    /// Sends a datagram whose payload follows `context`.
    pub(super) fn start_send_in(
        &mut self,
        cx: &mut Context<'_>,
        context: &'static [u8],
        payload: Bytes,
    ) -> io::Result<()> {
        if context.len() + payload.len() > MAX_LENGTH {
            let message = "the datagram is too long";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.queue.push(context, payload);
        match self.poll_flush(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    /// Writes all waiting datagrams, and flushes the connection.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no datagram.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Polls [`flush`](Self::flush).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue.poll_flush(cx, &mut self.io)
    }

    /// Writes all waiting datagrams, and ends the stream. The peer can still send.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails.
    ///
    /// # Cancel safety
    ///
    /// Call `close` again if the future was dropped.
    pub async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await
    }

    /// Returns the number of datagrams that were not sent because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    pub(super) fn queue_mut(&mut self) -> &mut SendQueue {
        &mut self.queue
    }
}

impl From<Upgraded> for HttpDatagrams {
    fn from(io: Upgraded) -> Self {
        Self::new(io)
    }
}

impl From<Session> for HttpDatagrams {
    fn from(session: Session) -> Self {
        Self::new(session.into_io())
    }
}

impl From<client::Session> for HttpDatagrams {
    fn from(session: client::Session) -> Self {
        Self::new(session.into_io())
    }
}

impl Drop for HttpDatagrams {
    /// Aborts the stream within a capsule: an orderly end there would be an error of this side.
    fn drop(&mut self) {
        if self.queue.is_within_capsule() {
            self.break_off();
        }
    }
}

impl fmt::Debug for HttpDatagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDatagrams")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
