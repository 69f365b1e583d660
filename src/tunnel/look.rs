//! A look at a sender that nobody listens to.

use super::direction::{Both, Direction};
use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

const PERIOD: Duration = Duration::from_secs(1);

/// While what has been read is not taken at the other end, nothing more is read, and so nobody is told of a
/// reset: it would stay unnoticed for as long as the other end is silent. A socket can be asked.
#[derive(Default)]
pub(super) struct Look {
    /// None until somebody takes nothing. It is not reset when bytes go by again.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Look {
    /// Waits until the connection has broken off that a direction reads from, of those that have something to
    /// send.
    pub(super) fn poll<'a>(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Both,
        directions: impl Iterator<Item = &'a Direction> + Clone,
    ) -> Poll<io::Error> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(PERIOD)));
        loop {
            // Not bound by the budget of the task, which a busy relay always spends.
            ready!(pin!(tokio::task::unconstrained(timer.as_mut())).poll(cx));
            let mut stuck = directions
                .clone()
                .filter(|direction| direction.has_unsent());
            if let Some(error) = stuck.find_map(|direction| direction.sender_error(ends)) {
                return Poll::Ready(error);
            }
            timer.as_mut().reset(Instant::now() + PERIOD);
        }
    }
}
