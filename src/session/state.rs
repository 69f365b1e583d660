//! What a session's task, its IO, its handler and the registry share.

use super::identity::Identity;
use crate::{
    io::box_io::BoxIo,
    metrics::Labels,
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    sync::{AtomicBool, AtomicU64, AtomicWaker, Mutex, MutexGuard, Notify},
};
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        PoisonError,
        atomic::{self, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The number of a session, unique in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    fn next() -> Self {
        static LAST: atomic::AtomicU64 = atomic::AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The number, from 1.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for SessionId {
    /// A number as an administrator may have written it. It need not be a session's.
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One session, from its acceptance to its end.
pub(crate) struct State {
    pub(crate) id: SessionId,
    pub(crate) kind: UpgradeKind,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) labels: Labels,
    /// In a box, so that a session without one has a pointer more and nothing else.
    identity: Option<Box<Identity>>,
    accepted: Instant,
    /// When its IO came, in milliseconds from there.
    switched: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    /// When a byte last went either way, in milliseconds as well. Nobody looks at the clock for it unless
    /// there is an idle timeout.
    active: Option<AtomicU64>,
    stop: Stop,
    /// Of the session's task, which waits for its IO to come home, and for the order to stop.
    task: AtomicWaker,
    home: Mutex<Home>,
    is_taken: AtomicBool,
    is_over: AtomicBool,
    /// An operation on the IO failed.
    has_failed: AtomicBool,
    /// The peer's end was read.
    has_ended: AtomicBool,
    /// The session ends because its peer was silent.
    is_idle: AtomicBool,
    /// The peer, or another connection that the session passes on, is the reason why the session failed.
    is_peers_failure: AtomicBool,
    /// Of whoever reads, and of whoever writes: it may be another task.
    reader: AtomicWaker,
    writer: AtomicWaker,
}

struct Stop {
    /// When the handler has to be done, in nanoseconds from its acceptance: the earliest of all orders.
    deadline: AtomicU64,
    ordered: Notify,
}

/// No such time.
const NEVER: u64 = u64::MAX;

/// Where the IO of a session is.
enum Home {
    /// With the handler.
    Away,
    /// Its `Upgraded` was dropped.
    Back(BoxIo),
    /// The handler took it for itself.
    Taken,
}

impl State {
    pub(crate) fn new(
        kind: UpgradeKind,
        protocol: Option<Protocol>,
        peer: Option<SocketAddr>,
        labels: Labels,
        has_idle_timeout: bool,
    ) -> Self {
        Self {
            id: SessionId::next(),
            kind,
            protocol,
            peer,
            labels,
            identity: None,
            accepted: Instant::now(),
            switched: AtomicU64::new(NEVER),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            active: has_idle_timeout.then(AtomicU64::default),
            stop: Stop {
                deadline: AtomicU64::new(NEVER),
                ordered: Notify::new(),
            },
            task: AtomicWaker::new(),
            home: Mutex::new(Home::Away),
            is_taken: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            is_idle: AtomicBool::new(false),
            is_peers_failure: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }
    }

    pub(crate) fn with_identity(mut self, identity: Option<Identity>) -> Self {
        self.identity = identity.map(Box::new);
        self
    }

    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    pub(crate) fn accepted(&self) -> Instant {
        self.accepted
    }

    /// The IO has come: from here on its time counts.
    pub(crate) fn switch(&self) {
        let now = self.now();
        self.switched.store(now, Ordering::Relaxed);
        if let Some(active) = &self.active {
            active.store(now, Ordering::Relaxed);
        }
    }

    /// When its IO came, if it has.
    pub(crate) fn switched(&self) -> Option<Instant> {
        match self.switched.load(Ordering::Relaxed) {
            NEVER => None,
            millis => Some(self.accepted + Duration::from_millis(millis)),
        }
    }

    /// In milliseconds from its acceptance.
    fn now(&self) -> u64 {
        self.accepted.elapsed().as_millis() as u64
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    // ---- The IO ---------------------------------------------------------------------------------

    /// Counts what was read, or notes who waits to read. An error: the session is over.
    pub(crate) fn has_read(&self, cx: &Context<'_>, read: Poll<usize>) -> Result<(), SessionOver> {
        self.has_moved(cx, read, &self.read, &self.reader)
    }

    /// Counts what was written, or notes who waits to write. An error: the session is over.
    pub(crate) fn has_written(
        &self,
        cx: &Context<'_>,
        written: Poll<usize>,
    ) -> Result<(), SessionOver> {
        self.has_moved(cx, written, &self.written, &self.writer)
    }

    fn has_moved(
        &self,
        cx: &Context<'_>,
        moved: Poll<usize>,
        count: &AtomicU64,
        waiting: &AtomicWaker,
    ) -> Result<(), SessionOver> {
        match moved {
            Poll::Ready(0) => {}
            Poll::Ready(bytes) => {
                count.fetch_add(bytes as u64, Ordering::Relaxed);
                if let Some(active) = &self.active {
                    active.store(self.now(), Ordering::Relaxed);
                }
            }
            Poll::Pending => {
                waiting.register(cx.waker());
                // It may have ended just before.
                return self.is_going_on();
            }
        }
        Ok(())
    }

    /// Notes that an operation on the IO failed: an `io::Error` of the handler may be that one.
    pub(crate) fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Notes that the peer's end was read: an `UnexpectedEof` of the handler may be that end.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// Returns whether an `io::Error` that the handler ended with can be one of the session's IO. So can any error of an IO
    /// that the handler took for itself, which is not watched any more.
    #[allow(dead_code, reason = "for the feature `tracing`")]
    pub(crate) fn may_be_of_io(&self, error: &std::io::Error) -> bool {
        let is_end = error.kind() == std::io::ErrorKind::UnexpectedEof;
        self.has_failed.load(Ordering::Relaxed)
            || is_end && self.has_ended.load(Ordering::Relaxed)
            || matches!(*self.home(), Home::Taken)
    }

    /// Notes that the session ends because its peer was silent, whatever its handler ends with.
    #[allow(dead_code, reason = "for the feature `websocket`")]
    pub(crate) fn set_idle(&self) {
        self.is_idle.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Relaxed)
    }

    /// Notes that the session fails because of its peer, whatever error its handler ends with.
    #[allow(dead_code, reason = "for the features `tunnel` and `websocket`")]
    pub(crate) fn blame_peer(&self) {
        self.is_peers_failure.store(true, Ordering::Relaxed);
    }

    #[allow(dead_code, reason = "for the feature `tracing`")]
    pub(crate) fn is_peers_failure(&self) -> bool {
        self.is_peers_failure.load(Ordering::Relaxed)
    }

    pub(crate) fn is_going_on(&self) -> Result<(), SessionOver> {
        match self.is_over.load(Ordering::Acquire) {
            true => Err(SessionOver),
            false => Ok(()),
        }
    }

    /// When a byte last went either way, if anybody wants to know, and as long as it can be known.
    pub(crate) fn active(&self) -> Option<Instant> {
        let active = self.active.as_ref()?;
        let is_ours = !self.is_taken.load(Ordering::Relaxed);
        is_ours.then(|| self.accepted + Duration::from_millis(active.load(Ordering::Relaxed)))
    }

    /// The IO comes back to be shut down in order. If nobody waits for it any more it is dropped.
    pub(crate) fn bring_home(&self, io: BoxIo) {
        let mut home = self.home();
        let late = match *home {
            Home::Away => {
                *home = Home::Back(io);
                None
            }
            Home::Back(_) | Home::Taken => Some(io),
        };
        drop(home);
        drop(late);
        self.task.wake();
    }

    /// The IO is the handler's for good, or nobody's: what is done with it is not known from here on.
    pub(crate) fn take_for_good(&self) {
        self.is_taken.store(true, Ordering::Relaxed);
        let late = std::mem::replace(&mut *self.home(), Home::Taken);
        drop(late);
        self.task.wake();
    }

    /// The handler is done: from here on a silence is not its session's.
    #[cfg(feature = "websocket")]
    pub(crate) fn ignore_idleness(&self) {
        self.is_taken.store(true, Ordering::Relaxed);
    }

    /// From here on what is left of the IO in other hands fails, and whoever waits for it wakes.
    pub(crate) fn revoke(&self) {
        self.is_over.store(true, Ordering::Release);
        self.wake_io();
    }

    /// Whoever waits for the IO looks again.
    pub(crate) fn wake_io(&self) {
        self.reader.wake();
        self.writer.wake();
    }

    /// Waits for the IO. `None`: the handler took it for itself.
    pub(crate) fn poll_home(&self, cx: &Context<'_>) -> Poll<Option<BoxIo>> {
        self.task.register(cx.waker());
        let mut home = self.home();
        match std::mem::replace(&mut *home, Home::Taken) {
            Home::Away => {
                *home = Home::Away;
                Poll::Pending
            }
            Home::Back(io) => Poll::Ready(Some(io)),
            Home::Taken => Poll::Ready(None),
        }
    }

    fn home(&self) -> MutexGuard<'_, Home> {
        // Nothing that can panic runs under the lock.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- The order to stop ----------------------------------------------------------------------

    /// Tells the handler to stop, and its task to drop it at the deadline. An earlier deadline
    /// stands.
    pub(crate) fn stop_by(&self, deadline: Instant) {
        let deadline = deadline.saturating_duration_since(self.accepted).as_nanos();
        let deadline = u64::try_from(deadline).unwrap_or(NEVER - 1);
        self.stop.deadline.fetch_min(deadline, Ordering::AcqRel);
        self.stop.ordered.notify_waiters();
        self.task.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.deadline.load(Ordering::Acquire) != NEVER
    }

    /// When the handler has to be done, if it was told to stop.
    pub(crate) fn stops_by(&self) -> Option<Instant> {
        match self.stop.deadline.load(Ordering::Acquire) {
            NEVER => None,
            nanos => Some(self.accepted + Duration::from_nanos(nanos)),
        }
    }

    /// Waits for the order to stop.
    pub(crate) async fn stopping(&self) {
        // Before the look at it: an order in between is not missed.
        let ordered = self.stop.ordered.notified();
        if !self.is_stopping() {
            ordered.await;
        }
    }

    /// The session's task waits for the order as well.
    pub(crate) fn register_task(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }
}

/// The session has ended, and with it the use of its IO.
#[derive(Debug)]
pub(crate) struct SessionOver;

impl From<SessionOver> for std::io::Error {
    fn from(_: SessionOver) -> Self {
        Self::new(std::io::ErrorKind::NotConnected, "the session has ended")
    }
}
