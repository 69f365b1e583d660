//! The span of a session, and the events in it.

#[cfg(feature = "tracing")]
use crate::{error::causes, session::CloseReason};
use crate::{
    session::{Closed, state::State},
    trace::{event, unused},
};
#[cfg(feature = "tracing")]
use std::error::Error;

/// The span that a session runs in. Without the feature it is nothing.
#[derive(Clone)]
pub(crate) struct SessionSpan {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl SessionSpan {
    /// Made while the request's span is current. It follows from that, and is no child of it: a child
    /// would hold it open for as long as the session lasts.
    pub(crate) fn new(state: &State) -> Self {
        unused!(state);
        #[cfg(feature = "tracing")]
        let span = {
            use tracing::field::Empty;
            // The level of the worst that is said in it: where nothing less is looked at, it is said of
            // whom.
            let span = tracing::error_span!(
                target: "tower_upgrade",
                parent: None,
                "session",
                id = state.id.get(),
                kind = %state.kind,
                protocol = state.protocol.as_ref().map(tracing::field::display),
                peer = state.peer.map(tracing::field::display),
                identity = state.identity().map(tracing::field::display),
                reason = Empty,
                bytes_read = Empty,
                bytes_written = Empty,
                duration = Empty,
            );
            span.follows_from(tracing::Span::current());
            span
        };
        Self {
            #[cfg(feature = "tracing")]
            span,
        }
    }

    /// Runs the session in its span.
    pub(crate) fn instrument<F: Future>(self, session: F) -> impl Future<Output = F::Output> {
        #[cfg(feature = "tracing")]
        let session = tracing::Instrument::instrument(session, self.span);
        #[cfg(not(feature = "tracing"))]
        let _ = self;
        session
    }
}

pub(crate) fn switched() {
    event!(DEBUG, "session started");
}

/// The span has the numbers. A connection that breaks, or what comes over it, is the peer's doing; any other
/// error is the handler's.
pub(crate) fn closed(state: &State, closed: &Closed) {
    unused!(state, closed);
    #[cfg(feature = "tracing")]
    tracing::Span::current()
        .record("reason", tracing::field::display(closed.reason.as_str()))
        .record("bytes_read", closed.bytes_read)
        .record("bytes_written", closed.bytes_written)
        .record("duration", tracing::field::debug(closed.duration));
    #[cfg(feature = "tracing")]
    match &closed.reason {
        CloseReason::NeverSwitched(error) => event!(DEBUG, %error, "session never started"),
        CloseReason::Failed(error) if is_peers(state, &**error) => {
            event!(DEBUG, %error, "session failed")
        }
        CloseReason::Failed(error) => event!(WARN, %error, "session failed"),
        CloseReason::Panicked(panic) => event!(ERROR, %panic, "session panicked"),
        CloseReason::Aborted => event!(WARN, "session aborted"),
        _ => event!(DEBUG, "session finished"),
    }
}

/// Whether a session failed because of its connection or its peer. An `io::Error` alone does not tell: the handler may have
/// it of a file, or of a process that it could not spawn.
#[cfg(feature = "tracing")]
fn is_peers(state: &State, error: &(dyn Error + 'static)) -> bool {
    let is_of_io = |cause: &(dyn Error + 'static)| {
        let io = cause.downcast_ref();
        io.is_some_and(|error| state.may_be_of_io(error))
    };
    state.is_peers_failure() || causes(error).any(is_of_io)
}
