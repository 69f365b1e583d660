//! A future that may panic.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll},
};

pin_project_lite::pin_project! {
    /// Completes with the panic, if there is one. What the future owns is dropped when it completes, and may panic
    /// as well.
    ///
    /// An `async` block around the future would do, but would be twice as large: it has its variables, and what
    /// they are moved into.
    pub(super) struct Caught<F> {
        #[pin]
        future: Option<F>,
        panic: Option<Panic>,
    }
}

pub(super) type Panic = Box<dyn Any + Send>;

impl<F: Future> Caught<F> {
    /// Makes the future, which may panic on the spot.
    pub(super) fn new(make: impl FnOnce() -> F) -> Self {
        let (future, panic) = match panic::catch_unwind(AssertUnwindSafe(make)) {
            Ok(future) => (Some(future), None),
            Err(panic) => (None, Some(panic)),
        };
        Self { future, panic }
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(panic) = self.as_mut().project().panic.take() {
            return Poll::Ready(Err(panic));
        }
        let polled = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut future = self.as_mut().project().future;
            let polled = match future.as_mut().as_pin_mut() {
                Some(future) => future.poll(cx),
                None => Poll::Pending,
            };
            if polled.is_ready() {
                future.set(None);
            }
            polled
        }));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => {
                // What it owns goes as well, and the first panic is the one that is told.
                let drop = AssertUnwindSafe(|| self.as_mut().project().future.set(None));
                let _ = panic::catch_unwind(drop);
                Poll::Ready(Err(panic))
            }
        }
    }
}
