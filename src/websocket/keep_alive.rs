//! Pings, and the end of a peer that is silent.

use super::socket::Shared;
use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// Looks at a WebSocket once in an interval, whatever its handler waits for.
pub(super) struct KeepAlive {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    is_pinged: bool,
    was_blocked: bool,
}

/// What was noticed of the peer since the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    /// Bytes were read.
    pub(super) has_read: bool,
    /// A message waits to be received and nothing is read behind it, or the handler has received the end.
    pub(super) is_behind: bool,
    /// A write that was blocked went on: the peer reads.
    pub(super) has_unblocked: bool,
    /// A write is blocked.
    pub(super) is_blocked: bool,
}

/// The peer is gone, or does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent;

impl KeepAlive {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            timer: Box::pin(sleep(interval)),
            is_pinged: false,
            was_blocked: false,
        }
    }

    /// Waits until the peer is silent, and pings it when it has been silent for an interval.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Silent> {
        loop {
            // Not bound by the budget of the task, which a busy handler always spends.
            ready!(pin!(tokio::task::unconstrained(self.timer.as_mut())).poll(cx));
            // One look in an interval, and none at each message.
            self.timer.as_mut().reset(Instant::now() + self.interval);
            let Some(signs) = shared.look() else {
                // The session closes the WebSocket, in bounded time.
                return Poll::Pending;
            };
            match self.judge(signs) {
                Ok(true) => shared.ping(),
                Ok(false) => {}
                Err(silent) => return Poll::Ready(silent),
            }
        }
    }

    /// Whether a ping is due.
    fn judge(&mut self, signs: Signs) -> Result<bool, Silent> {
        let is_stuck = signs.is_blocked && !signs.has_unblocked;
        if is_stuck && self.was_blocked {
            return Err(Silent);
        }
        self.was_blocked = is_stuck;
        if signs.has_read || signs.has_unblocked || signs.is_behind {
            self.is_pinged = false;
            return Ok(false);
        }
        match std::mem::replace(&mut self.is_pinged, true) {
            true => Err(Silent),
            false => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Signs = Signs {
        has_read: false,
        is_behind: false,
        has_unblocked: false,
        is_blocked: false,
    };

    #[tokio::test(start_paused = true)]
    async fn silence_is_two_intervals_without_a_sign() {
        let mut keep_alive = KeepAlive::new(Duration::from_secs(1));
        let has_read = Signs {
            has_read: true,
            ..NOTHING
        };
        assert_eq!(keep_alive.judge(NOTHING), Ok(true));
        assert_eq!(keep_alive.judge(has_read), Ok(false));
        assert_eq!(keep_alive.judge(NOTHING), Ok(true));
        assert_eq!(keep_alive.judge(NOTHING), Err(Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn blocked_write_is_silence_whatever_the_peer_sends() {
        let mut keep_alive = KeepAlive::new(Duration::from_secs(1));
        let blocked = Signs {
            has_read: true,
            is_blocked: true,
            ..NOTHING
        };
        assert_eq!(keep_alive.judge(blocked), Ok(false));
        let slow = Signs {
            has_unblocked: true,
            is_blocked: true,
            ..NOTHING
        };
        assert_eq!(keep_alive.judge(slow), Ok(false));
        assert_eq!(keep_alive.judge(blocked), Ok(false));
        assert_eq!(keep_alive.judge(blocked), Err(Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn message_that_waits_to_be_received_is_no_silence() {
        let mut keep_alive = KeepAlive::new(Duration::from_secs(1));
        let behind = Signs {
            is_behind: true,
            ..NOTHING
        };
        assert_eq!(keep_alive.judge(NOTHING), Ok(true));
        for _ in 0..10 {
            assert_eq!(keep_alive.judge(behind), Ok(false));
        }
    }
}
