//! The drain of a registry, its options and its report.

use std::{fmt, time::Duration};
use tokio::time::Instant;

/// A drain in progress.
pub(super) struct Drain {
    deadline: Instant,
    report: DrainReport,
}

impl Drain {
    /// The time limit for shutting down connections after their handlers were aborted.
    pub(super) const LAST_STEPS: Duration = Duration::from_secs(2);

    pub(super) fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            report: DrainReport::default(),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Sets the deadline to `deadline` if that is earlier, and returns the deadline in effect.
    pub(super) fn no_later_than(&mut self, deadline: Instant) -> Instant {
        self.deadline = self.deadline.min(deadline);
        self.deadline
    }

    pub(super) fn spread(&mut self, spread: Duration) {
        self.report.spread = self.report.spread.max(spread);
    }

    pub(super) fn count(&mut self, was_aborted: bool) {
        match was_aborted {
            true => self.report.aborted += 1,
            false => self.report.ended += 1,
        }
    }

    pub(super) fn report(&self) -> DrainReport {
        self.report
    }
}

/// Options of [`Sessions::drain`](crate::Sessions::drain).
///
/// A [`Duration`] converts into options with that timeout and no spread.
///
/// ```
/// use std::time::Duration;
/// use tower_upgrade::{DrainOptions, Sessions};
///
/// # async fn example(sessions: Sessions) {
/// // 10,000 clients do not reconnect within the same second.
/// let options = DrainOptions::new(Duration::from_secs(60)).spread(Duration::from_secs(45));
/// println!("{}", sessions.drain(options).await);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOptions {
    pub(super) timeout: Duration,
    pub(super) spread: Duration,
}

impl DrainOptions {
    /// Creates options that send all stop signals at once and abort the handlers that have not ended after `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            spread: Duration::ZERO,
        }
    }

    /// Sets the time over which the stop signals are sent, evenly and to the oldest session first, so that clients
    /// reconnect elsewhere over the same time. The default is zero: all at once.
    ///
    /// The timeout caps the spread and applies to all sessions: choose a spread that leaves the last session time to
    /// end.
    #[must_use]
    pub fn spread(mut self, spread: Duration) -> Self {
        self.spread = spread;
        self
    }
}

impl From<Duration> for DrainOptions {
    fn from(timeout: Duration) -> Self {
        Self::new(timeout)
    }
}

/// The result of [`Sessions::drain`](crate::Sessions::drain).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// The number of sessions that ended without being aborted since the drain began.
    pub ended: usize,
    /// The number of sessions whose handler was aborted at the deadline.
    pub aborted: usize,
    /// The number of sessions and undecided requests that remained when the drain returned, because their connections
    /// were not shut down in time.
    pub left: usize,
    /// The time over which the stop signals were sent: the longest [`spread`](DrainOptions::spread) of all drains, each
    /// capped at its timeout.
    pub spread: Duration,
}

impl DrainReport {
    pub(super) fn with_left(self, left: usize) -> Self {
        Self { left, ..self }
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ended,
            aborted,
            left,
            spread,
        } = self;
        write!(f, "{ended} sessions ended, {aborted} aborted, {left} left")?;
        match *spread {
            Duration::ZERO => Ok(()),
            spread => write!(f, ", stop signals spread over {spread:?}"),
        }
    }
}
