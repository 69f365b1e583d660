//! Polls the socket of a sender for errors while the relay does not read from it.

use super::direction::{Both, Direction};
use crate::time::{Timer, after};
use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

const PERIOD: Duration = Duration::from_secs(1);

/// Checks the sockets of blocked senders for errors, once per `PERIOD`.
///
/// While the receiver does not accept the bytes already read, the relay does not read from the sender. A reset from the
/// sender would then remain undetected until the receiver accepts bytes. The socket's error can be queried without a
/// read.
#[derive(Default)]
pub(super) struct SenderCheck {
    /// Armed when a receiver first accepts no bytes. The timer keeps running when bytes move again.
    timer: Timer,
}

impl SenderCheck {
    /// Waits until the sender of a direction with unsent bytes has broken off, and returns the socket's error.
    pub(super) fn poll<'a>(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Both,
        directions: impl Iterator<Item = &'a Direction> + Clone,
    ) -> Poll<io::Error> {
        if !self.timer.is_armed() {
            self.timer.arm(after(PERIOD));
        }
        loop {
            ready!(self.timer.poll(cx));
            let mut stuck = directions
                .clone()
                .filter(|direction| direction.has_unsent());
            if let Some(error) = stuck.find_map(|direction| direction.sender_error(ends)) {
                return Poll::Ready(error);
            }
            self.timer.arm(after(PERIOD));
        }
    }
}
