//! Time limits: what a layer sets, what holds for one request, and the waiting itself.

use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::{Sleep, sleep},
};

/// A limit as a user gives it: `None` is no limit.
pub(crate) fn limit(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or(Duration::MAX)
}

/// Panics where there are no timers: outside of tokio, and in a runtime without the time driver. A limit in time may
/// get along without one, so that it does not show there.
pub(crate) fn assert_runtime() {
    drop(sleep(Duration::ZERO));
}

/// Waits for `future`, no longer than `limit`. `None`: it took longer.
pub(crate) fn within<F: Future>(limit: Duration, future: F) -> Within<F> {
    Within {
        future,
        limit,
        timer: None,
    }
}

pin_project! {
    /// A timeout whose timer is made when there is something to wait for: most are ready at once.
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        limit: Duration,
        #[pin]
        timer: Option<Unconstrained<Sleep>>,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        if *this.limit == Duration::MAX {
            return Poll::Pending;
        }
        if this.timer.is_none() {
            // Not bound by the budget of the task: a future that always spends it would keep the timer
            // from firing.
            let timer = unconstrained(sleep(*this.limit));
            this.timer.set(Some(timer));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}
