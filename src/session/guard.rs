//! The permit of a session, released on every path.

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

/// The permit for one session, released on drop.
pub(crate) struct Permit {
    /// Dropped before `place`: `leave` wakes the drain, and the key must be released by then.
    _key: Option<KeyPermit>,
    place: Place,
}

/// A place among all sessions, released even if a key panics on drop.
struct Place {
    sessions: Sessions,
    state: Option<SessionId>,
}

/// An admitted request.
pub(crate) struct Admitted {
    pub(crate) permit: Permit,
    /// The client's address, if the server inserted it.
    pub(crate) peer: Option<SocketAddr>,
}

/// The permit for one session of its key.
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

    /// Adds the accepted session to the registry.
    pub(crate) fn enter(mut self, state: &Arc<State>) -> Self {
        self.place.state = Some(state.id);
        self.sessions().enter(Arc::clone(state));
        self
    }

    /// Counts the end of the session's handler for the drain's report.
    pub(crate) fn count(&self, was_aborted: bool) {
        self.sessions().count(was_aborted);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.leave(self.state);
    }
}

/// The limit of sessions with the same key, for any type of key.
pub(super) trait KeyLimit: Send + Sync {
    fn admit(self: Arc<Self>, request: &Parts) -> Result<Option<KeyPermit>, Full>;
}

/// The limit of the key is reached.
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
            // The key's `Hash` and `Eq` may panic under the lock: the counts stay correct.
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
