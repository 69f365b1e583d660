//! The end of all sessions, and what it came to.

use std::{fmt, time::Duration};
use tokio::time::Instant;

/// A drain that was begun.
pub(super) struct Drain {
    deadline: Instant,
    report: DrainReport,
}

impl Drain {
    /// How long connections may take to be shut down once their handlers were dropped.
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

    /// Brings the deadline forward, if `deadline` is earlier.
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

/// How [`Sessions::drain`](crate::Sessions::drain) ends sessions.
///
/// A [`Duration`] converts into the options with that deadline and no spread.
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
    /// Tells all sessions to stop at once, and aborts those that have not ended after `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            spread: Duration::ZERO,
        }
    }

    /// Tells the sessions to stop evenly over this time, the oldest first: their clients then reconnect elsewhere over
    /// the same time. The default is zero, all at once.
    ///
    /// It is not longer than the timeout, which holds for all of them: choose a spread that leaves the last session time
    /// to end.
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

/// What [`Sessions::drain`](crate::Sessions::drain) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Sessions that ended by themselves, since it was begun.
    pub ended: usize,
    /// Sessions whose handler was dropped at the deadline.
    pub aborted: usize,
    /// Sessions, and requests for one, that were still there when it returned: their connection was
    /// not shut down in time.
    pub left: usize,
    /// The time over which sessions were told to stop: the longest [`spread`](DrainOptions::spread) of all drains, no
    /// longer than its timeout.
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
            spread => write!(f, ", told to stop over {spread:?}"),
        }
    }
}
