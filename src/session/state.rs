//! The state shared by a session's task, its IO, its handler and the registry.

use super::{farewell::AtomicFarewell, identity::Identity, settings::Settings};
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
        Arc, PoisonError,
        atomic::{self, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The id of a session, unique in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    fn next() -> Self {
        static LAST: atomic::AtomicU64 = atomic::AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Returns the id as a number, starting at 1.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for SessionId {
    /// Converts any number, such as one entered by an administrator. A session with that id need not exist.
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of one session, from acceptance to end.
pub(crate) struct State {
    pub(crate) id: SessionId,
    pub(crate) kind: UpgradeKind,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) labels: Labels,
    settings: Arc<Settings>,
    /// Boxed, so that a session without an identity stores only a pointer.
    identity: Option<Box<Identity>>,
    accepted: Instant,
    /// The time at which the server handed over the IO, in milliseconds since `accepted`.
    started: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    /// The time at which a byte last moved in either direction, in milliseconds since `accepted`. `None` without an
    /// idle timeout, to avoid reading the clock.
    active: Option<AtomicU64>,
    stop: Stop,
    /// Wakes the session's task, which waits for the return of the IO and for the stop signal.
    task: AtomicWaker,
    io_slot: Mutex<IoSlot>,
    /// The bytes to write before the orderly shutdown.
    pub(crate) farewell: AtomicFarewell,
    is_taken: AtomicBool,
    is_over: AtomicBool,
    /// An operation on the IO failed.
    has_failed: AtomicBool,
    /// A read returned the end of stream.
    has_ended: AtomicBool,
    /// The session ends because its peer was silent.
    is_idle: AtomicBool,
    /// The session failed because of its peer, or because of the connection that it relays to.
    is_peers_failure: AtomicBool,
    /// The wakers of the reader and the writer of the IO, which may run in different tasks.
    reader: AtomicWaker,
    writer: AtomicWaker,
}

struct Stop {
    /// The deadline of the handler, in nanoseconds since acceptance: the earliest of all stop signals.
    deadline: AtomicU64,
    ordered: Notify,
}

/// The value of an unset time.
const NEVER: u64 = u64::MAX;

/// The IO slot of a session.
enum IoSlot {
    /// The handler has the IO.
    InUse,
    /// The `Upgraded` was dropped and returned the IO. Boxed, so that the slot is small while the session is open.
    Returned(Box<BoxIo>),
    /// The handler took ownership of the IO.
    Closed,
}

impl State {
    pub(crate) fn new(
        kind: UpgradeKind,
        protocol: Option<Protocol>,
        peer: Option<SocketAddr>,
        labels: Labels,
        settings: Arc<Settings>,
    ) -> Self {
        let has_idle_timeout = settings.idle_timeout().is_some();
        Self {
            id: SessionId::next(),
            kind,
            protocol,
            peer,
            labels,
            settings,
            identity: None,
            accepted: Instant::now(),
            started: AtomicU64::new(NEVER),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            active: has_idle_timeout.then(AtomicU64::default),
            stop: Stop {
                deadline: AtomicU64::new(NEVER),
                ordered: Notify::new(),
            },
            task: AtomicWaker::new(),
            io_slot: Mutex::new(IoSlot::InUse),
            farewell: AtomicFarewell::default(),
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

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn accepted(&self) -> Instant {
        self.accepted
    }

    /// Starts the clock of the session: the server has handed over the IO.
    pub(crate) fn start(&self) {
        let now = self.now();
        self.started.store(now, Ordering::Relaxed);
        if let Some(active) = &self.active {
            active.store(now, Ordering::Relaxed);
        }
    }

    /// Returns the time at which the server handed over the IO, or `None` before that.
    pub(crate) fn started(&self) -> Option<Instant> {
        match self.started.load(Ordering::Relaxed) {
            NEVER => None,
            millis => Some(self.accepted + Duration::from_millis(millis)),
        }
    }

    /// Returns the milliseconds since acceptance.
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

    /// Counts the bytes read, or registers the reader to be woken. Returns an error if the session has ended.
    pub(crate) fn has_read(&self, cx: &Context<'_>, read: Poll<usize>) -> Result<(), SessionOver> {
        self.has_moved(cx, read, &self.read, &self.reader)
    }

    /// Counts the bytes written, or registers the writer to be woken. Returns an error if the session has ended.
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
            Poll::Ready(bytes) => self.count(count, bytes),
            Poll::Pending => {
                waiting.register(cx.waker());
                // The session may have ended before the registration.
                return self.is_going_on();
            }
        }
        Ok(())
    }

    /// Counts bytes that were received outside of the IO.
    pub(crate) fn record_read(&self, bytes: usize) {
        self.count(&self.read, bytes);
    }

    /// Counts bytes that were sent outside of the IO.
    pub(crate) fn record_written(&self, bytes: usize) {
        self.count(&self.written, bytes);
    }

    fn count(&self, count: &AtomicU64, bytes: usize) {
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(active) = &self.active {
            active.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Records that an operation on the IO failed: an `io::Error` of the handler may come from the IO.
    pub(crate) fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Records that a read returned the end of stream: an `UnexpectedEof` of the handler may come from the IO.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if an `io::Error` of the handler can come from the session's IO. Once the handler owns the IO,
    /// failures are not recorded, and this returns `true` for any error.
    #[allow(dead_code, reason = "for the feature `tracing`")]
    pub(crate) fn may_be_of_io(&self, error: &std::io::Error) -> bool {
        let is_end = error.kind() == std::io::ErrorKind::UnexpectedEof;
        self.has_failed.load(Ordering::Relaxed)
            || is_end && self.has_ended.load(Ordering::Relaxed)
            || matches!(*self.io_slot(), IoSlot::Closed)
    }

    /// Records that the session ends because the peer was silent, regardless of the result of the handler.
    #[allow(dead_code, reason = "only some protocols of this crate use this")]
    pub(crate) fn set_idle(&self) {
        self.is_idle.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Relaxed)
    }

    /// Records that the session fails because of its peer, regardless of the error of the handler.
    #[allow(dead_code, reason = "only some protocols of this crate use this")]
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

    /// Returns the time at which a byte last moved in either direction, or `None` without an idle timeout and after the
    /// handler took ownership of the IO.
    pub(crate) fn active(&self) -> Option<Instant> {
        let active = self.active.as_ref()?;
        let is_ours = !self.is_taken.load(Ordering::Relaxed);
        is_ours.then(|| self.accepted + Duration::from_millis(active.load(Ordering::Relaxed)))
    }

    /// Returns the IO to its slot for an orderly shutdown. Drops the IO if the slot is closed.
    pub(crate) fn return_io(&self, io: BoxIo) {
        let io = Box::new(io);
        let mut io_slot = self.io_slot();
        let late = match *io_slot {
            IoSlot::InUse => {
                *io_slot = IoSlot::Returned(io);
                None
            }
            IoSlot::Returned(_) | IoSlot::Closed => Some(io),
        };
        drop(io_slot);
        drop(late);
        self.task.wake();
    }

    /// Closes the IO slot: the handler took ownership of the IO, or the session stopped waiting for the IO. The idle
    /// timeout no longer applies.
    pub(crate) fn close_io_slot(&self) {
        self.is_taken.store(true, Ordering::Relaxed);
        let late = std::mem::replace(&mut *self.io_slot(), IoSlot::Closed);
        drop(late);
        self.task.wake();
    }

    /// Disables the idle timeout, for a closing handshake with its own time limit.
    #[allow(dead_code, reason = "only some protocols of this crate use this")]
    pub(crate) fn disable_idle_timeout(&self) {
        self.is_taken.store(true, Ordering::Relaxed);
    }

    /// Fails all later operations on the parts of the IO in other tasks, and wakes pending ones.
    pub(crate) fn revoke(&self) {
        self.is_over.store(true, Ordering::Release);
        self.wake_io();
    }

    /// Wakes the reader and the writer of the IO.
    pub(crate) fn wake_io(&self) {
        self.reader.wake();
        self.writer.wake();
    }

    /// Waits for the return of the IO. Resolves to `None` if the handler took ownership of the IO.
    pub(crate) fn poll_returned_io(&self, cx: &Context<'_>) -> Poll<Option<BoxIo>> {
        self.task.register(cx.waker());
        let mut io_slot = self.io_slot();
        match std::mem::replace(&mut *io_slot, IoSlot::Closed) {
            IoSlot::InUse => {
                *io_slot = IoSlot::InUse;
                Poll::Pending
            }
            IoSlot::Returned(io) => Poll::Ready(Some(*io)),
            IoSlot::Closed => Poll::Ready(None),
        }
    }

    /// Returns `true` while the IO is neither returned nor owned by the handler.
    pub(crate) fn is_io_in_use(&self) -> bool {
        matches!(*self.io_slot(), IoSlot::InUse)
    }

    fn io_slot(&self) -> MutexGuard<'_, IoSlot> {
        // No code that can panic runs under the lock.
        self.io_slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- The stop signal -----------------------------------------------------------------------

    /// Sends the stop signal to the handler, and sets the deadline at which the task drops the handler. An earlier
    /// deadline remains in effect.
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

    /// Returns the deadline of the handler, if the stop signal was sent.
    pub(crate) fn stops_by(&self) -> Option<Instant> {
        match self.stop.deadline.load(Ordering::Acquire) {
            NEVER => None,
            nanos => Some(self.accepted + Duration::from_nanos(nanos)),
        }
    }

    /// Waits for the stop signal.
    pub(crate) async fn stopping(&self) {
        // Created before the check, so that a signal in between is not lost.
        let ordered = self.stop.ordered.notified();
        if !self.is_stopping() {
            ordered.await;
        }
    }

    /// Wakes the session's task, which polls the handler.
    #[allow(dead_code, reason = "only some protocols of this crate use this")]
    pub(crate) fn wake_task(&self) {
        self.task.wake();
    }

    /// Registers the session's task to be woken by the stop signal.
    pub(crate) fn register_task(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }
}

/// The error of an IO operation after the session has ended.
#[derive(Debug)]
pub(crate) struct SessionOver;

impl From<SessionOver> for std::io::Error {
    fn from(_: SessionOver) -> Self {
        Self::new(std::io::ErrorKind::NotConnected, "the session has ended")
    }
}
