//! Timeouts and timers. All timers are exempt from the cooperative budget of the task, because a future that always
//! exhausts the budget would keep them from firing.

use pin_project_lite::pin_project;
use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// Converts an optional limit: `None` becomes [`Duration::MAX`], which stands for no limit.
pub(crate) fn limit(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or(Duration::MAX)
}

/// Returns the time after `timeout`, capped at 30 years from now so that the `Instant` does not overflow.
pub(crate) fn after(timeout: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(86400 * 365 * 30);
    Instant::now() + timeout.min(NEVER)
}

/// Panics outside of a tokio runtime, or if the runtime has no time driver. Timers are created late, so that without
/// this check a session could start and panic later.
pub(crate) fn assert_runtime() {
    drop(sleep(Duration::ZERO));
}

/// Waits for `future`, for at most `limit`. Resolves to `None` if the limit is exceeded.
pub(crate) fn within<F: Future>(limit: Duration, future: F) -> Within<F> {
    Within {
        future,
        limit,
        timer: None,
    }
}

pin_project! {
    /// A timeout that creates its timer when the future first returns `Pending`: most futures are ready at once.
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
            let timer = unconstrained(sleep(*this.limit));
            this.timer.set(Some(timer));
        }
        match this.timer.as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

/// A timer that can be armed many times. Allocates when it is first armed.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Waits until `at`, which may differ from call to call.
    ///
    /// A later time than before does not touch the timer, which fires early and is armed again then. Moving a deadline
    /// on each read or write therefore costs nothing.
    pub(crate) fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        loop {
            if sleep.deadline() > at || sleep.is_elapsed() {
                sleep.as_mut().reset(at);
            }
            ready!(pin!(unconstrained(sleep.as_mut())).poll(cx));
            if at <= Instant::now() {
                return Poll::Ready(());
            }
        }
    }
}

impl Timer {
    /// Returns `true` if the timer has been armed, also if it has fired since.
    pub(crate) fn is_armed(&self) -> bool {
        self.sleep.is_some()
    }

    /// Arms the timer, or arms it again for another time.
    pub(crate) fn arm(&mut self, at: Instant) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
    }

    /// Waits until the time for which the timer is armed. Pending if the timer is not armed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) => pin!(unconstrained(sleep.as_mut())).poll(cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn timer_fires_at_the_last_time_it_is_polled_with() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = Timer::default();
        // Armed for 10 s, then polled with a later and with an earlier time.
        for seconds in [10, 20, 5] {
            let polled = poll_fn(|cx| Poll::Ready(timer.poll_at(cx, at(seconds)))).await;
            assert_eq!(polled, Poll::Pending);
        }
        poll_fn(|cx| timer.poll_at(cx, at(15))).await;
        assert_eq!(start.elapsed().as_secs(), 15);
        // Again after the timer has fired.
        poll_fn(|cx| timer.poll_at(cx, at(16))).await;
        assert_eq!(start.elapsed().as_secs(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn timer_is_armed_again_after_it_has_fired() {
        let mut timer = Timer::default();
        assert!(!timer.is_armed());
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx))).await.is_pending());
        for _ in 0..2 {
            let start = Instant::now();
            timer.arm(after(Duration::from_secs(3)));
            poll_fn(|cx| timer.poll(cx)).await;
            assert_eq!(start.elapsed().as_secs(), 3);
            assert!(timer.is_armed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn longest_timeout_does_not_overflow() {
        assert!(after(Duration::MAX) > Instant::now());
    }
}
