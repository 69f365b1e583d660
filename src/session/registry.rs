//! The session registry: limits, listing, closing and draining.

use super::{
    builder::SessionsBuilder,
    drain::{Drain, DrainOptions, DrainReport},
    guard::{Admitted, KeyLimit, Permit},
    identity::Identity,
    info::SessionInfo,
    spread,
    state::{SessionId, State},
};
use crate::{
    message::rejection::Rejection,
    sync::{Mutex, MutexGuard, Notify},
    time::after,
};
use http::{Extensions, HeaderValue, StatusCode, header, request::Parts};
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The `Retry-After` of a rejected request, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A registry of the sessions of one or more [`UpgradeLayer`](crate::UpgradeLayer)s: limits their number, lists them,
/// and ends them.
///
/// Clones share the registry. A session counts from the admission of its request, before the handler decides, until the
/// session has ended and its connection is shut down. If the handler took the connection out, or left a part of it in
/// another task, the session counts until the handler ends. Rejections, panics and aborts release the count too.
///
/// ```
/// use std::time::Duration;
/// use tower_upgrade::{Sessions, UpgradeLayer};
///
/// # async fn example() {
/// let sessions = Sessions::builder().max(10_000).build();
/// let layer = UpgradeLayer::new().sessions(sessions.clone());
/// // At shutdown:
/// let report = sessions.drain(Duration::from_secs(30)).await;
/// println!("{report}");
/// # }
/// ```
#[derive(Clone)]
pub struct Sessions {
    registry: Arc<Registry>,
}

struct Registry {
    max: usize,
    key_limit: Option<Arc<dyn KeyLimit>>,
    peer: PeerOf,
    open: Mutex<Open>,
    /// Notified when a drain begins, and when a later call sets an earlier deadline.
    draining: Notify,
    /// Notified when the last session ends during a drain.
    emptied: Notify,
}

#[derive(Default)]
struct Open {
    admitted: usize,
    accepted: HashMap<SessionId, Arc<State>>,
    drain: Option<Drain>,
}

/// Finds the client's address in the extensions of a request.
pub(super) type PeerOf = Arc<dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync>;

impl Sessions {
    /// Creates a registry without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a registry with limits.
    pub fn builder() -> SessionsBuilder {
        SessionsBuilder::new()
    }

    pub(super) fn with(max: usize, key_limit: Option<Arc<dyn KeyLimit>>, peer: PeerOf) -> Self {
        Self {
            registry: Arc::new(Registry {
                max,
                key_limit,
                peer,
                open: Mutex::default(),
                draining: Notify::new(),
                emptied: Notify::new(),
            }),
        }
    }

    /// Returns `true` if `other` is the same registry.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.registry, &other.registry)
    }

    /// Returns the number of sessions, including requests that a handler is still deciding on.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open().admitted
    }

    /// Returns `true` if the registry is empty: [`len`](Self::len) is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the accepted sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SessionInfo> {
        let open = self.open();
        let mut list: Vec<_> = open.accepted.values().map(Arc::clone).collect();
        drop(open);
        list.sort_unstable_by_key(|state| state.id);
        list.into_iter().map(SessionInfo::new).collect()
    }

    /// Returns the accepted sessions with this identity, oldest first.
    #[must_use]
    pub fn list_of(&self, identity: &Identity) -> Vec<SessionInfo> {
        let mut list = self.list();
        list.retain(|session| session.identity() == Some(identity));
        list
    }

    /// Returns the number of accepted sessions with this identity.
    #[must_use]
    pub fn count_of(&self, identity: &Identity) -> usize {
        self.list_of(identity).len()
    }

    /// Sends all sessions with this identity their stop signal, and aborts the handlers that have not ended within
    /// `grace`: for a logout.
    ///
    /// Returns the number of these sessions, without waiting for them to end.
    ///
    /// A request that has passed authentication while its handler is still deciding is not included: revoke the
    /// credentials first, and limit the time of the decision with
    /// [`accept_timeout`](crate::UpgradeLayer::accept_timeout).
    #[expect(
        clippy::must_use_candidate,
        reason = "the call has an effect even if the count is not used"
    )]
    pub fn close_of(&self, identity: &Identity, grace: Duration) -> usize {
        let list = self.list_of(identity);
        let deadline = after(grace);
        for session in &list {
            session.stop_by(deadline);
        }
        list.len()
    }

    /// Sends a session its stop signal, and aborts its handler if the handler has not ended within `grace`.
    ///
    /// Returns `true` if the registry has an accepted session with this id, without waiting for the session to end.
    pub fn close(&self, id: SessionId, grace: Duration) -> bool {
        let state = self.open().accepted.get(&id).map(Arc::clone);
        match state {
            Some(state) => {
                state.stop_by(after(grace));
                true
            }
            None => false,
        }
    }

    /// Stops admitting sessions and ends the open ones.
    ///
    /// Calling this method rejects new upgrade requests with 503 and sends the open sessions their
    /// [stop signal](crate::Session::stop): all at once, or evenly over the [`spread`](DrainOptions::spread) of the
    /// options. The returned future only waits. It resolves when all sessions have ended, or when the timeout has
    /// passed, the remaining handlers have been aborted, and their connections have had up to two seconds to shut
    /// down. A handler that blocks its thread cannot be aborted.
    ///
    /// A request whose handler is still deciding counts as an open session. If the handler accepts before the deadline,
    /// the session starts with its stop signal already set; after the deadline the request is rejected.
    ///
    /// A drained registry stays closed. With several calls, the earliest deadline applies, and a call without a spread
    /// sends the remaining stop signals of earlier calls at once.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime if the options have a spread and a session is open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the drain: no session is admitted, and the open ones end by the deadline.
    #[must_use = "the drain has begun, and the future waits for its end"]
    pub fn drain<O>(&self, options: O) -> impl Future<Output = DrainReport> + Send + use<O>
    where
        O: Into<DrainOptions>,
    {
        let deadline = self.begin_drain(options.into());
        let sessions = self.clone();
        async move { sessions.wait_for_all(deadline + Drain::LAST_STEPS).await }
    }

    async fn wait_for_all(&self, patience: Instant) -> DrainReport {
        let all_ended = async {
            loop {
                // Created before the check, so that a notification in between is not lost.
                let emptied = self.registry.emptied.notified();
                if self.is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        let _ = tokio::time::timeout_at(patience, all_ended).await;
        let open = self.open();
        let report = open.drain.as_ref().map(Drain::report);
        report.unwrap_or_default().with_left(open.admitted)
    }

    /// Returns `true` once [`drain`](Self::drain) has been called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.open().drain.is_some()
    }

    fn begin_drain(&self, options: DrainOptions) -> Instant {
        let mut open = self.open();
        let deadline = after(options.timeout);
        let spread = options.spread.min(deadline - Instant::now());
        let drain = open.drain.get_or_insert_with(|| Drain::new(deadline));
        drain.spread(spread);
        let deadline = drain.no_later_than(deadline);
        let mut accepted: Vec<_> = open.accepted.values().map(Arc::clone).collect();
        drop(open);
        if spread.is_zero() {
            for state in accepted {
                state.stop_by(deadline);
            }
        } else if !accepted.is_empty() {
            accepted.sort_unstable_by_key(|state| state.id);
            spread::spawn(self.clone(), accepted, spread);
        }
        self.registry.draining.notify_waiters();
        deadline
    }

    /// Returns the deadline of the drain, or the current time if no drain has begun.
    pub(super) fn drain_deadline(&self) -> Instant {
        let deadline = self.open().drain.as_ref().map(Drain::deadline);
        deadline.unwrap_or_else(Instant::now)
    }

    /// Waits until the deadline of a drain has passed.
    pub(crate) async fn drained(&self) {
        loop {
            let changed = self.registry.draining.notified();
            let deadline = self.open().drain.as_ref().map(Drain::deadline);
            match deadline {
                // Another `drain` call may set an earlier deadline.
                Some(deadline) => {
                    if tokio::time::timeout_at(deadline, changed).await.is_err() {
                        return;
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Admits a request within the limits. Calls the user functions for the key and the peer, which may panic.
    pub(crate) fn admit(&self, request: &Parts) -> Result<Admitted, Rejection> {
        let peer = (self.registry.peer)(&request.extensions);
        let key = match &self.registry.key_limit {
            Some(limit) => Arc::clone(limit).admit(request),
            None => Ok(None),
        };
        let mut open = self.open();
        if open.drain.is_some() {
            return Err(Self::stopping());
        }
        if open.admitted >= self.registry.max {
            return Err(unavailable("too many sessions"));
        }
        let key = key.map_err(|_| unavailable("too many sessions of this client"))?;
        open.admitted += 1;
        Ok(Admitted {
            permit: Permit::new(self.clone(), key),
            peer,
        })
    }

    /// Returns the rejection of a draining server.
    pub(crate) fn stopping() -> Rejection {
        unavailable("the server is shutting down")
    }

    /// Adds an accepted session, which is then listed and receives stop signals.
    pub(super) fn enter(&self, state: Arc<State>) {
        let mut open = self.open();
        let deadline = open.drain.as_ref().map(Drain::deadline);
        open.accepted.insert(state.id, Arc::clone(&state));
        drop(open);
        if let Some(deadline) = deadline {
            state.stop_by(deadline);
        }
    }

    /// Removes a session that has ended, or releases the place of a request that started no session.
    pub(super) fn leave(&self, state: Option<SessionId>) {
        let mut open = self.open();
        open.admitted -= 1;
        let state = state.and_then(|id| open.accepted.remove(&id));
        let is_last = open.admitted == 0 && open.drain.is_some();
        drop(open);
        if is_last {
            self.registry.emptied.notify_waiters();
        }
        // Last, because the `Drop` of a user's identity may panic.
        drop(state);
    }

    /// Counts the end of a session for the drain's report.
    pub(super) fn count(&self, was_aborted: bool) {
        if let Some(drain) = &mut self.open().drain {
            drain.count(was_aborted);
        }
    }

    /// Returns `true` if the deadline of a drain has passed.
    pub(crate) fn is_drained(&self) -> bool {
        let open = self.open();
        let deadline = open.drain.as_ref().map(Drain::deadline);
        deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // No code that can panic runs under the lock.
        self.registry
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(why: &'static str) -> Rejection {
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, why).header(header::RETRY_AFTER, RETRY_AFTER)
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("len", &self.len())
            .field("max", &self.registry.max)
            .field("is_draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}
