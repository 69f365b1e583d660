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
        } = self;
        write!(f, "{ended} sessions ended, {aborted} aborted, {left} left")
    }
}
