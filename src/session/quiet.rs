//! Detects that no bytes move.

use crate::time::Timer;
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// Measures the time since a byte count last changed.
#[derive(Default)]
pub(crate) struct Quiet {
    timer: Timer,
    /// The time of the last change of the byte count, and the count at that time.
    last: Option<(Instant, u64)>,
}

impl Quiet {
    /// Completes when `bytes` has not changed for `limit`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, limit: Duration, bytes: u64) -> Poll<()> {
        let since = match self.last {
            Some((since, before)) if before == bytes => since,
            _ => Instant::now(),
        };
        self.last = Some((since, bytes));
        match since.checked_add(limit) {
            Some(at) => self.timer.poll_at(cx, at),
            None => Poll::Pending,
        }
    }
}
