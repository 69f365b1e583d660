//! The connections of a pool, and the choice of the connection for a request. Without IO.

use crate::client::{Body, Error, Http1, Http2};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::OnceCell, task::AbortHandle, time::Instant};

/// The number of idle HTTP/1.1 connections that a pool keeps.
const MAX_IDLE: usize = 64;

pub(super) struct State {
    pub(super) idle: Idle<Http1<Body>>,
    http2: Vec<(Http2<Body>, Arc<Streams>)>,
    /// Whether the next connection is expected to be HTTP/1.1, which requests cannot share.
    pub(super) expects_http1: bool,
    /// The connection attempt that requests without a connection wait for.
    pub(super) attempt: Option<Arc<Attempt>>,
    pub(super) idle_timeout: Duration,
    /// The task that closes idle connections.
    pub(super) watch: Option<AbortHandle>,
}

type Attempt = OnceCell<Result<(), Error>>;

/// The connection for one request.
pub(super) enum Connection {
    Http1(Http1<Body>),
    Http2(Http2<Body>, Stream),
}

/// The next step of a request.
pub(super) enum Next {
    Reuse(Connection),
    Connect,
    /// Make the connection attempt, or wait for the request that makes it.
    Await(Arc<Attempt>),
}

impl State {
    pub(super) fn new(expects_http1: bool, idle_timeout: Duration) -> Self {
        Self {
            idle: Idle::default(),
            http2: Vec::new(),
            expects_http1,
            attempt: None,
            idle_timeout,
            watch: None,
        }
    }

    pub(super) fn next(&mut self) -> Next {
        self.http2.retain(|(http2, _)| !http2.is_closed());
        // Prefer the oldest connection, so that the others become idle.
        let mut shared = self.http2.iter();
        let shared = shared.find_map(|(http2, streams)| {
            let stream = streams.open(http2.max_streams())?;
            Some(Connection::Http2(http2.clone(), stream))
        });
        let idle = || self.idle.take(Http1::is_ready).map(Connection::Http1);
        match shared.or_else(idle) {
            Some(connection) => Next::Reuse(connection),
            None if self.expects_http1 => Next::Connect,
            None => Next::Await(Arc::clone(self.attempt.get_or_insert_default())),
        }
    }

    /// Adds an HTTP/2 connection, and opens its first stream.
    pub(super) fn share(&mut self, http2: Http2<Body>) -> Stream {
        let streams = Arc::new(Streams::default());
        let stream = streams.count();
        self.http2.push((http2, streams));
        stream
    }

    /// Closes the connections that have been idle for the timeout. Returns the time at which the next may be.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let timeout = self.idle_timeout;
        let next = self.idle.expire(timeout, now);
        let mut all = next;
        self.http2.retain(|(http2, streams)| {
            let since = streams.idle_since();
            // A connection in use can become idle at any time from now on.
            let at = since.unwrap_or(now).checked_add(timeout);
            let is_kept = !http2.is_closed() && (since.is_none() || at.is_none_or(|at| at > now));
            if is_kept {
                all = all.into_iter().chain(at).min();
            }
            is_kept
        });
        all
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// A list of idle connections, each with the time since when.
pub(super) struct Idle<T> {
    /// The longest idle first.
    connections: VecDeque<(Instant, T)>,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self {
            connections: VecDeque::new(),
        }
    }
}

impl<T> Idle<T> {
    /// Adds a connection. Over the maximum, the longest idle one is dropped.
    pub(super) fn put(&mut self, connection: T, now: Instant) {
        if self.connections.len() == MAX_IDLE {
            self.connections.pop_front();
        }
        self.connections.push_back((now, connection));
    }

    /// Takes the connection that was used last, and drops those that have been closed since.
    fn take(&mut self, is_ready: impl Fn(&T) -> bool) -> Option<T> {
        while let Some((_, connection)) = self.connections.pop_back() {
            if is_ready(&connection) {
                return Some(connection);
            }
        }
        None
    }

    /// Drops the connections that have been idle for `timeout`. Returns the time of the next.
    fn expire(&mut self, timeout: Duration, now: Instant) -> Option<Instant> {
        while let Some((since, _)) = self.connections.front() {
            // Without a limit, the time overflows.
            let at = since.checked_add(timeout)?;
            if at > now {
                return Some(at);
            }
            self.connections.pop_front();
        }
        None
    }
}

/// The number of open streams of an HTTP/2 connection, and since when it is 0.
pub(super) struct Streams {
    open: Mutex<(usize, Instant)>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            open: Mutex::new((0, Instant::now())),
        }
    }
}

impl Streams {
    /// Opens a stream, unless `max` streams are open.
    fn open(self: &Arc<Self>, max: usize) -> Option<Stream> {
        let is_open = self.update(|(open, _)| *open < max);
        is_open.then(|| self.count())
    }

    fn count(self: &Arc<Self>) -> Stream {
        self.update(|(open, _)| *open += 1);
        Stream(Arc::clone(self))
    }

    fn idle_since(&self) -> Option<Instant> {
        self.update(|(open, since)| (*open == 0).then_some(*since))
    }

    fn update<R>(&self, update: impl FnOnce(&mut (usize, Instant)) -> R) -> R {
        update(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An open stream of an HTTP/2 connection.
pub(super) struct Stream(Arc<Streams>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.update(|(open, since)| {
            *open -= 1;
            *since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn idle(connections: impl IntoIterator<Item = usize>, start: Instant) -> Idle<usize> {
        let mut idle = Idle::default();
        for connection in connections {
            idle.put(connection, start + Duration::from_secs(connection as u64));
        }
        idle
    }

    #[test]
    fn newest_ready_connection_is_taken_and_closed_ones_are_dropped() {
        let mut idle = idle(0..4, Instant::now());
        assert_eq!(idle.take(|connection| *connection < 3), Some(2));
        assert_eq!(idle.take(|_| true), Some(1));
        assert_eq!(idle.take(|_| false), None);
        assert_eq!(idle.take(|_| true), None);
    }

    #[test]
    fn longest_idle_connection_is_dropped_over_the_maximum() {
        let idle = idle(0..=MAX_IDLE, Instant::now());
        assert_eq!(idle.connections.len(), MAX_IDLE);
        assert_eq!(idle.connections.front().map(|(_, first)| *first), Some(1));
    }

    #[test]
    fn connections_expire_after_the_timeout() {
        let start = Instant::now();
        let mut idle = idle(0..3, start);
        let mut expire = |seconds| {
            let now = start + Duration::from_secs(seconds);
            let next = idle.expire(TIMEOUT, now);
            let next = next.map(|at| (at - start).as_secs());
            (next, idle.connections.len())
        };
        assert_eq!(expire(9), (Some(10), 3));
        assert_eq!(expire(10), (Some(11), 2));
        assert_eq!(expire(30), (None, 0));
    }

    #[test]
    fn connections_do_not_expire_without_a_timeout() {
        let start = Instant::now();
        let mut idle = idle(0..3, start);
        assert_eq!(idle.expire(Duration::MAX, start + TIMEOUT), None);
        assert_eq!(idle.connections.len(), 3);
    }

    #[test]
    fn streams_are_limited_and_counted() {
        let streams = Arc::new(Streams::default());
        assert!(streams.idle_since().is_some());
        let first = streams.open(2).expect("the first");
        let second = streams.open(2).expect("the second");
        assert!(streams.open(2).is_none());
        assert!(streams.open(3).is_some());
        drop(first);
        assert_eq!(streams.idle_since(), None);
        assert!(streams.open(2).is_some());
        drop(second);
        assert!(streams.idle_since().is_some());
    }
}
