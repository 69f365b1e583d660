//! The stop signal of a session, as its WebSocket waits for it.

use crate::session::{Session, state::State};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

pub(super) type StopFuture = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

pub(super) struct Stop {
    session: Arc<State>,
    signal: StopFuture,
    /// The waker that `signal` was last polled with.
    waiting: Option<Waker>,
}

impl Stop {
    pub(super) fn new(session: &Session) -> Self {
        Self {
            session: Arc::clone(session.state()),
            signal: Box::pin(session.stop()),
            waiting: None,
        }
    }

    pub(super) fn is_signaled(&self) -> bool {
        self.session.is_stopping()
    }

    /// Waits for the stop signal. Comparing the waker costs less than polling `signal` again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self.waiting.as_ref();
        if waiting.is_some_and(|waiting| waiting.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waiting = Some(cx.waker().clone());
        self.signal.as_mut().poll(cx)
    }

    pub(super) fn into_signal(self) -> StopFuture {
        self.signal
    }
}
