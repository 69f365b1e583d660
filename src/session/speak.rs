//! The session handler of an accepted request, before it runs and while it runs.

use crate::{
    error::{BoxError, BoxFuture},
    session::Session,
    trace,
};
use std::panic::{self, AssertUnwindSafe};

/// What runs a session, once it has one.
pub(crate) struct Speak {
    /// None when it runs.
    speak: Option<Box<dyn FnOnce(Session) -> Speaking + Send>>,
}

impl Speak {
    pub(crate) fn new(speak: impl FnOnce(Session) -> Speaking + Send + 'static) -> Self {
        Self {
            speak: Some(Box::new(speak)),
        }
    }

    /// Starts to speak. It is the handler's code, which may panic on the spot.
    pub(crate) fn start(mut self, session: Session) -> Speaking {
        let speak = self.speak.take().expect("it is taken here alone");
        speak(session)
    }
}

impl Drop for Speak {
    /// There is no session. What was prepared for it may panic, and this may be in the hands of any layer, on a
    /// connection with other streams.
    fn drop(&mut self) {
        let unused = AssertUnwindSafe(|| drop(self.speak.take()));
        if let Err(panic) = panic::catch_unwind(unused) {
            trace::unused_panicked(&trace::panic_message(&*panic));
        }
    }
}

/// A handler's part of a session, on its way.
pub(crate) type Speaking = BoxFuture<Result<(), BoxError>>;
