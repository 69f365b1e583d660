//! The time limits of a session that is going on, behind one timer.

use super::state::State;
use crate::time::Settings;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Watches over a session: for the order to stop, its idleness and its age. It has no timer until
/// there is something to wait for, and does not touch it when bytes go by.
pub(crate) struct Watch {
    timer: Option<Pin<Box<Sleep>>>,
    idle: Option<Duration>,
    lifetime: Option<Instant>,
    /// How long a handler that is told to stop has for it.
    grace: Duration,
    is_too_old: bool,
}

/// The session is over, though its handler is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    Idle,
    Stop,
}

impl Watch {
    pub(crate) fn new(settings: &Settings, state: &State) -> Self {
        Self {
            timer: None,
            idle: settings.idle_timeout(),
            lifetime: settings
                .lifetime()
                .and_then(|lifetime| state.started().checked_add(lifetime)),
            grace: settings.shutdown_timeout(),
            is_too_old: false,
        }
    }

    /// Whether the session was told to stop for its age.
    pub(crate) fn is_too_old(&self) -> bool {
        self.is_too_old
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, state: &State) -> Poll<Overdue> {
        state.register_task(cx);
        loop {
            let Some((at, _)) = self.next(state) else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            // When bytes go by the timer is early, and is set anew when it has fired.
            if timer.deadline() > at || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            match self.next(state) {
                Some((at, event)) if at <= Instant::now() => match event {
                    Event::Overdue(overdue) => return Poll::Ready(overdue),
                    Event::TooOld => {
                        self.is_too_old = true;
                        let deadline = Instant::now().checked_add(self.grace);
                        state.stop_by(deadline.unwrap_or_else(far_future));
                    }
                },
                _ => {}
            }
        }
    }

    /// What comes next, and when.
    fn next(&self, state: &State) -> Option<(Instant, Event)> {
        let idle = self.idle.zip(state.active());
        let idle = idle.and_then(|(idle, active)| active.checked_add(idle));
        let too_old = self.lifetime.filter(|_| !self.is_too_old);
        [
            state
                .stops_by()
                .map(|at| (at, Event::Overdue(Overdue::Stop))),
            idle.map(|at| (at, Event::Overdue(Overdue::Idle))),
            too_old.map(|at| (at, Event::TooOld)),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }
}

#[derive(Clone, Copy)]
enum Event {
    Overdue(Overdue),
    TooOld,
}

/// As good as never, where a sum is too large for an `Instant`.
pub(crate) fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(86400 * 365 * 30)
}
