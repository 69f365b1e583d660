//! HTTP datagrams over an upgraded connection.

use super::{
    capsule::{Decoder, Malformed},
    send_queue::SendQueue,
};
use crate::{
    client,
    io::{
        buffer::Buffer,
        datagrams::{Outcome, Quic, QuicDatagrams},
    },
    session::{Session, upgraded::Upgraded},
};
use bytes::Bytes;
use http::Extensions;
use std::{
    fmt,
    future::poll_fn,
    io,
    ops::Deref,
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
/// Over HTTP/3, if the server or the client provides a [`Transport`](super::Transport), datagrams are sent as QUIC
/// datagrams, or in capsules if the peer has not enabled QUIC datagrams. Those of the peer are received from both. The
/// end of the stream also ends the QUIC datagrams.
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
/// A QUIC datagram does not wait in this queue. One that is too large for the path or the peer is dropped and counted: a
/// capsule would hide the limit of the path from a protocol that probes for it (RFC 9298 §6.1).
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
    /// Boxed, because most connections have no QUIC datagrams.
    quic: Option<Box<Quic>>,
    /// The stream of the peer has ended, or an error has occurred.
    has_ended: bool,
}

/// Bytes that were read and not yet decoded, in a buffer of the thread's pool.
struct Input {
    buffer: Buffer,
    start: usize,
    end: usize,
}

/// A received datagram.
pub(super) enum Received<'a> {
    /// In the input of the stream.
    Capsule(&'a [u8]),
    Quic(Bytes),
}

impl Deref for Received<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Capsule(datagram) => datagram,
            Self::Quic(datagram) => datagram,
        }
    }
}

impl HttpDatagrams {
    /// Sends and receives datagrams as capsules over `io`.
    ///
    /// To create an `HttpDatagrams` for a session, convert the [`Session`] or the [`client::Session`]: QUIC datagrams
    /// are in the extensions of the request or the response.
    #[must_use]
    pub fn new(io: Upgraded) -> Self {
        Self {
            io,
            input: None,
            decoder: Decoder::new(MAX_LENGTH),
            queue: SendQueue::default(),
            quic: None,
            has_ended: false,
        }
    }

    fn with_extensions(io: Upgraded, extensions: &mut Extensions) -> Self {
        let quic = extensions
            .remove::<QuicDatagrams>()
            .and_then(QuicDatagrams::take);
        let mut datagrams = Self::new(io);
        datagrams.quic = quic;
        datagrams
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
        let take = |_: &mut Context<'_>, datagram: Received<'_>| match datagram {
            Received::Capsule(datagram) => Bytes::copy_from_slice(datagram),
            Received::Quic(datagram) => datagram,
        };
        let received = ready!(self.poll_recv_with(cx, take));
        turn.made_progress();
        Poll::Ready(received)
    }

    /// Receives the next datagram, and passes it to `take` without a copy.
    pub(super) fn poll_recv_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut Context<'_>, Received<'_>) -> R,
    ) -> Poll<Option<io::Result<R>>> {
        if self.has_ended || self.quic.is_none() {
            return self.poll_recv_capsule(cx, take);
        }
        let is_streams_turn = self
            .quic
            .as_mut()
            .is_some_and(|quic| quic.is_streams_turn());
        for is_stream in [is_streams_turn, !is_streams_turn] {
            if is_stream {
                if let Poll::Ready(received) = self.poll_recv_capsule(cx, &mut take) {
                    return Poll::Ready(received);
                }
            } else if let Some(Poll::Ready(datagram)) =
                self.quic.as_mut().map(|quic| quic.poll_recv(cx))
            {
                // If the session has ended, the stream returns the error.
                if self.io.check().is_ok() {
                    self.io.record_read(datagram.len());
                    return Poll::Ready(Some(Ok(take(cx, Received::Quic(datagram)))));
                }
            }
        }
        Poll::Pending
    }

    fn poll_recv_capsule<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut Context<'_>, Received<'_>) -> R,
    ) -> Poll<Option<io::Result<R>>> {
        loop {
            if self.has_ended {
                return Poll::Ready(None);
            }
            if let Some(input) = &mut self.input {
                let mut rest = &input.buffer[input.start..input.end];
                let taken = self.decoder.next(&mut rest);
                let taken = taken.map(|datagram| {
                    datagram.map(|datagram| take(cx, Received::Capsule(&datagram)))
                });
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
        self.quic = None;
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

    /// Sends a datagram with `context` before the payload.
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
        if let Outcome::NeedsCapsule = self.send_quic(context, &payload)? {
            self.queue.push(context, payload);
        }
        match self.poll_flush(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    /// Sends a datagram as a QUIC datagram, if possible.
    pub(super) fn send_quic(&mut self, context: &[u8], payload: &[u8]) -> io::Result<Outcome> {
        let Some(quic) = &mut self.quic else {
            return Ok(Outcome::NeedsCapsule);
        };
        // Fails if the session has ended.
        self.io.check()?;
        let outcome = quic.send(context, payload)?;
        match outcome {
            Outcome::Sent => self.io.record_written(context.len() + payload.len()),
            Outcome::Dropped => self.queue.count_dropped(),
            Outcome::NeedsCapsule => {}
        }
        Ok(outcome)
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
        if let Some(quic) = &mut self.quic {
            quic.close();
        }
        poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await
    }

    /// Returns the number of datagrams that were not sent because the queue was full, or because they were too large for
    /// a QUIC datagram.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Returns `true` if bytes of the stream were read and not yet decoded.
    pub(super) fn has_input(&self) -> bool {
        self.input.is_some()
    }

    pub(super) fn queue_mut(&mut self) -> &mut SendQueue {
        &mut self.queue
    }

    /// Returns `true` if datagrams can be sent as QUIC datagrams.
    pub(super) fn has_quic(&self) -> bool {
        self.quic.is_some()
    }
}

impl From<Upgraded> for HttpDatagrams {
    fn from(io: Upgraded) -> Self {
        Self::new(io)
    }
}

impl From<Session> for HttpDatagrams {
    fn from(mut session: Session) -> Self {
        let io = session.take_io();
        Self::with_extensions(io, session.extensions_mut())
    }
}

impl From<client::Session> for HttpDatagrams {
    fn from(session: client::Session) -> Self {
        let (mut response, io) = session.into_parts();
        Self::with_extensions(io, &mut response.extensions)
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
