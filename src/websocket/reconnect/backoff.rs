//! The waits between attempts, and the limits on them.

use std::time::Duration;

/// The waits between the attempts of a [`Reconnecting`](super::Reconnecting), and the limits on the attempts.
///
/// The wait before an attempt is random (full jitter), so that the clients of one server do not return at the same
/// time:
///
/// | after | the wait is between |
/// |---|---|
/// | failure *n* in a row | zero and [`first`](Self::first) × 2ⁿ⁻¹, at most [`max`](Self::max) |
/// | a refusal with `Retry-After` | the same, added to `Retry-After`, which counts up to [`max_retry_after`](Self::max_retry_after) |
/// | close code 1012 (service restart) | a sixth of `max` and `max`: 5 and 30 seconds, as the code is registered |
/// | close code 1013 (try again later) | `max` and twice `max` |
///
/// A failure is a failed attempt, or the loss of a connection. The count restarts after a connection that has stayed
/// open for [`stable_after`](Self::stable_after).
///
/// ```
/// use std::time::Duration;
/// use tower_upgrade::websocket::reconnect::Backoff;
///
/// const BACKOFF: Backoff = Backoff::new()
///     .first(Duration::from_millis(200))
///     .max(Duration::from_secs(10))
///     .max_elapsed(Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug)]
#[must_use = "the settings apply to the `Reconnecting` whose `backoff` method takes them"]
pub struct Backoff {
    first: Duration,
    max: Duration,
    max_retry_after: Duration,
    stable_after: Duration,
    max_failures: Option<u32>,
    max_elapsed: Option<Duration>,
}

/// The server's demand on the next wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    None,
    /// Close code 1012.
    Restart,
    /// Close code 1013.
    Overload,
    RetryAfter(Duration),
}

impl Backoff {
    /// Creates the default settings: the first wait is up to 1 second, any wait up to 30 seconds, a `Retry-After` counts
    /// up to 5 minutes, a connection is stable after 10 seconds, and the attempts have no limit.
    pub const fn new() -> Self {
        Self {
            first: Duration::from_secs(1),
            max: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(300),
            stable_after: Duration::from_secs(10),
            max_failures: None,
            max_elapsed: None,
        }
    }

    /// Sets the upper bound of the wait after the first failure. The bound doubles with each further failure. The
    /// default is 1 second.
    pub const fn first(mut self, wait: Duration) -> Self {
        self.first = wait;
        self
    }

    /// Sets the upper bound of the wait after any number of failures. The default is 30 seconds.
    pub const fn max(mut self, wait: Duration) -> Self {
        self.max = wait;
        self
    }

    /// Sets the upper bound of a `Retry-After` (RFC 9110 §10.2.3). A longer one counts as this bound. The default is 5
    /// minutes.
    pub const fn max_retry_after(mut self, wait: Duration) -> Self {
        self.max_retry_after = wait;
        self
    }

    /// Sets the time after which an open connection is stable. The loss of a stable connection is the first failure
    /// again. The default is 10 seconds.
    ///
    /// Without this time, a server that accepts connections and ends them at once would always get the shortest wait.
    pub const fn stable_after(mut self, time: Duration) -> Self {
        self.stable_after = time;
        self
    }

    /// Sets the number of failures in a row after which no attempt follows. By default the number has no limit.
    ///
    /// The loss of a connection is a failure too: with a limit of 1, no attempt follows the loss.
    pub const fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = Some(failures);
        self
    }

    /// Sets the time after which no attempt begins, counted from the first attempt, or from the loss of a stable
    /// connection. By default the time has no limit.
    pub const fn max_elapsed(mut self, time: Duration) -> Self {
        self.max_elapsed = Some(time);
        self
    }

    pub(super) fn is_stable(&self, open: Duration) -> bool {
        open >= self.stable_after
    }

    /// Returns the wait after failure number `failures`. `random` is at least 0 and less than 1.
    pub(super) fn wait(&self, failures: u32, demand: Demand, random: f64) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
        let bound = self.first.saturating_mul(doubled.unwrap_or(u32::MAX));
        let jitter = bound.min(self.max).mul_f64(random);
        match demand {
            Demand::None => jitter,
            Demand::Restart => self.max / 6 + (self.max - self.max / 6).mul_f64(random),
            Demand::Overload => self.max.saturating_add(self.max.mul_f64(random)),
            Demand::RetryAfter(wait) => wait.min(self.max_retry_after).saturating_add(jitter),
        }
    }

    /// Returns whether another attempt may begin after `failures`, at the time `elapsed`.
    pub(super) fn allows(&self, failures: u32, elapsed: Duration) -> bool {
        self.max_failures.is_none_or(|max| failures < max)
            && self.max_elapsed.is_none_or(|max| elapsed <= max)
    }
}

impl Default for Backoff {
    /// Returns [`Backoff::new`].
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Almost 1.
    const MOST: f64 = 1.0 - f64::EPSILON / 2.0;

    fn bounds(backoff: &Backoff, failures: u32, demand: Demand) -> (Duration, u64) {
        let most = backoff.wait(failures, demand, MOST);
        // Rounded, because `MOST` is less than 1.
        let most = most.as_secs_f64().round() as u64;
        (backoff.wait(failures, demand, 0.0), most)
    }

    #[test]
    fn bound_doubles_up_to_max() {
        let backoff = Backoff::new();
        for (failures, expected) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30)] {
            let expected = (Duration::ZERO, expected);
            assert_eq!(bounds(&backoff, failures, Demand::None), expected);
        }
        for failures in [32, 33, 1000, u32::MAX] {
            let expected = (Duration::ZERO, 30);
            assert_eq!(bounds(&backoff, failures, Demand::None), expected);
        }
        assert_eq!(
            backoff.wait(3, Demand::None, 0.25),
            Duration::from_secs(1),
            "jitter is over the whole range"
        );
    }

    #[test]
    fn demand_of_the_server_is_heeded() {
        let backoff = Backoff::new();
        let after = |seconds| Demand::RetryAfter(Duration::from_secs(seconds));
        for (demand, least, most) in [
            (Demand::Restart, 5, 30),
            (Demand::Overload, 30, 60),
            (after(0), 0, 2),
            (after(20), 20, 22),
            (after(300), 300, 302),
            (after(100_000), 300, 302),
        ] {
            let expected = (Duration::from_secs(least), most);
            assert_eq!(bounds(&backoff, 2, demand), expected, "{demand:?}");
        }
    }

    #[test]
    fn longest_settings_do_not_overflow() {
        let longest = Duration::MAX;
        let backoff = Backoff::new()
            .first(longest)
            .max(longest)
            .max_retry_after(longest);
        for demand in [
            Demand::None,
            Demand::Restart,
            Demand::Overload,
            Demand::RetryAfter(longest),
        ] {
            assert!(backoff.wait(u32::MAX, demand, MOST) > Duration::from_secs(u64::MAX / 2));
        }
    }

    #[test]
    fn limits_end_the_attempts() {
        let backoff = Backoff::new();
        assert!(backoff.allows(u32::MAX, Duration::MAX));
        let second = Duration::from_secs(1);
        let backoff = backoff.max_failures(3).max_elapsed(10 * second);
        assert!(backoff.allows(2, 10 * second));
        assert!(!backoff.allows(3, second));
        assert!(!backoff.allows(1, 11 * second));
    }
}
