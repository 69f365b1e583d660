//! The span of a session, and the events in it.

#[cfg(feature = "tracing")]
use crate::{error::causes, session::CloseReason};
use crate::{
    session::{Closed, state::State},
    trace::{event, unused},
};
#[cfg(feature = "tracing")]
use std::error::Error;

/// The span of a session. Empty without the feature `tracing`.
#[derive(Clone)]
pub(crate) struct SessionSpan {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl SessionSpan {
    /// Creates the span while the request's span is current. The session's span follows from the request's span instead
    /// of being its child: a child would keep the request's span open for the whole session.
    pub(crate) fn new(state: &State) -> Self {
        unused!(state);
        #[cfg(feature = "tracing")]
        let span = {
            use tracing::field::Empty;
            // ERROR is the highest level of an event in the session: a filter that admits any of its events also admits
            // the span.
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

pub(crate) fn started() {
    event!(DEBUG, "session started");
}

/// Records the close reason, bytes and duration in the span, and emits the closing event. Errors of the connection or
/// its data are attributed to the peer (DEBUG), and any other error to the handler (WARN).
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
        CloseReason::NotUpgraded(error) => event!(DEBUG, %error, "session did not start"),
        CloseReason::Failed(error) if is_peers(state, &**error) => {
            event!(DEBUG, %error, "session failed")
        }
        CloseReason::Failed(error) => event!(WARN, %error, "session failed"),
        CloseReason::Panicked(panic) => event!(ERROR, %panic, "session panicked"),
        CloseReason::Aborted => event!(WARN, "session aborted"),
        _ => event!(DEBUG, "session finished"),
    }
}

/// Returns `true` if a session failed because of its connection or its peer. The type `io::Error` is not sufficient:
/// the handler may have received the error from a file, or from a process that failed to spawn.
#[cfg(feature = "tracing")]
fn is_peers(state: &State, error: &(dyn Error + 'static)) -> bool {
    let is_of_io = |cause: &(dyn Error + 'static)| {
        let io = cause.downcast_ref();
        io.is_some_and(|error| state.may_be_of_io(error))
    };
    state.is_peers_failure() || causes(error).any(is_of_io)
}
