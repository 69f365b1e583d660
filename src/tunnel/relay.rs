//! Relays bytes between two connections.

use super::{
    direction::{Both, Direction, Side},
    sender_check::SenderCheck,
};
use crate::{
    error::{BoxError, BoxFuture},
    io::linger,
    negotiate::protocol::Protocol,
    session::{Session, quiet::Quiet, upgraded::Upgraded},
};
use futures_util::{FutureExt as _, future::join_all};
use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use sync_wrapper::SyncWrapper;
use tokio::io::{AsyncRead, AsyncWrite};

/// The idle period after which a stopping relay ends.
const QUIET: Duration = Duration::from_secs(1);

/// Time limit for flushing and shutting down a connection that belongs to no session.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Relays bytes between a session and another connection until both have ended.
///
/// Call this function at the end of a handler that has connected to its upstream. The function runs a [`Relay`] that
/// stops on the session's [stop](Session::stop) signal. If the session's protocol is `websocket`, the relay is one of a
/// [WebSocket](Relay::websocket).
///
/// ```
/// use http::StatusCode;
/// use tokio::net::UnixStream;
/// use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeRequest, tunnel::relay};
///
/// struct Docker;
///
/// impl ProtocolHandler for Docker {
///     async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
///         let docker = UnixStream::connect("/run/docker.sock").await.map_err(|error| {
///             Rejection::new(StatusCode::BAD_GATEWAY, "cannot connect to Docker").with_source(error)
///         })?;
///         Ok(Accept::new(|session| relay(session, docker)))
///     }
/// }
/// ```
///
/// # Errors
///
/// Returns the [`io::Error`] of the connection that broke off or could not be written to.
pub fn relay<T>(
    session: Session,
    io: T,
) -> impl Future<Output = Result<(), BoxError>> + Send + use<T>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = session.stop();
    let state = Arc::clone(session.state());
    let is_websocket = session.protocol().is_some_and(Protocol::is_websocket);
    let mut relay = Relay::new(session.into_io(), io).stop(stop);
    if is_websocket {
        relay = relay.websocket();
    }
    relay.map(move |relayed| {
        let result = relayed.into_result();
        if result.is_err() {
            // One of the two peers caused the error, so it is logged at DEBUG: a peer's reset needs no attention of the
            // operator.
            state.blame_peer();
        }
        Ok(result.map(drop)?)
    })
}

/// Relays bytes between two connections, in both directions at once.
///
/// This future resolves to a [`Relayed`]: the reason for the end, and the number of bytes sent in each direction.
///
/// ```
/// use std::time::Duration;
/// use tokio::net::TcpStream;
/// use tower_upgrade::{Accept, tunnel::Relay};
///
/// # fn accept(upstream: TcpStream) -> Accept {
/// Accept::new(|session| async move {
///     let stop = session.stop();
///     let relayed = Relay::new(session.into_io(), upstream)
///         .idle_timeout(Duration::from_secs(60))
///         .stop(stop)
///         .await;
///     println!("{relayed}"); // 512 bytes one way, 4096 the other: finished
///     relayed.into_result()?;
///     Ok(())
/// })
/// # }
/// ```
///
/// # How it ends
///
/// Each direction ends separately. When one connection reaches end of file, the relay sends the bytes already read
/// from it and shuts down the write side of the other connection, which can keep sending. The relay finishes when
/// both directions have ended. A peer that no longer accepts bytes can keep sending until it ends its own direction.
///
/// A connection that breaks off, for example with a reset, ends both directions: the relay resets the TCP socket of
/// the other connection, also beneath TLS, so that its peer does not mistake truncated data for complete data. The
/// reset needs [the socket](#the-socket-of-a-connection). An HTTP/2 peer sees an end of stream (RFC 9113 §8.5 requires
/// a reset, which hyper does not send).
///
/// While bytes from one connection wait for the other to accept them, the relay detects a reset of the first within one
/// second if the socket is known, and otherwise when the other connection accepts bytes.
///
/// The relay returns the connection of a [`Session`] to its session, which performs the orderly shutdown. The relay
/// shuts down any other connection.
///
/// # The socket of a connection
///
/// The relay needs the socket to reset a connection, to detect its reset early and to use `splice(2)`:
///
/// | the connection is | reset | `splice` |
/// |---|---|---|
/// | a `TcpStream` or a `UnixStream`, also in a [`BoxIo::new`](crate::BoxIo::new) | yes (TCP) | yes |
/// | an [`Upgraded`] of an HTTP/1 connection that is served on, or dialed as, one of these types | yes (TCP) | yes |
/// | a [`BoxIo::over`](crate::BoxIo::over), which names the socket of a connection such as TLS, and an `Upgraded` of it | yes (TCP) | no |
/// | any other type: an enum of TLS and TCP, a bare TLS stream | no | no |
/// | a stream of HTTP/2 | no | no |
///
/// Without the socket, the relay drops the connection instead of resetting it. A plain TCP peer then sees an orderly
/// shutdown, and may mistake truncated data for complete data. Serve each kind of connection as a
/// [`BoxIo`](crate::BoxIo) instead of an enum, and set [`Dial::map_io`](crate::client::Dial::map_io) if a connector
/// returns an enum.
///
/// # Cost
///
/// An idle relay holds neither a buffer nor a pipe. To read, the relay borrows a 72 KiB buffer from its thread, as
/// [`copy`](crate::copy) does.
///
/// On Linux, if both connections are TCP or Unix sockets ([known to the relay](#the-socket-of-a-connection)), the relay
/// switches to `splice(2)` after four consecutive reads have filled that buffer. The bytes then move through a pipe of
/// up to 1 MiB without a copy to user space, for a fraction of the work. A process has up to 32 such pipes; if all
/// pipes are in use or the kernel rejects the call, the relay keeps copying through the buffer.
///
/// Like `write`, `splice` cannot suppress `SIGPIPE`. Rust programs ignore that signal by default. In a program with the
/// default action for the signal, a write to a disconnected peer terminates the process.
///
/// # Cancel safety
///
/// Dropping the future loses the bytes that are read and not yet sent. Both connections are then broken off, as
/// described above. Without unsent bytes, the connections are dropped without a reset.
#[must_use = "futures do nothing unless polled"]
pub struct Relay {
    ends: Both,
    a_to_b: Direction,
    b_to_a: Option<Direction>,
    idle_timeout: Option<Duration>,
    stop: Option<SyncWrapper<BoxFuture<()>>>,
    quiet: Quiet,
    is_stopping: bool,
    look: SenderCheck,
    closing: Option<Closing>,
}

/// Closes the connections after the relay has ended.
struct Closing {
    end: RelayEnd,
    done: SyncWrapper<BoxFuture<()>>,
}

impl Relay {
    /// Creates a relay between two connections.
    ///
    /// The [`Upgraded`] of a session still belongs to its session, which counts the bytes and enforces its timeouts.
    pub fn new<A, B>(a: A, b: B) -> Self
    where
        A: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        B: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let b = Upgraded::uncovered(b);
        Self::of(a, Some(b))
    }

    /// Creates a relay that echoes a connection: sends every byte back to its sender.
    ///
    /// ```
    /// use tower_upgrade::{Session, handler_fn, tunnel::Relay};
    ///
    /// let echo = handler_fn(|session: Session| async move {
    ///     Relay::echo(session.into_io()).await.into_result()?;
    ///     Ok(())
    /// });
    /// ```
    pub fn echo<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::of(io, None)
    }

    fn of<T>(a: T, b: Option<Upgraded>) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self {
            a_to_b: Direction::new(Side::A, Side::B),
            b_to_a: b.is_some().then(|| Direction::new(Side::B, Side::A)),
            ends: Both {
                a: Upgraded::uncovered(a),
                b,
            },
            idle_timeout: None,
            stop: None,
            quiet: Quiet::default(),
            is_stopping: false,
            look: SenderCheck::default(),
            closing: None,
        }
    }

    /// Sets the time limit without a byte sent in either direction, after which the relay ends. The default is `None`,
    /// which disables the limit.
    ///
    /// A session has a separate timeout:
    /// [`UpgradeLayer::idle_timeout`](crate::UpgradeLayer::idle_timeout).
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Sets the signal that stops the relay.
    ///
    /// After `signal` completes, the relay keeps relaying and ends with an orderly shutdown after the first second
    /// without a byte in either direction.
    ///
    /// The relay first sends all bytes already read, without a time limit: a peer that accepts no bytes delays the end
    /// until the [idle timeout](Self::idle_timeout), if one is set. To end the relay at once, drop it.
    pub fn stop(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Some(SyncWrapper::new(Box::pin(signal)));
        self
    }

    /// Treats the bytes as the frames of a WebSocket, of which the first connection is the client.
    ///
    /// At the [stop](Self::stop) signal, the relay sends each end a close frame with code 1001 (RFC 6455 §7.4.1) at the
    /// next frame boundary, unless that end has already received one, and ends. The relay does not send later frames.
    /// If the sender does not complete a frame, that direction ends without a close frame after one second without a
    /// byte.
    ///
    /// If the session of the first connection ends its handler, at an idle timeout or a deadline, the session sends the
    /// client the close frame.
    ///
    /// The relay of a WebSocket does not use `splice`, which hides the frames.
    pub fn websocket(mut self) -> Self {
        self.a_to_b.follow_websocket(&mut self.ends);
        if let Some(b_to_a) = &mut self.b_to_a {
            b_to_a.follow_websocket(&mut self.ends);
        }
        self
    }

    /// Polls the stop signal.
    fn poll_stop(&mut self, cx: &mut Context<'_>) {
        let Some(stop) = &mut self.stop else { return };
        if stop.get_mut().as_mut().poll(cx).is_ready() {
            self.stop = None;
            self.is_stopping = true;
            self.quiet = Quiet::default();
            self.a_to_b.close_websocket();
            if let Some(b_to_a) = &mut self.b_to_a {
                b_to_a.close_websocket();
            }
        }
    }

    /// Polls both directions.
    fn poll_directions(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let a_is_broken = self.b_to_a.as_ref().and_then(Direction::broken_off);
        let there = self.a_to_b.poll(cx, &mut self.ends, a_is_broken);
        let b_is_broken = self.a_to_b.broken_off();
        let back = match &mut self.b_to_a {
            Some(b_to_a) => b_to_a.poll(cx, &mut self.ends, b_is_broken),
            None => Poll::Ready(Ok(())),
        };
        match (there, back) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                self.break_off();
                Poll::Ready(RelayEnd::Failed(error))
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                let failure = self.a_to_b.failure.take();
                let failure = failure.or_else(|| self.b_to_a.as_mut()?.failure.take());
                Poll::Ready(match failure {
                    Some(error) => RelayEnd::Failed(error),
                    None if self.a_to_b.has_closed_websocket() => RelayEnd::Stopped,
                    None => RelayEnd::Finished,
                })
            }
            _ if self.has_unsent() => {
                let directions = std::iter::once(&self.a_to_b).chain(&self.b_to_a);
                let error = ready!(self.look.poll(cx, &mut self.ends, directions));
                self.break_off();
                Poll::Ready(RelayEnd::Failed(error))
            }
            _ => Poll::Pending,
        }
    }

    /// Polls the idle timer; completes when the idle limit is exceeded.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        // Bytes already read are sent before the relay stops.
        let is_stopping = self.is_stopping && !self.has_unsent();
        let limit = match (self.idle_timeout, is_stopping) {
            (Some(idle), true) => idle.min(QUIET),
            (None, true) => QUIET,
            (Some(idle), false) => idle,
            (None, false) => return Poll::Pending,
        };
        let bytes = self.a_to_b.bytes() + self.b_to_a.as_ref().map_or(0, Direction::bytes);
        ready!(self.quiet.poll(cx, limit, bytes));
        Poll::Ready(match is_stopping {
            true => RelayEnd::Stopped,
            false => RelayEnd::Idle,
        })
    }

    fn has_unsent(&self) -> bool {
        self.a_to_b.has_unsent() || self.b_to_a.as_ref().is_some_and(Direction::has_unsent)
    }

    /// Breaks off both connections, with a reset if the socket is known, so that their peers do not see an orderly
    /// shutdown.
    fn break_off(&mut self) {
        self.ends.a.break_off();
        if let Some(b) = &mut self.ends.b {
            b.break_off();
        }
    }

    /// Closes the connections that belong to no session, unless both directions have finished.
    fn close(&mut self, end: &RelayEnd) -> BoxFuture<()> {
        if self.has_unsent() {
            self.break_off();
        }
        let Both { a, b } = std::mem::replace(&mut self.ends, Both::gone());
        if matches!(end, RelayEnd::Finished) {
            return Box::pin(std::future::ready(()));
        }
        // Dropping a session's connection returns it at once to the session, which closes it.
        let mut ours: Vec<_> = [Some(a), b].into_iter().flatten().collect();
        ours.retain(|io| !io.has_session());
        let closed = ours
            .into_iter()
            .map(|io| linger::close(io.into_box_io(), &[], SHUTDOWN_TIMEOUT));
        Box::pin(join_all(closed).map(drop))
    }
}

impl Future for Relay {
    type Output = Relayed;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Relayed> {
        let this = self.get_mut();
        loop {
            if let Some(closing) = &mut this.closing {
                ready!(closing.done.get_mut().as_mut().poll(cx));
                let end = std::mem::replace(&mut closing.end, RelayEnd::Finished);
                return Poll::Ready(Relayed {
                    a_to_b: this.a_to_b.bytes(),
                    b_to_a: this.b_to_a.as_ref().map_or(0, Direction::bytes),
                    end,
                });
            }
            this.poll_stop(cx);
            let end = match this.poll_directions(cx) {
                Poll::Ready(end) => end,
                Poll::Pending => ready!(this.poll_quiet(cx)),
            };
            let done = SyncWrapper::new(this.close(&end));
            this.closing = Some(Closing { end, done });
        }
    }
}

impl Drop for Relay {
    /// Breaks off both connections if bytes are unsent, so that the peer does not mistake truncated data for complete
    /// data.
    fn drop(&mut self) {
        if self.has_unsent() {
            self.break_off();
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

/// The result of a [`Relay`]: its end and its byte counts.
#[derive(Debug)]
pub struct Relayed {
    a_to_b: u64,
    b_to_a: u64,
    end: RelayEnd,
}

impl Relayed {
    /// Returns the number of bytes sent from the first connection to the second; for an echo, back to itself.
    #[must_use]
    pub fn a_to_b(&self) -> u64 {
        self.a_to_b
    }

    /// Returns the number of bytes sent from the second connection to the first; for an echo, 0.
    #[must_use]
    pub fn b_to_a(&self) -> u64 {
        self.b_to_a
    }

    /// Returns the reason for the end of the relay.
    #[must_use]
    pub fn end(&self) -> &RelayEnd {
        &self.end
    }

    /// Returns the number of bytes sent from the first connection to the second, and from the second to the first.
    ///
    /// # Errors
    ///
    /// Returns the error of [`RelayEnd::Failed`], and an error of kind [`TimedOut`](io::ErrorKind::TimedOut) for
    /// [`RelayEnd::Idle`].
    pub fn into_result(self) -> io::Result<(u64, u64)> {
        match self.end {
            RelayEnd::Finished | RelayEnd::Stopped => Ok((self.a_to_b, self.b_to_a)),
            RelayEnd::Idle => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the idle timeout of the relay has passed",
            )),
            RelayEnd::Failed(error) => Err(error),
        }
    }
}

impl fmt::Display for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes one way, {} the other: {}",
            self.a_to_b, self.b_to_a, self.end
        )
    }
}

/// The reason for the end of a [`Relay`].
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayEnd {
    /// Both connections have ended.
    Finished,
    /// The [`Relay::idle_timeout`] passed without a byte in either direction.
    Idle,
    /// The relay received its [stop](Relay::stop) signal.
    Stopped,
    /// A connection broke off or could not be written to.
    Failed(io::Error),
}

impl fmt::Display for RelayEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Idle => f.write_str("idle"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}
