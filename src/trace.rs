//! What is reported, where nobody else would see it. Without the feature `tracing` it is nothing.

use crate::Protocol;
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

pub(crate) fn session_lost() {
    event!(
        ERROR,
        "a 101 lost its session on the way out: a layer made a new response, or cloned it, and \
         left the extensions behind"
    );
}

/// The client left, or took too long: that is the client's doing.
pub(crate) fn never_switched(protocol: &Protocol, reason: &dyn Display) {
    ignore!(protocol, reason);
    event!(DEBUG, %protocol, %reason, "session never started");
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

pub(crate) fn session_finished(protocol: &Protocol) {
    ignore!(protocol);
    event!(DEBUG, %protocol, "session finished");
}

/// A connection that breaks is the peer's doing; any other error is the handler's.
pub(crate) fn session_failed(protocol: &Protocol, error: &(dyn Error + Send + Sync + 'static)) {
    ignore!(protocol, error);
    if error.is::<std::io::Error>() {
        event!(DEBUG, %protocol, %error, "session failed");
    } else {
        event!(WARN, %protocol, %error, "session failed");
    }
}

pub(crate) fn session_panicked(protocol: &Protocol, panic: &str) {
    ignore!(protocol, panic);
    event!(ERROR, %protocol, panic, "session panicked");
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
