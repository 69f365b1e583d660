//! Sends stop signals to many sessions, spread evenly over a time.

use super::{Sessions, state::State};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Sends `sessions` their stop signals: the first at once, the others one by one within `spread`.
///
/// A later `drain` call may set an earlier deadline meanwhile, so each session gets the deadline in effect when its
/// signal is sent.
pub(super) fn spawn(registry: Sessions, sessions: Vec<Arc<State>>, spread: Duration) {
    let start = Instant::now();
    let count = sessions.len() as u32;
    tokio::spawn(async move {
        for (index, state) in (0..).zip(sessions) {
            // tokio timers have millisecond granularity: more than one session per millisecond is signaled in batches.
            let due = start + spread / count * index;
            if due > Instant::now() {
                sleep_until(due).await;
            }
            state.stop_by(registry.drain_deadline());
        }
    });
}
