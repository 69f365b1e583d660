//! A future wrapper that catches panics.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll},
};

pin_project_lite::pin_project! {
    /// Catches a panic of the inner future and returns the panic as an error.
    ///
    /// The inner future is dropped on completion, inside `catch_unwind`, because its destructors may panic too.
    ///
    /// An `async` block around the future would be twice as large: it stores its captured variables and the variables
    /// they are moved into.
    pub(super) struct Caught<F> {
        #[pin]
        future: Option<F>,
        panic: Option<Panic>,
    }
}

pub(super) type Panic = Box<dyn Any + Send>;

impl<F: Future> Caught<F> {
    /// Creates the future with `make`, which may panic itself.
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
                // Drop the future too; only the first panic is reported.
                let drop = AssertUnwindSafe(|| self.as_mut().project().future.set(None));
                let _ = panic::catch_unwind(drop);
                Poll::Ready(Err(panic))
            }
        }
    }
}
