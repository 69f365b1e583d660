//! The time limits of an open session, with a single timer.

use super::state::State;
use crate::{
    session::settings::Settings,
    time::{Timer, after},
};
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// Watches the stop deadline, the idle timeout and the lifetime of a session. Creates the timer when the first limit
/// applies, and does not reset it on every read or write.
#[derive(Default)]
pub(crate) struct Watch {
    timer: Timer,
    is_too_old: bool,
}

/// The reason to drop a handler that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    Idle,
    Stop,
}

impl Watch {
    /// Returns `true` if the session received its stop signal for reaching its lifetime.
    pub(crate) fn is_too_old(&self) -> bool {
        self.is_too_old
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, state: &State) -> Poll<Overdue> {
        let settings = state.settings();
        state.register_task(cx);
        // Called each time the handler returns `Pending`, so the common case returns early.
        if settings.is_unlimited() && !state.is_stopping() {
            return Poll::Pending;
        }
        loop {
            let Some((at, _)) = next(state, settings) else {
                return Poll::Pending;
            };
            ready!(self.timer.poll_at(cx, at));
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

/// Returns the next event and its time.
fn next(state: &State, settings: &Settings) -> Option<(Instant, Event)> {
    let started = state.started();
    let idle = settings.idle_timeout().filter(|_| started.is_some());
    let idle = idle.zip(state.active());
    let idle = idle.and_then(|(idle, active)| active.checked_add(idle));
    // A session that already has its stop signal does not get another for its lifetime.
    let lifetime = settings.lifetime().filter(|_| !state.is_stopping());
    let too_old = lifetime.zip(started);
    let too_old = too_old.and_then(|(lifetime, started)| started.checked_add(lifetime));
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
