//! The time limits of a session that is going on, behind one timer.

use super::state::State;
use crate::session::settings::Settings;
use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Watches over a session: for the order to stop, its idleness and its age. It has no timer until
/// there is something to wait for, and does not touch it when bytes go by.
#[derive(Default)]
pub(crate) struct Watch {
    timer: Option<Pin<Box<Sleep>>>,
    is_too_old: bool,
}

/// The session is over, though its handler is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    Idle,
    Stop,
}

impl Watch {
    /// Whether the session was told to stop for its age.
    pub(crate) fn is_too_old(&self) -> bool {
        self.is_too_old
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        state: &State,
        settings: &Settings,
    ) -> Poll<Overdue> {
        state.register_task(cx);
        // It is asked each time that the handler waits.
        if settings.is_unlimited() && !state.is_stopping() {
            return Poll::Pending;
        }
        loop {
            let Some((at, _)) = next(state, settings) else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            // When bytes go by the timer is early, and is set anew when it has fired.
            if timer.deadline() > at || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
            // Not bound by the budget of the task: a handler that always spends it would keep the timer
            // from firing.
            ready!(pin!(tokio::task::unconstrained(timer.as_mut())).poll(cx));
            match next(state, settings) {
                Some((at, event)) if at <= Instant::now() => match event {
                    Event::Overdue(overdue) => return Poll::Ready(overdue),
                    Event::TooOld => {
                        self.is_too_old = true;
                        state.stop_by(after(settings.shutdown_timeout()));
                    }
                },
                _ => {}
            }
        }
    }
}

/// What comes next, and when.
fn next(state: &State, settings: &Settings) -> Option<(Instant, Event)> {
    let switched = state.switched();
    let idle = settings.idle_timeout().filter(|_| switched.is_some());
    let idle = idle.zip(state.active());
    let idle = idle.and_then(|(idle, active)| active.checked_add(idle));
    // Who is told to stop already is not told twice.
    let lifetime = settings.lifetime().filter(|_| !state.is_stopping());
    let too_old = lifetime.zip(switched);
    let too_old = too_old.and_then(|(lifetime, switched)| switched.checked_add(lifetime));
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

#[derive(Clone, Copy)]
enum Event {
    Overdue(Overdue),
    TooOld,
}

/// When `timeout` is over, with room for more: what is as good as never could be too much for an `Instant`.
pub(crate) fn after(timeout: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(86400 * 365 * 30);
    Instant::now() + timeout.min(NEVER)
}
