//! The task of a session.

use super::{
    CloseReason, Closed, Session,
    guard::Permit,
    span,
    state::State,
    watch::{Overdue, Watch},
};
use crate::{
    error::BoxError,
    io::{box_io::BoxIo, linger},
    metrics,
    panic::{self, Panic},
    session::{SessionFuture, accepted::Accepted, held::HeldUpgrade, upgraded::Upgraded},
    time::within,
    trace,
};
use futures_util::FutureExt as _;
use std::{future::poll_fn, panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Poll};

/// Spawns the task of a session just before its upgrade response is sent.
pub(crate) fn spawn(mut accepted: Box<Accepted>, upgrade: HeldUpgrade) {
    accepted.upgrade = upgrade;
    let span = accepted.span.clone();
    // `End` reports the end of the session even if the task never runs.
    let end = End::of(&mut accepted);
    contain(|| metrics::opened(&end.state.labels));
    tokio::spawn(span.instrument(run(accepted, end)));
}

/// Runs a session from the handover of its connection to its shutdown.
///
/// The size of this future while the handler runs determines the memory of an idle session. It then holds only the
/// boxed future of the handler and `End`; the waits before and after are boxed separately and freed when they complete.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` stores its arguments twice, an `async` block stores its captures once"
)]
fn run(mut accepted: Box<Accepted>, mut end: End) -> impl Future<Output = ()> {
    async move {
        let mut watch = Watch::default();

        let io = match started_io(&mut accepted.upgrade, &mut watch, &end).await {
            Ok(Some(Ok(io))) => io,
            Ok(Some(Err(error))) => return end.report(CloseReason::NotUpgraded(error.into())),
            Ok(None) => {
                let late = "the server did not hand over the connection in time";
                return end.report(CloseReason::NotUpgraded(BoxError::from(late).into()));
            }
            Err(overdue) => return end.report_overdue(overdue, &watch),
        };

        end.state.start();
        contain(span::started);
        let reason = match start(accepted, io) {
            Ok(mut handler) => {
                // Not `CatchPanic`, whose field for the panic would add to the memory of every idle session.
                let ended = AssertUnwindSafe(handler.as_mut()).catch_unwind();
                let ended = unless_overdue(&mut watch, &end, ended).await;
                let reason = end.reason(ended, &watch);
                // The values that the handler owns may panic when dropped.
                match panic::catch(|| drop(handler)) {
                    Ok(()) => reason,
                    Err(panic) => CloseReason::Panicked(panic::message(&*panic)),
                }
            }
            Err(panic) => CloseReason::Panicked(panic::message(&*panic)),
        };
        drop(watch);
        Box::pin(end.close(reason)).await;
    }
}

/// Waits for the upgraded connection, for at most the handshake timeout.
async fn started_io(
    upgrade: &mut HeldUpgrade,
    watch: &mut Watch,
    end: &End,
) -> Result<Option<Result<BoxIo, BoxError>>, Overdue> {
    // Usually the connection is already available.
    match (&mut *upgrade).now_or_never() {
        Some(io) => Ok(Some(io)),
        None => {
            let timeout = end.state.settings().handshake_timeout();
            Box::pin(unless_overdue(watch, end, within(timeout, upgrade))).await
        }
    }
}

/// Waits for a future, and drops the future when the session is overdue.
async fn unless_overdue<F: Future>(
    watch: &mut Watch,
    end: &End,
    future: F,
) -> Result<F::Output, Overdue> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => watch.poll(cx, &end.state).map(Err),
    })
    .await
}

/// Starts the session handler, and catches a panic of the call that creates its future.
///
/// Takes the box by value, so that the box is freed while the session is open.
#[expect(
    clippy::boxed_local,
    reason = "the box must be freed while the session is open"
)]
fn start(accepted: Box<Accepted>, io: BoxIo) -> Result<SessionFuture, Panic> {
    let accepted = *accepted;
    let session = Session {
        io: Upgraded::owned_by_session(io, Arc::clone(&accepted.state)),
        state: accepted.state,
        extensions: accepted.extensions,
        request: accepted.request,
    };
    panic::catch(|| accepted.run.start(session))
}

/// The data needed to report and to close a session.
struct End {
    state: Arc<State>,
    permit: Option<Permit>,
    /// Set if the handler was dropped at the deadline of its stop signal.
    was_dropped: bool,
    is_reported: bool,
}

/// Runs user callbacks (`on_close`, subscriber, recorder, the error's `Display`) and catches their panics, so that the
/// session continues and its connection is shut down.
fn contain(report: impl FnOnce()) {
    if let Err(panic) = panic::catch(report) {
        trace::report_panicked(&panic::message(&*panic));
    }
}

type Ended = Result<Result<Result<(), BoxError>, Panic>, Overdue>;

impl End {
    fn of(accepted: &mut Accepted) -> Self {
        Self {
            state: Arc::clone(&accepted.state),
            permit: accepted.permit.take(),
            was_dropped: false,
            is_reported: false,
        }
    }

    fn reason(&mut self, ended: Ended, watch: &Watch) -> CloseReason {
        match ended {
            Ok(Ok(_)) if self.state.is_idle() => CloseReason::Idle,
            Ok(Ok(Ok(()))) if watch.is_too_old() => CloseReason::Lifetime,
            Ok(Ok(Ok(()))) if self.state.is_stopping() => CloseReason::Drained,
            Ok(Ok(Ok(()))) => CloseReason::Finished,
            Ok(Ok(Err(error))) => CloseReason::Failed(error.into()),
            Ok(Err(panic)) => CloseReason::Panicked(panic::message(&*panic)),
            Err(overdue) => self.overdue(overdue, watch),
        }
    }

    fn overdue(&mut self, overdue: Overdue, watch: &Watch) -> CloseReason {
        self.was_dropped = overdue == Overdue::Stop;
        match overdue {
            Overdue::Idle => CloseReason::Idle,
            Overdue::Stop if self.state.is_idle() => CloseReason::Idle,
            Overdue::Stop if watch.is_too_old() => CloseReason::Lifetime,
            Overdue::Stop => CloseReason::Aborted,
        }
    }

    fn report_overdue(&mut self, overdue: Overdue, watch: &Watch) {
        let reason = self.overdue(overdue, watch);
        self.report(reason);
    }

    /// Reports the end of the session.
    fn report(&mut self, reason: CloseReason) {
        self.is_reported = true;
        if let Some(permit) = &self.permit {
            permit.count(self.was_dropped);
        }
        let state = &self.state;
        let closed = Closed {
            id: state.id,
            kind: state.kind,
            protocol: state.protocol.clone(),
            peer: state.peer,
            identity: state.identity().cloned(),
            reason,
            duration: state.started().map(|at| at.elapsed()).unwrap_or_default(),
            bytes_read: state.bytes_read(),
            bytes_written: state.bytes_written(),
        };
        contain(|| span::closed(state, &closed));
        let ended = metrics::Ended {
            reason: closed.reason.as_str(),
            duration: closed.duration,
            bytes_read: closed.bytes_read,
            bytes_written: closed.bytes_written,
        };
        contain(|| metrics::closed(&state.labels, &ended));
        if let Some(on_close) = &self.state.settings().on_close {
            contain(|| on_close(&closed));
        }
        // Called after `on_close`, so that a test that has the report can rely on the effects of `on_close`.
        #[cfg(feature = "testing")]
        if let Some(observer) = &self.state.settings().observer {
            observer.report(closed);
        }
    }

    /// Reports the end of the session, and closes the connection with an orderly shutdown. The handler's future is
    /// already dropped.
    async fn close(mut self, reason: CloseReason) {
        let is_aborted = matches!(reason, CloseReason::Aborted);
        let has_failed =
            is_aborted || matches!(reason, CloseReason::Failed(_) | CloseReason::Panicked(_));
        let timeout = self.state.settings().shutdown_timeout();
        let is_stopped =
            self.state.is_stopping() || is_aborted || matches!(reason, CloseReason::Idle);
        self.report(reason);
        let mut home = poll_fn(|cx| self.state.poll_returned_io(cx));
        let io = match (&mut home).now_or_never() {
            Some(io) => io,
            None => {
                // A part of the IO is in another task. The session still ends: the other task is woken with an
                // error. If the task keeps its part, the connection closes when the part is dropped.
                self.state.revoke();
                self.permit = None;
                let io = within(timeout, home).await;
                if io.is_none() {
                    self.state.close_io_slot();
                }
                io.flatten()
            }
        };
        let farewell = self.state.farewell.load();
        let last = farewell.bytes(is_stopped);
        let io = io.and_then(|mut io| {
            // A clean end would look like success. A protocol with an end such as WebSocket's sends that instead.
            let is_reset = has_failed && last.is_empty() && io.reset();
            (!is_reset).then_some(io)
        });
        match io {
            // An aborted session does not wait for further data from the peer.
            Some(mut io) if is_aborted => {
                linger::shut_down(&mut io, last, timeout).await;
            }
            Some(io) => linger::close(io, last, timeout).await,
            None => {}
        }
    }
}

impl Drop for End {
    /// Reports `Aborted` if the runtime shuts down while the session is open.
    fn drop(&mut self) {
        if !self.is_reported {
            self.was_dropped = true;
            self.report(CloseReason::Aborted);
        }
    }
}
