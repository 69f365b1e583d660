//! The registry: how many sessions there are, which ones, and the end of all of them.

use super::{
    drain::{Drain, DrainOptions, DrainReport},
    guard::{Admitted, KeyLimit, Permit},
    identity::Identity,
    spread,
    state::{SessionId, State},
    watch::after,
};
use crate::{
    message::rejection::Rejection,
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    sync::{Mutex, MutexGuard, Notify},
};
use http::{Extensions, HeaderValue, StatusCode, header, request::Parts};
use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// When a client that was refused may try again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// All sessions of one or more [`UpgradeLayer`](crate::UpgradeLayer)s: how many there may be, which
/// ones there are, and their end.
///
/// It is shared by cloning. A session counts from the moment at which its request is admitted, before
/// its handler decides, until it has ended and its connection is shut down. Whatever becomes of it in
/// between, it counts no longer than that.
///
/// ```
/// use std::time::Duration;
/// use tower_upgrade::{Sessions, UpgradeLayer};
///
/// # async fn example() {
/// let sessions = Sessions::builder().max(10_000).build();
/// let layer = UpgradeLayer::new().sessions(sessions.clone());
/// // When the server is to stop:
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
    /// A drain has begun, or its deadline was brought forward.
    draining: Notify,
    /// The last session has ended while a drain goes on.
    emptied: Notify,
}

#[derive(Default)]
struct Open {
    admitted: usize,
    accepted: HashMap<SessionId, Arc<State>>,
    drain: Option<Drain>,
}

/// How a client's address is found.
type PeerOf = Arc<dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync>;

impl Sessions {
    /// A registry with no limit.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A registry with limits.
    pub fn builder() -> SessionsBuilder {
        SessionsBuilder {
            max: usize::MAX,
            key_limit: None,
            peer: Arc::new(|extensions| extensions.get::<SocketAddr>().copied()),
        }
    }

    /// How many sessions there are, those included whose handler still decides.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open().admitted
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sessions whose handler has accepted, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SessionInfo> {
        let open = self.open();
        let mut list: Vec<_> = open.accepted.values().map(Arc::clone).collect();
        drop(open);
        list.sort_unstable_by_key(|state| state.id);
        list.into_iter()
            .map(|state| SessionInfo { state })
            .collect()
    }

    /// Returns the sessions with this identity whose handler has accepted, the oldest first.
    #[must_use]
    pub fn list_of(&self, identity: &Identity) -> Vec<SessionInfo> {
        let mut list = self.list();
        list.retain(|session| session.identity() == Some(identity));
        list
    }

    /// Returns the number of sessions with this identity whose handler has accepted.
    #[must_use]
    pub fn count_of(&self, identity: &Identity) -> usize {
        self.list_of(identity).len()
    }

    /// Tells all sessions with this identity to stop, and aborts those that have not ended within `grace`: for a logout.
    ///
    /// Returns how many there are. It does not wait for their end.
    ///
    /// A request that passed authentication before, and whose handler is still deciding, is not among them: revoke the
    /// credentials first, and limit the time of a decision with
    /// [`accept_timeout`](crate::UpgradeLayer::accept_timeout).
    #[expect(
        clippy::must_use_candidate,
        reason = "it closes, whether the count is used or not"
    )]
    pub fn close_of(&self, identity: &Identity, grace: Duration) -> usize {
        let list = self.list_of(identity);
        let deadline = after(grace);
        for session in &list {
            session.state.stop_by(deadline);
        }
        list.len()
    }

    /// Tells a session to stop, and drops its handler if it has not ended within `grace`.
    ///
    /// Returns whether there is such a session. It does not wait for its end.
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
    /// A drained registry stays closed. With several calls the earliest deadline holds, and a call without a spread
    /// tells at once those sessions that another call would have told later.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, if the options have a spread.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the drain goes on: no session is admitted, and the open ones end by the deadline.
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
                // Before the look at it: a change in between is not missed.
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

    /// Whether [`drain`](Self::drain) was called.
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

    /// The deadline of the drain that has begun.
    pub(super) fn drain_deadline(&self) -> Instant {
        let deadline = self.open().drain.as_ref().map(Drain::deadline);
        deadline.unwrap_or_else(Instant::now)
    }

    /// Waits until a drain's deadline has passed.
    pub(crate) async fn drained(&self) {
        loop {
            let changed = self.registry.draining.notified();
            let deadline = self.open().drain.as_ref().map(Drain::deadline);
            match deadline {
                // Another call may bring it forward.
                Some(deadline) => {
                    if tokio::time::timeout_at(deadline, changed).await.is_err() {
                        return;
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Lets a request in, if there is room. Users' functions are asked about it, and they may panic.
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
            return Err(unavailable("there are too many sessions"));
        }
        let key = key.map_err(|_| unavailable("there are too many sessions of this client"))?;
        open.admitted += 1;
        Ok(Admitted {
            permit: Permit::new(self.clone(), key),
            peer,
        })
    }

    /// The refusal of a server that is draining.
    pub(crate) fn stopping() -> Rejection {
        unavailable("the server is about to stop")
    }

    /// The handler has accepted: the session can be listed, and told to stop.
    pub(super) fn enter(&self, state: Arc<State>) {
        let mut open = self.open();
        let deadline = open.drain.as_ref().map(Drain::deadline);
        open.accepted.insert(state.id, Arc::clone(&state));
        drop(open);
        if let Some(deadline) = deadline {
            state.stop_by(deadline);
        }
    }

    /// The session has ended, or there never was one.
    pub(super) fn leave(&self, state: Option<SessionId>) {
        let mut open = self.open();
        open.admitted -= 1;
        let state = state.and_then(|id| open.accepted.remove(&id));
        let is_last = open.admitted == 0 && open.drain.is_some();
        drop(open);
        drop(state);
        if is_last {
            self.registry.emptied.notify_waiters();
        }
    }

    /// The handler of a session is done, or was dropped.
    pub(super) fn count(&self, was_aborted: bool) {
        if let Some(drain) = &mut self.open().drain {
            drain.count(was_aborted);
        }
    }

    /// Whether a drain's deadline has passed.
    pub(crate) fn is_drained(&self) -> bool {
        let open = self.open();
        let deadline = open.drain.as_ref().map(Drain::deadline);
        deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing that can panic runs under the lock.
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

/// Sets up [`Sessions`].
#[must_use = "call `build`"]
pub struct SessionsBuilder {
    max: usize,
    key_limit: Option<Arc<dyn KeyLimit>>,
    peer: PeerOf,
}

impl SessionsBuilder {
    /// Sets how many sessions there may be. By default there is no limit.
    ///
    /// A request for one more is refused with 503 and `Retry-After` before its handler is asked.
    pub fn max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Sets how many sessions there may be with the same key, such as the client's address or the name
    /// of a user. By default there is no limit. Called again it replaces the limit that was set before.
    ///
    /// A request for one more is refused with 503 and `Retry-After` before its handler is asked. One for which
    /// there is no key is *not limited*: look for the key where your server leaves it, and let a test see the 503.
    ///
    /// The address is left there by whoever accepts connections. hyper leaves none; `axum::serve` leaves a
    /// `ConnectInfo` if it is given `into_make_service_with_connect_info`:
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// use std::net::{IpAddr, SocketAddr};
    /// use tower_upgrade::Sessions;
    ///
    /// let by_address = |request: &http::request::Parts| -> Option<IpAddr> {
    ///     request.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
    /// };
    /// let sessions = Sessions::builder().max(10_000).max_per_key(20, by_address).build();
    /// ```
    ///
    /// With hyper-util, put it there for each connection, where [`peer`](Self::peer) looks for it too:
    ///
    /// ```
    /// use http::Request;
    /// use hyper::body::Incoming;
    /// use std::net::SocketAddr;
    /// use tower::ServiceExt as _;
    /// # fn for_connection<S>(app: S, peer: SocketAddr) -> impl tower::Service<Request<Incoming>>
    /// # where
    /// #     S: tower::Service<Request<Incoming>>,
    /// # {
    /// let service = app.map_request(move |mut request: Request<Incoming>| {
    ///     request.extensions_mut().insert(peer);
    ///     request
    /// });
    /// # service
    /// # }
    /// ```
    pub fn max_per_key<K, F>(mut self, max: usize, key: F) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    {
        self.key_limit = Some(super::guard::key_limit(max, key));
        self
    }

    /// Sets where the server leaves the client's address in the extensions of a request: for
    /// [`Session::peer`](crate::Session::peer), [`SessionInfo::peer`], [`Closed::peer`](crate::Closed::peer) and the
    /// span of a session. By default that is a [`SocketAddr`], which no server leaves by itself. Where there is none
    /// the address is `None`.
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// use std::net::SocketAddr;
    /// use tower_upgrade::Sessions;
    ///
    /// let sessions = Sessions::builder()
    ///     .peer(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0))
    ///     .build();
    /// ```
    pub fn peer<F>(mut self, peer: F) -> Self
    where
        F: Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static,
    {
        self.peer = Arc::new(peer);
        self
    }

    /// The registry.
    #[must_use]
    pub fn build(self) -> Sessions {
        Sessions {
            registry: Arc::new(Registry {
                max: self.max,
                key_limit: self.key_limit,
                peer: self.peer,
                open: Mutex::default(),
                draining: Notify::new(),
                emptied: Notify::new(),
            }),
        }
    }
}

impl fmt::Debug for SessionsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsBuilder")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// A session in the [list](Sessions::list). What it says is what holds when it is asked.
#[derive(Clone)]
pub struct SessionInfo {
    state: Arc<State>,
}

impl SessionInfo {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.state.id
    }

    /// How the request asked to leave HTTP.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.state.kind
    }

    /// The protocol that was chosen. A [CONNECT](UpgradeKind::Connect) names none.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.state.protocol.as_ref()
    }

    /// The client's address, where the server left it: see [`SessionsBuilder::peer`].
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.state.peer
    }

    /// Returns the identity of the session, if it has one: see [`Identity`].
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.state.identity()
    }

    /// How long ago its handler accepted.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.state.accepted().elapsed()
    }

    /// How many bytes its handler has read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.state.bytes_read()
    }

    /// How many bytes its handler has written.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.state.bytes_written()
    }
}

impl fmt::Debug for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInfo")
            .field("id", &self.id())
            .field("kind", &self.kind())
            .field("protocol", &self.protocol())
            .field("peer", &self.peer())
            .field("age", &self.age())
            .field("bytes_read", &self.bytes_read())
            .field("bytes_written", &self.bytes_written())
            .finish()
    }
}
