//! The task that a session lives in.

use super::span;
use super::{
    CloseReason, Closed, Session,
    guard::Permit,
    state::State,
    watch::{Overdue, Watch},
};
use crate::{
    error::BoxError,
    io::{box_io::BoxIo, linger},
    metrics,
    session::{
        Speaking, accepted::Accepted, held::HeldUpgrade, settings::Settings, upgraded::Upgraded,
    },
    time::within,
    trace,
};
use futures_util::FutureExt as _;
use std::{
    any::Any,
    future::poll_fn,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::Arc,
    task::Poll,
    thread,
};

/// Starts a session whose switch is about to leave.
pub(crate) fn spawn(mut accepted: Box<Accepted>, upgrade: HeldUpgrade) {
    accepted.upgrade = upgrade;
    let span = accepted.span.clone();
    // From here on its end is reported, also if its task never runs.
    let end = End::of(&mut accepted);
    contain(|| metrics::opened(&end.state.labels));
    tokio::spawn(span.instrument(run(accepted, end)));
}

/// What is alive here while the handler speaks is what an idle session costs, so it is little: the
/// handler's future in its box, and what the end needs. The waits before and after have boxes of
/// their own, which are there only while they last.
#[expect(
    clippy::manual_async_fn,
    reason = "what a block takes in stays where it is; the arguments of an `async fn` would be there twice"
)]
fn run(mut accepted: Box<Accepted>, mut end: End) -> impl Future<Output = ()> {
    async move {
        let mut watch = Watch::default();

        let io = match switched(&mut accepted.upgrade, &mut watch, &end).await {
            Ok(Some(Ok(io))) => io,
            Ok(Some(Err(error))) => return end.report(CloseReason::NeverSwitched(error.into())),
            Ok(None) => {
                let late = "the switch was not sent in time";
                return end.report(CloseReason::NeverSwitched(BoxError::from(late).into()));
            }
            Err(overdue) => return end.report_overdue(overdue, &watch),
        };

        end.state.switch();
        contain(span::switched);
        let reason = match start(accepted, io) {
            Ok(mut speaking) => {
                let ended = AssertUnwindSafe(speaking.as_mut()).catch_unwind();
                let ended = unless_overdue(&mut watch, &end, ended).await;
                let reason = end.reason(ended, &watch);
                // What the handler owns may panic as well.
                match panic::catch_unwind(AssertUnwindSafe(|| drop(speaking))) {
                    Ok(()) => reason,
                    Err(panic) => CloseReason::Panicked(trace::panic_message(&*panic)),
                }
            }
            Err(panic) => CloseReason::Panicked(trace::panic_message(&*panic)),
        };
        drop(watch);
        Box::pin(end.close(reason)).await;
    }
}

/// Waits until the switch has been sent, no longer than it may take.
async fn switched(
    upgrade: &mut HeldUpgrade,
    watch: &mut Watch,
    end: &End,
) -> Result<Option<Result<BoxIo, BoxError>>, Overdue> {
    // Most often that is so by now.
    match (&mut *upgrade).now_or_never() {
        Some(io) => Ok(Some(io)),
        None => {
            let timeout = end.settings.handshake_timeout();
            Box::pin(unless_overdue(watch, end, within(timeout, upgrade))).await
        }
    }
}

/// Waits for a future, which is dropped when the session is overdue.
async fn unless_overdue<F: Future>(
    watch: &mut Watch,
    end: &End,
    future: F,
) -> Result<F::Output, Overdue> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => watch.poll(cx, &end.state, &end.settings).map(Err),
    })
    .await
}

/// Starts what was accepted: the handler's part of the session, which may panic on the spot.
///
/// It takes the box, so that the box is gone while the session lives.
#[expect(
    clippy::boxed_local,
    reason = "the box is gone while the session lives"
)]
fn start(accepted: Box<Accepted>, io: BoxIo) -> thread::Result<Speaking> {
    let accepted = *accepted;
    let session = Session {
        io: Upgraded::owned_by_session(io, Arc::clone(&accepted.state)),
        state: accepted.state,
        extensions: accepted.extensions,
        request: accepted.request,
        #[cfg(feature = "websocket")]
        settings: accepted.settings,
    };
    panic::catch_unwind(AssertUnwindSafe(|| accepted.speak.start(session)))
}

/// What the end of a session needs.
struct End {
    state: Arc<State>,
    permit: Option<Permit>,
    settings: Arc<Settings>,
    /// Whether the handler was dropped because the time to stop was over.
    was_dropped: bool,
    is_reported: bool,
}

/// Reports, to a user's function, subscriber or recorder, which also ask the handler's error what it says: any of
/// them may panic. The session goes on, and its connection is to be shut down.
fn contain(report: impl FnOnce()) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(report)) {
        trace::report_panicked(&trace::panic_message(&*panic));
    }
}

type Ended = Result<Result<Result<(), BoxError>, Box<dyn Any + Send>>, Overdue>;

impl End {
    fn of(accepted: &mut Accepted) -> Self {
        Self {
            state: Arc::clone(&accepted.state),
            permit: accepted.permit.take(),
            settings: Arc::clone(&accepted.settings),
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
            Ok(Err(panic)) => CloseReason::Panicked(trace::panic_message(&*panic)),
            Err(overdue) => self.overdue(overdue, watch),
        }
    }

    fn overdue(&mut self, overdue: Overdue, watch: &Watch) -> CloseReason {
        self.was_dropped = overdue == Overdue::Stop;
        match overdue {
            Overdue::Idle => CloseReason::Idle,
            Overdue::Stop if watch.is_too_old() => CloseReason::Lifetime,
            Overdue::Stop => CloseReason::Aborted,
        }
    }

    fn report_overdue(&mut self, overdue: Overdue, watch: &Watch) {
        let reason = self.overdue(overdue, watch);
        self.report(reason);
    }

    /// Says how the session ended.
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
            duration: state.switched().map(|at| at.elapsed()).unwrap_or_default(),
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
        if let Some(on_close) = &self.settings.on_close {
            contain(|| on_close(&closed));
        }
        // After it, so that a test which has the report sees what it did.
        #[cfg(feature = "testing")]
        if let Some(observer) = &self.settings.observer {
            observer.report(closed);
        }
    }

    /// Says how the session ended, and shuts the connection down in order. The handler's future is gone
    /// by now.
    async fn close(mut self, reason: CloseReason) {
        let is_aborted = matches!(reason, CloseReason::Aborted);
        let timeout = self.settings.shutdown_timeout();
        self.report(reason);
        let mut home = poll_fn(|cx| self.state.poll_home(cx));
        let io = match (&mut home).now_or_never() {
            Some(io) => io,
            None => {
                // A part of it is in another task. The session is over all the same: that task is
                // woken, and gets an error. What it does not let go of ends with it.
                self.state.revoke();
                self.permit = None;
                let io = within(timeout, home).await;
                if io.is_none() {
                    self.state.take_for_good();
                }
                io.flatten()
            }
        };
        match io {
            // Nobody waits any longer for what the peer still sends.
            Some(mut io) if is_aborted => {
                linger::shut_down(&mut io, timeout).await;
            }
            Some(io) => linger::close(io, timeout).await,
            None => {}
        }
    }
}

impl Drop for End {
    /// The runtime shuts down while the session is open.
    fn drop(&mut self) {
        if !self.is_reported {
            self.was_dropped = true;
            self.report(CloseReason::Aborted);
        }
    }
}
