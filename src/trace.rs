//! What is reported, where nobody else would see it. Without the feature `tracing` it is nothing.

#[cfg(feature = "tracing")]
use crate::{CloseReason, error::causes};
use crate::{Closed, Protocol, session::state::State};
use http::StatusCode;
use std::{any::Any, borrow::Cow, error::Error, fmt::Display};

/// `event!(LEVEL, ...)`, or nothing.
macro_rules! event {
    ($level:ident, $($args:tt)*) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(target: "tower_upgrade", tracing::Level::$level, $($args)*);
    }};
}

/// Without the feature the arguments are not used: this uses them.
macro_rules! ignore {
    ($($arg:ident),*) => {
        #[cfg(not(feature = "tracing"))]
        let _ = ($($arg),*);
    };
}

pub(crate) fn refused(
    status: StatusCode,
    reason: &str,
    source: Option<&(dyn Error + Send + Sync + 'static)>,
) {
    ignore!(status, reason, source);
    event!(
        DEBUG,
        status = status.as_u16(),
        reason,
        error = source.map(tracing::field::display),
        "upgrade refused"
    );
}

pub(crate) fn handler_panicked(panic: &str) {
    ignore!(panic);
    event!(ERROR, panic, "handler panicked before it decided");
}

pub(crate) fn unused_panicked(panic: &str) {
    ignore!(panic);
    event!(
        ERROR,
        panic,
        "what was prepared for a session that never started panicked when it was dropped"
    );
}

pub(crate) fn switch_replaced(status: StatusCode) {
    ignore!(status);
    event!(
        DEBUG,
        status = status.as_u16(),
        "a layer replaced the switch, the session does not start"
    );
}

/// A switch that lost its session is for the author of a layer to know. One that a service made up that
/// knows nothing of this connection is what a client can ask for.
pub(crate) fn no_session(status: StatusCode, was_made: bool) {
    ignore!(status, was_made);
    #[cfg(feature = "tracing")]
    if was_made {
        event!(
            ERROR,
            status = status.as_u16(),
            "a switch has lost its session: a layer made a new response, or cloned it, and left the \
             extensions behind"
        );
    } else {
        event!(
            DEBUG,
            status = status.as_u16(),
            "a service made a switch that it has no session for"
        );
    }
}

pub(crate) fn refusal_is_a_switch(status: StatusCode) {
    ignore!(status);
    event!(
        ERROR,
        status = status.as_u16(),
        "a handler's refusal would be a switch to the client"
    );
}

pub(crate) fn not_offered(protocol: &Protocol) {
    ignore!(protocol);
    event!(
        ERROR,
        %protocol,
        "a handler accepted for a protocol that was not offered"
    );
}

/// The server cannot hand its connections over: that is for its author to know.
pub(crate) fn cannot_switch(error: &dyn Display) {
    ignore!(error);
    event!(
        ERROR,
        %error,
        "no session can start: serve connections with `with_upgrades()`, or with \
         `serve_connection_with_upgrades` of hyper-util"
    );
}

/// An extractor has nothing that it could hand a connection to: that is for the author of the router to know.
#[cfg(feature = "axum")]
pub(crate) fn no_layer() {
    event!(
        ERROR,
        "no `UpgradeLayer` is around the route: add `.layer(UpgradeLayer::new())` to the router, as its \
         last layer"
    );
}

pub(crate) fn report_panicked(panic: &str) {
    ignore!(panic);
    event!(
        ERROR,
        panic,
        "a report of a session panicked: a recorder, what is called on close, or what its error says"
    );
}

#[cfg(all(feature = "axum", feature = "websocket"))]
pub(crate) fn on_failed_upgrade_panicked(panic: &str) {
    ignore!(panic);
    event!(
        ERROR,
        panic,
        "the function that is called on a failed upgrade panicked"
    );
}

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
        ignore!(state);
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
    ignore!(state, closed);
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

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> Cow<'static, str> {
    if let Some(message) = panic.downcast_ref::<&'static str>() {
        Cow::Borrowed(message)
    } else if let Some(message) = panic.downcast_ref::<String>() {
        Cow::Owned(message.clone())
    } else {
        Cow::Borrowed("the panic payload is not a string")
    }
}
