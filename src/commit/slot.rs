//! The state that the layers around a request share until the response leaves.

use crate::sync::{Mutex, MutexGuard};
use std::{sync::PoisonError, time::Duration};

/// Holds the upgrade `U` of a request, and the head `S` of its upgrade response, until the outermost layer has
/// a response.
pub(crate) struct Slot<U, S> {
    content: Mutex<Content<U, S>>,
}

struct Content<U, S> {
    /// The upgrade, with the time limit for the shutdown of its connection.
    upgrade: Option<(U, Duration)>,
    /// The head of the most recent upgrade response.
    response: Option<S>,
    /// Whether the slot has received an upgrade. Any later one belongs to a clone of the request.
    has_come: bool,
    is_closed: bool,
}

impl<U, S> Slot<U, S> {
    pub(crate) fn new() -> Self {
        Self {
            content: Mutex::new(Content {
                upgrade: None,
                response: None,
                has_come: false,
                is_closed: false,
            }),
        }
    }

    /// Takes the upgrade, if it is the first one and the slot is open. If the slot holds one already, only sets
    /// the time limit for the shutdown of its connection.
    ///
    /// Returns whether the slot holds an upgrade.
    ///
    /// # Errors
    ///
    /// Returns the upgrade if it is the first one and the slot is closed: the caller must end its connection.
    pub(crate) fn hold(&self, upgrade: Option<U>, shutdown_timeout: Duration) -> Result<bool, U> {
        let mut content = self.lock();
        if let Some(held) = &mut content.upgrade {
            // The outermost layer may have moved the upgrade here before a handler was chosen.
            held.1 = shutdown_timeout;
            return Ok(true);
        }
        // hyper gives the connection to the clone that is polled last: a clone that arrives after the session
        // has started must never be polled.
        match upgrade {
            Some(upgrade) if !content.has_come => {
                content.has_come = true;
                if content.is_closed {
                    return Err(upgrade);
                }
                content.upgrade = Some((upgrade, shutdown_timeout));
                Ok(true)
            }
            clone => {
                // Drop the clone outside of the lock.
                drop(content);
                drop(clone);
                Ok(false)
            }
        }
    }

    pub(crate) fn set_response(&self, response: S) {
        let earlier = self.lock().response.replace(response);
        drop(earlier);
    }

    /// Takes the content out, and closes the slot.
    pub(crate) fn close(&self) -> (Option<(U, Duration)>, Option<S>) {
        let mut content = self.lock();
        content.is_closed = true;
        (content.upgrade.take(), content.response.take())
    }

    fn lock(&self) -> MutexGuard<'_, Content<U, S>> {
        // Code under the lock does not panic.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
