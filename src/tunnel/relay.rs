//! Two connections, joined.

use super::{
    direction::{Both, Direction, Side},
    look::Look,
};
use crate::{
    error::{BoxError, BoxFuture},
    io::linger,
    session::{Session, upgraded::Upgraded},
};
use futures_util::{FutureExt as _, future::join_all};
use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use sync_wrapper::SyncWrapper;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

/// How long no byte goes either way until a relay that was told to stop ends.
const QUIET: Duration = Duration::from_secs(1);

/// How long an end that is no session's may take to be flushed and shut down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Joins a session with another connection until both have ended: what is left to do for a handler that
/// has dialed.
///
/// It is a [`Relay`] that stops when the session is to [stop](Session::stop).
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
///             Rejection::new(StatusCode::BAD_GATEWAY, "Docker is away").with_source(error)
///         })?;
///         Ok(Accept::new(|session| relay(session, docker)))
///     }
/// }
/// ```
///
/// # Errors
///
/// An [`io::Error`] of the connection that broke off, or could not be written to.
pub fn relay<T>(
    session: Session,
    io: T,
) -> impl Future<Output = Result<(), BoxError>> + Send + use<T>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = session.stop();
    let state = Arc::clone(session.state());
    let relay = Relay::new(session.into_io(), io).stop(stop);
    relay.map(move |relayed| {
        let result = relayed.into_result();
        if result.is_err() {
            // Of one of two connections: either is a peer, whose resets are not for the log of who runs the server.
            state.blame_peer();
        }
        Ok(result.map(drop)?)
    })
}

/// Two connections that are joined: what arrives at one is sent to the other, in both directions at once.
///
/// A future that comes to a [`Relayed`]: how it ended, and how many bytes went either way.
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
/// Each direction has an end of its own. When one connection has ended, what arrived of it before is sent, and the
/// other's write side is shut down; the other goes on sending as long as it likes. The relay is done when
/// both have ended. A peer that no longer takes anything keeps what comes from it until its own end.
///
/// A connection that breaks off, with a reset for example, ends both directions: the relay resets the TCP socket of
/// the other, also beneath TLS, so that its peer does not take a part for the whole. This needs
/// [the socket](#the-socket-of-a-connection). A peer on HTTP/2 sees an end (RFC 9113 §8.5 wants a reset, which hyper
/// does not send).
///
/// While bytes of a connection wait for the other to take them, the relay notices a reset of the first within a
/// second if it knows the socket, and else when the other takes something.
///
/// The relay gives the connection of a [`Session`] back to its session, which shuts it down in order. It shuts the
/// other connection down itself.
///
/// # The socket of a connection
///
/// To reset a connection, to notice its reset early and to use `splice(2)` the relay has to know the socket:
///
/// | the connection is | reset | `splice` |
/// |---|---|---|
/// | a `TcpStream` or a `UnixStream`, also in a [`BoxIo::new`](crate::BoxIo::new) | yes (TCP) | yes |
/// | an [`Upgraded`] of an HTTP/1 connection that was served on, or dialed as, one of these | yes (TCP) | yes |
/// | a [`BoxIo::over`](crate::BoxIo::over), which names the socket of a connection such as TLS, and an `Upgraded` of it | yes (TCP) | no |
/// | any other type: an enum of TLS and TCP, a bare TLS stream | no | no |
/// | a stream of HTTP/2 | no | no |
///
/// Without the socket a connection is dropped in place of a reset. A peer of plain TCP then sees an orderly end, and
/// may take a part for the whole. So serve each kind of connection as a [`BoxIo`](crate::BoxIo) instead of an enum, and
/// set [`Dial::map_io`](crate::client::Dial::map_io) where a connector returns one.
///
/// # What it costs
///
/// A relay that waits owns no buffer, and no pipe. While there is something to be read it borrows a buffer of
/// 72 KiB from its thread, as [`copy`](crate::copy) does. On Linux, where both connections are TCP or Unix sockets
/// ([which the relay knows](#the-socket-of-a-connection)), it moves bytes with `splice(2)` once four reads in a row have filled that buffer, through a pipe of up
/// to 1 MiB: they are not copied to this process, and it has a fraction of the work. A process has up to 32 such pipes;
/// where there is none to be had, or the kernel refuses, bytes are copied as before.
///
/// `splice` has no way to ask for no `SIGPIPE`, as `write` has none. Rust's programs ignore that signal. In one that
/// does not, a peer that has gone ends the process.
///
/// # Cancel safety
///
/// What has been read and not yet sent is lost if the future is dropped. Then both connections break off, as
/// above; if there is nothing of the kind, they are dropped as they are.
#[must_use = "futures do nothing unless polled"]
pub struct Relay {
    ends: Both,
    a_to_b: Direction,
    b_to_a: Option<Direction>,
    idle_timeout: Option<Duration>,
    stop: Option<SyncWrapper<BoxFuture<()>>>,
    quiet: Quiet,
    look: Look,
    closing: Option<Closing>,
}

/// All bytes have been sent.
struct Closing {
    end: RelayEnd,
    done: SyncWrapper<BoxFuture<()>>,
}

impl Relay {
    /// Joins two connections.
    ///
    /// An [`Upgraded`] of a session stays the session's: its bytes are counted there, and its limits in time
    /// hold.
    pub fn new<A, B>(a: A, b: B) -> Self
    where
        A: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        B: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let b = Upgraded::uncovered(b);
        Self::of(a, Some(b))
    }

    /// Joins a connection with itself: an echo.
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
            look: Look::default(),
            closing: None,
        }
    }

    /// Ends the relay when no byte was sent either way for this long. By default, and with `None`, there is no
    /// limit.
    ///
    /// A session has one of its own:
    /// [`UpgradeLayer::idle_timeout`](crate::UpgradeLayer::idle_timeout).
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Tells the relay to stop when `signal` completes. From then on it goes on for as long as bytes go by, and
    /// ends with the first second in which there are none, in order.
    ///
    /// What was read is sent before, for as long as that takes: a peer that takes nothing holds it up, until the
    /// [idle timeout](Self::idle_timeout) if there is one. To end it at once, drop it.
    pub fn stop(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Some(SyncWrapper::new(Box::pin(signal)));
        self
    }

    /// Goes on with both directions.
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

    /// Whether it has been quiet for too long.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if let Some(stop) = &mut self.stop {
            if stop.get_mut().as_mut().poll(cx).is_ready() {
                self.stop = None;
                self.quiet = Quiet {
                    is_stopping: true,
                    ..Quiet::default()
                };
            }
        }
        // What was read is sent, if there is anybody who takes it.
        let is_stopping = self.quiet.is_stopping && !self.has_unsent();
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

    /// Lets go of both ends in such a way that their peers see that there was no end.
    fn break_off(&mut self) {
        self.ends.a.break_off();
        if let Some(b) = &mut self.ends.b {
            b.break_off();
        }
    }

    /// Ends what is not a session's, if it has not ended yet.
    fn close(&mut self, end: &RelayEnd) -> BoxFuture<()> {
        if self.has_unsent() {
            self.break_off();
        }
        let Both { a, b } = std::mem::replace(&mut self.ends, Both::gone());
        if matches!(end, RelayEnd::Finished) {
            return Box::pin(std::future::ready(()));
        }
        // A session gets its own back at once, and closes it.
        let mut ours: Vec<_> = [Some(a), b].into_iter().flatten().collect();
        ours.retain(|io| !io.has_session());
        let closed = ours
            .into_iter()
            .map(|io| linger::close(io.into_box_io(), SHUTDOWN_TIMEOUT));
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
    /// A peer that has not got everything is not to take it for all there was.
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

/// Since when no byte went by.
#[derive(Default)]
struct Quiet {
    timer: Option<Pin<Box<Sleep>>>,
    /// When the last byte went by, and how many there were by then.
    last: Option<(Instant, u64)>,
    is_stopping: bool,
}

impl Quiet {
    fn poll(&mut self, cx: &mut Context<'_>, limit: Duration, bytes: u64) -> Poll<()> {
        let since = match self.last {
            Some((since, before)) if before == bytes => since,
            _ => Instant::now(),
        };
        self.last = Some((since, bytes));
        let Some(at) = since.checked_add(limit) else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        loop {
            // While bytes go by the timer is early, and is set anew only when it has fired.
            if timer.deadline() > at || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
            // Not bound by the budget of the task, which a busy relay always spends.
            ready!(pin!(tokio::task::unconstrained(timer.as_mut())).poll(cx));
            if at <= Instant::now() {
                return Poll::Ready(());
            }
        }
    }
}

/// What became of a [`Relay`].
#[derive(Debug)]
pub struct Relayed {
    a_to_b: u64,
    b_to_a: u64,
    end: RelayEnd,
}

impl Relayed {
    /// How many bytes of the first connection were sent to the second. Of an echo: to itself.
    #[must_use]
    pub fn a_to_b(&self) -> u64 {
        self.a_to_b
    }

    /// How many bytes of the second connection were sent to the first.
    #[must_use]
    pub fn b_to_a(&self) -> u64 {
        self.b_to_a
    }

    /// Why it ended.
    #[must_use]
    pub fn end(&self) -> &RelayEnd {
        &self.end
    }

    /// The bytes from the first connection to the second and back, if nothing failed.
    ///
    /// # Errors
    ///
    /// That of [`RelayEnd::Failed`]; of [`RelayEnd::Idle`] one of kind
    /// [`TimedOut`](io::ErrorKind::TimedOut).
    pub fn into_result(self) -> io::Result<(u64, u64)> {
        match self.end {
            RelayEnd::Finished | RelayEnd::Stopped => Ok((self.a_to_b, self.b_to_a)),
            RelayEnd::Idle => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no byte went either way for too long",
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

/// Why a [`Relay`] ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayEnd {
    /// Both connections have ended.
    Finished,
    /// No byte went either way for as long as [`Relay::idle_timeout`].
    Idle,
    /// It was told to [stop](Relay::stop).
    Stopped,
    /// A connection broke off, or could not be written to.
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
