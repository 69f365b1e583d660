//! The session handler of an accepted request, before it runs and while it runs.

use crate::{
    error::{BoxError, BoxFuture},
    session::Session,
    trace,
};
use std::panic::{self, AssertUnwindSafe};

/// The session handler of an accepted request.
pub(crate) struct Speak {
    /// `None` once started.
    speak: Option<Box<dyn FnOnce(Session) -> Speaking + Send>>,
}

impl Speak {
    pub(crate) fn new(speak: impl FnOnce(Session) -> Speaking + Send + 'static) -> Self {
        Self {
            speak: Some(Box::new(speak)),
        }
    }

    /// Calls the session handler. User code runs here, and may panic before the future is returned.
    pub(crate) fn start(mut self, session: Session) -> Speaking {
        let speak = self.speak.take().expect("it is taken here alone");
        speak(session)
    }
}

impl Drop for Speak {
    /// Drops an unused session handler and catches its panics: any layer may drop the handler, and the connection may
    /// have other streams.
    fn drop(&mut self) {
        let unused = AssertUnwindSafe(|| drop(self.speak.take()));
        if let Err(panic) = panic::catch_unwind(unused) {
            trace::unused_panicked(&trace::panic_message(&*panic));
        }
    }
}

/// The future of a running session handler.
pub(crate) type Speaking = BoxFuture<Result<(), BoxError>>;
