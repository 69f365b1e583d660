//! Telling many sessions to stop, evenly over a time.

use super::{Sessions, state::State};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Tells `sessions` to stop, the first at once and the others one after the other within `spread`.
///
/// The deadline may be brought forward meanwhile: each session gets the one that holds when it is told.
pub(super) fn spawn(registry: Sessions, sessions: Vec<Arc<State>>, spread: Duration) {
    let start = Instant::now();
    let count = sessions.len() as u32;
    tokio::spawn(async move {
        for (index, state) in (0..).zip(sessions) {
            // A timer of tokio's has a granularity of a millisecond: more sessions than that are told in batches.
            let due = start + spread / count * index;
            if due > Instant::now() {
                sleep_until(due).await;
            }
            state.stop_by(registry.drain_deadline());
        }
    });
}
