//! The type-erased session handler, and its future.

use crate::{
    error::{BoxError, BoxFuture},
    panic,
    session::Session,
    trace,
};

/// The session handler of an accepted request.
pub(crate) struct SessionHandler {
    /// `None` once started.
    run: Option<Box<dyn FnOnce(Session) -> SessionFuture + Send>>,
}

impl SessionHandler {
    pub(crate) fn new(run: impl FnOnce(Session) -> SessionFuture + Send + 'static) -> Self {
        Self {
            run: Some(Box::new(run)),
        }
    }

    /// Calls the session handler. User code runs here, and may panic before the future is returned.
    pub(crate) fn start(mut self, session: Session) -> SessionFuture {
        let run = self
            .run
            .take()
            .expect("only `start` and `drop` take the handler");
        run(session)
    }
}

impl Drop for SessionHandler {
    /// Drops an unused session handler and catches its panics: a layer may drop the handler on a connection with other
    /// streams, which the panic would end.
    fn drop(&mut self) {
        if let Err(panic) = panic::catch(|| drop(self.run.take())) {
            trace::unused_panicked(&panic::message(&*panic));
        }
    }
}

/// The future of a running session handler.
pub(crate) type SessionFuture = BoxFuture<Result<(), BoxError>>;
