//! What is reported, where nobody else would see it. Without the feature `tracing` it is nothing.

use crate::{Protocol, UpgradeKind};
use http::StatusCode;
use std::{any::Any, borrow::Cow, error::Error, fmt::Display};

/// `event!(LEVEL, ...)`, or nothing.
macro_rules! event {
    ($level:ident, $($args:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::event!(target: "tower_upgrade", tracing::Level::$level, $($args)*);
    };
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

/// What a session was asked for with, as its events say it.
pub(crate) struct UpgradeOf {
    kind: UpgradeKind,
    protocol: Option<Protocol>,
}

impl UpgradeOf {
    pub(crate) fn new(kind: UpgradeKind, protocol: Option<Protocol>) -> Self {
        Self { kind, protocol }
    }
}

/// `session_event!(LEVEL, upgrade, ...)`: an event with the kind and the protocol of a session.
macro_rules! session_event {
    ($level:ident, $of:expr, $($args:tt)*) => {
        let UpgradeOf { kind, protocol } = $of;
        ignore!(kind, protocol);
        event!(
            $level,
            %kind,
            protocol = protocol.as_ref().map(tracing::field::display),
            $($args)*
        );
    };
}

/// The client left, or took too long: that is the client's doing.
pub(crate) fn never_switched(of: &UpgradeOf, reason: &dyn Display) {
    ignore!(reason);
    session_event!(DEBUG, of, %reason, "session never started");
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

pub(crate) fn session_finished(of: &UpgradeOf) {
    session_event!(DEBUG, of, "session finished");
}

/// A connection that breaks is the peer's doing; any other error is the handler's.
pub(crate) fn session_failed(of: &UpgradeOf, error: &(dyn Error + Send + Sync + 'static)) {
    ignore!(of, error);
    #[cfg(feature = "tracing")]
    if error.is::<std::io::Error>() {
        session_event!(DEBUG, of, %error, "session failed");
    } else {
        session_event!(WARN, of, %error, "session failed");
    }
}

pub(crate) fn session_panicked(of: &UpgradeOf, panic: &str) {
    ignore!(panic);
    session_event!(ERROR, of, panic, "session panicked");
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
