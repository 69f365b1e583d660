//! The permit of a session, which comes back on every path.

use super::{Sessions, state::SessionId, state::State};
use crate::sync::Mutex;
use http::request::Parts;
use std::{
    any::Any,
    collections::HashMap,
    hash::Hash,
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

/// The right to one session. Dropped, it is given back.
pub(crate) struct Permit {
    /// Dropped first: who sees that the session has left finds room for another of its key.
    _key: Option<KeyPermit>,
    place: Place,
}

/// A place among all sessions. It is given back even if a key panics when it is dropped.
struct Place {
    sessions: Sessions,
    state: Option<SessionId>,
}

/// A request that was let in.
pub(crate) struct Admitted {
    pub(crate) permit: Permit,
    /// The client's address, as far as the server left it.
    pub(crate) peer: Option<SocketAddr>,
}

/// The right to one session of its key.
pub(super) type KeyPermit = Box<dyn Any + Send + Sync>;

impl Permit {
    pub(super) fn new(sessions: Sessions, key: Option<KeyPermit>) -> Self {
        Self {
            _key: key,
            place: Place {
                sessions,
                state: None,
            },
        }
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.place.sessions
    }

    /// The handler has accepted: the session gets its entry.
    pub(crate) fn enter(mut self, state: &Arc<State>) -> Self {
        self.place.state = Some(state.id);
        self.sessions().enter(Arc::clone(state));
        self
    }

    /// The session's handler is done, or was dropped: a drain counts it.
    pub(crate) fn count(&self, was_aborted: bool) {
        self.sessions().count(was_aborted);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.leave(self.state);
    }
}

/// How many sessions there may be with the same key, whatever keys are.
pub(super) trait KeyLimit: Send + Sync {
    fn admit(self: Arc<Self>, request: &Parts) -> Result<Option<KeyPermit>, Full>;
}

/// There are as many sessions as there may be.
pub(super) struct Full;

pub(super) fn key_limit<K, F>(max: usize, key: F) -> Arc<dyn KeyLimit>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
{
    Arc::new(Counts {
        max,
        key,
        counts: Arc::default(),
    })
}

struct Counts<K, F> {
    max: usize,
    key: F,
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K, F> KeyLimit for Counts<K, F>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
{
    fn admit(self: Arc<Self>, request: &Parts) -> Result<Option<KeyPermit>, Full> {
        let Some(key) = (self.key)(request) else {
            return Ok(None);
        };
        {
            // A key's own `Hash` and `Eq` could panic under the lock: what is counted stays right.
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let open = counts.get(&key).copied().unwrap_or_default();
            if open >= self.max {
                return Err(Full);
            }
            counts.insert(key.clone(), open + 1);
        }
        Ok(Some(Box::new(Counted {
            counts: Arc::clone(&self.counts),
            key,
        })))
    }
}

struct Counted<K: Hash + Eq> {
    counts: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Hash + Eq> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
