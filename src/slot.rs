//! What the layers around a request share until its response leaves: who has its upgrade.

use crate::sync::{Mutex, MutexGuard};
use std::{sync::PoisonError, time::Duration};

/// Where the upgrade `U` of a request is held until the outermost layer has a response, beside the switch
/// `S` that was made of it.
pub(crate) struct Slot<U, S> {
    content: Mutex<Content<U, S>>,
}

struct Content<U, S> {
    /// With the time that its connection may take to be shut down.
    upgrade: Option<(U, Duration)>,
    /// The last one that was made.
    switch: Option<S>,
    /// An upgrade has come: whatever comes after it is a clone, of a request that was cloned on its way.
    has_come: bool,
    is_closed: bool,
}

impl<U, S> Slot<U, S> {
    pub(crate) fn new() -> Self {
        Self {
            content: Mutex::new(Content {
                upgrade: None,
                switch: None,
                has_come: false,
                is_closed: false,
            }),
        }
    }

    /// Takes the upgrade in, if it comes in time and is the first. Who comes again sets how long its
    /// connection may take to be shut down.
    ///
    /// Returns whether the slot has it.
    ///
    /// # Errors
    ///
    /// The upgrade, if it comes too late and nobody had it: it is the caller's to end.
    pub(crate) fn hold(&self, upgrade: Option<U>, shutdown_timeout: Duration) -> Result<bool, U> {
        let mut content = self.lock();
        if let Some(held) = &mut content.upgrade {
            // The outermost layer may have put it there before it was known who decides.
            held.1 = shutdown_timeout;
            return Ok(true);
        }
        // Of two clones of hyper's upgrade the one that waits last gets the connection: one that comes when
        // a session was started must not wait.
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
                // Not under the lock.
                drop(content);
                drop(clone);
                Ok(false)
            }
        }
    }

    pub(crate) fn set_switch(&self, switch: S) {
        let earlier = self.lock().switch.replace(switch);
        drop(earlier);
    }

    /// Takes out what is held. From here on nothing is.
    pub(crate) fn close(&self) -> (Option<(U, Duration)>, Option<S>) {
        let mut content = self.lock();
        content.is_closed = true;
        (content.upgrade.take(), content.switch.take())
    }

    fn lock(&self) -> MutexGuard<'_, Content<U, S>> {
        // Nothing that can panic runs under the lock.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
