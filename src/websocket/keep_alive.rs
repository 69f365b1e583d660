//! Pings, and detection of silent peers.

use super::shared::Shared;
use crate::time::{Timer, after};
use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

/// Checks a WebSocket once per interval, independently of its handler.
pub(super) struct KeepAlive {
    interval: Duration,
    timer: Timer,
    is_pinged: bool,
    was_blocked: bool,
}

/// The peer's signs of life since the last check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Liveness {
    /// Bytes were read.
    pub(super) has_read: bool,
    /// Reading has stopped: a message waits to be received, or the handler has received the end.
    pub(super) is_behind: bool,
    /// A blocked write has made progress: the peer reads.
    pub(super) has_unblocked: bool,
    /// A write is blocked.
    pub(super) is_blocked: bool,
}

/// The peer is gone or does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent;

impl KeepAlive {
    pub(super) fn new(interval: Duration) -> Self {
        let mut timer = Timer::default();
        timer.arm(after(interval));
        Self {
            interval,
            timer,
            is_pinged: false,
            was_blocked: false,
        }
    }

    /// Completes when the peer counts as silent. Pings a peer that has been silent for one interval.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Silent> {
        loop {
            ready!(self.timer.poll(cx));
            // One check per interval, not one per message.
            self.timer.arm(after(self.interval));
            let Some(signs) = shared.check_liveness() else {
                // The session is closing the WebSocket, with its own time limit.
                return Poll::Pending;
            };
            match self.judge(signs) {
                Ok(true) => shared.ping(),
                Ok(false) => {}
                Err(silent) => return Poll::Ready(silent),
            }
        }
    }

    /// Returns whether a ping is due.
    fn judge(&mut self, signs: Liveness) -> Result<bool, Silent> {
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

    const NOTHING: Liveness = Liveness {
        has_read: false,
        is_behind: false,
        has_unblocked: false,
        is_blocked: false,
    };

    #[tokio::test(start_paused = true)]
    async fn silence_is_two_intervals_without_a_sign() {
        let mut keep_alive = KeepAlive::new(Duration::from_secs(1));
        let has_read = Liveness {
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
        let blocked = Liveness {
            has_read: true,
            is_blocked: true,
            ..NOTHING
        };
        assert_eq!(keep_alive.judge(blocked), Ok(false));
        let slow = Liveness {
            has_unblocked: true,
            is_blocked: true,
            ..NOTHING
        };
        assert_eq!(keep_alive.judge(slow), Ok(false));
        assert_eq!(keep_alive.judge(blocked), Ok(false));
        assert_eq!(keep_alive.judge(blocked), Err(Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn unreceived_message_is_not_silence() {
        let mut keep_alive = KeepAlive::new(Duration::from_secs(1));
        let behind = Liveness {
            is_behind: true,
            ..NOTHING
        };
        assert_eq!(keep_alive.judge(NOTHING), Ok(true));
        for _ in 0..10 {
            assert_eq!(keep_alive.judge(behind), Ok(false));
        }
    }
}
