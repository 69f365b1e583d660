//! Catches panics of user code: handlers, callbacks and destructors.

use std::{
    any::Any,
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// The payload of a panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// Calls `f`, and returns a panic as an error.
///
/// Every caller drops or abandons the values that `f` may have left inconsistent.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Returns the message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> Cow<'static, str> {
    if let Some(message) = panic.downcast_ref::<&'static str>() {
        Cow::Borrowed(message)
    } else if let Some(message) = panic.downcast_ref::<String>() {
        Cow::Owned(message.clone())
    } else {
        Cow::Borrowed("the panic payload is not a string")
    }
}

pin_project_lite::pin_project! {
    /// Catches a panic of the inner future and returns the panic as an error.
    ///
    /// Unlike `FutureExt::catch_unwind`, this also catches panics of the inner future's destructor: the inner future is
    /// dropped on completion, inside `catch`.
    ///
    /// An `async` block around the future would be twice as large: it stores its captured variables and the variables
    /// they are moved into.
    pub(crate) struct CatchPanic<F> {
        #[pin]
        future: Option<F>,
        panic: Option<Panic>,
    }
}

impl<F: Future> CatchPanic<F> {
    /// Creates the future with `make`, which may panic itself.
    pub(crate) fn new(make: impl FnOnce() -> F) -> Self {
        let (future, panic) = match catch(make) {
            Ok(future) => (Some(future), None),
            Err(panic) => (None, Some(panic)),
        };
        Self { future, panic }
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(panic) = self.as_mut().project().panic.take() {
            return Poll::Ready(Err(panic));
        }
        let polled = catch(|| {
            let mut future = self.as_mut().project().future;
            let polled = match future.as_mut().as_pin_mut() {
                Some(future) => future.poll(cx),
                None => Poll::Pending,
            };
            if polled.is_ready() {
                future.set(None);
            }
            polled
        });
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => {
                // Drop the future too; only the first panic is reported.
                let _ = catch(|| self.as_mut().project().future.set(None));
                Poll::Ready(Err(panic))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    struct PanicsOnDrop(&'static str);

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("{}", self.0);
        }
    }

    /// Returns the message of the panic with which a future that is ready at once completes.
    fn panic_of<F: Future<Output = ()>>(make: impl FnOnce() -> F) -> Option<String> {
        let caught = CatchPanic::new(make).now_or_never().expect("it is ready");
        caught.err().map(|panic| message(&*panic).into_owned())
    }

    #[test]
    fn panic_in_any_phase_of_a_future_is_caught() {
        assert_eq!(panic_of(|| async {}), None);
        let make = || -> std::future::Ready<()> { panic!("made") };
        assert_eq!(panic_of(make).as_deref(), Some("made"));
        let poll = || async { panic!("polled") };
        assert_eq!(panic_of(poll).as_deref(), Some("polled"));
        let drop = || {
            let captured = PanicsOnDrop("dropped");
            std::future::poll_fn(move |_| {
                let _ = &captured;
                Poll::Ready(())
            })
        };
        assert_eq!(panic_of(drop).as_deref(), Some("dropped"));
    }

    #[test]
    fn first_of_two_panics_is_reported() {
        let both = || {
            let captured = PanicsOnDrop("second");
            std::future::poll_fn(move |_| {
                let _ = &captured;
                panic!("first")
            })
        };
        assert_eq!(panic_of(both).as_deref(), Some("first"));
    }

    #[test]
    fn message_of_any_payload_is_text() {
        let message_of = |panic: Panic| message(&*panic).into_owned();
        assert_eq!(message_of(Box::new("static")), "static");
        assert_eq!(message_of(Box::new(String::from("owned"))), "owned");
        assert_eq!(message_of(Box::new(5)), "the panic payload is not a string");
    }
}
