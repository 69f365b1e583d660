//! What is reported, where nobody else would see it. Without the feature `tracing` it is nothing.

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
macro_rules! unused {
    ($($arg:ident),*) => {
        #[cfg(not(feature = "tracing"))]
        let _ = ($($arg),*);
    };
}

pub(crate) use {event, unused};

pub(crate) fn refused(
    status: StatusCode,
    reason: &str,
    source: Option<&(dyn Error + Send + Sync + 'static)>,
) {
    unused!(status, reason, source);
    event!(
        DEBUG,
        status = status.as_u16(),
        reason,
        error = source.map(tracing::field::display),
        "upgrade refused"
    );
}

pub(crate) fn handler_panicked(panic: &str) {
    unused!(panic);
    event!(ERROR, panic, "handler panicked before it decided");
}

pub(crate) fn unused_panicked(panic: &str) {
    unused!(panic);
    event!(
        ERROR,
        panic,
        "what was prepared for a session that never started panicked when it was dropped"
    );
}

pub(crate) fn switch_replaced(status: StatusCode) {
    unused!(status);
    event!(
        DEBUG,
        status = status.as_u16(),
        "a layer replaced the switch, the session does not start"
    );
}

/// A switch that lost its session is for the author of a layer to know. One that a service made up that
/// knows nothing of this connection is what a client can ask for.
pub(crate) fn no_session(status: StatusCode, was_made: bool) {
    unused!(status, was_made);
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
    unused!(status);
    event!(
        ERROR,
        status = status.as_u16(),
        "a handler's refusal would be a switch to the client"
    );
}

pub(crate) fn not_offered(protocol: &dyn Display) {
    unused!(protocol);
    event!(
        ERROR,
        %protocol,
        "a handler accepted for a protocol that was not offered"
    );
}

/// The server cannot hand its connections over: that is for its author to know.
pub(crate) fn cannot_switch(error: &dyn Display) {
    unused!(error);
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
    unused!(panic);
    event!(
        ERROR,
        panic,
        "a report of a session panicked: a recorder, what is called on close, or what its error says"
    );
}

#[cfg(all(feature = "axum", feature = "websocket"))]
pub(crate) fn on_failed_upgrade_panicked(panic: &str) {
    unused!(panic);
    event!(
        ERROR,
        panic,
        "the function that is called on a failed upgrade panicked"
    );
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
