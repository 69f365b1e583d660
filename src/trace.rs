//! Events that the crate emits through `tracing`. Without the feature `tracing` the functions do nothing.

use http::StatusCode;
use std::{error::Error, fmt::Display};

/// Emits an event, as in `event!(LEVEL, ...)`.
macro_rules! event {
    ($level:ident, $($args:tt)*) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(target: "tower_upgrade", tracing::Level::$level, $($args)*);
    }};
}

/// Marks arguments as used that only the feature `tracing` uses.
macro_rules! unused {
    ($($arg:ident),*) => {
        #[cfg(not(feature = "tracing"))]
        let _ = ($($arg),*);
    };
}

pub(crate) use {event, unused};

pub(crate) fn rejected(
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
        "upgrade rejected"
    );
}

/// Reports a plain request that a proxy answered itself.
#[cfg(feature = "tunnel")]
pub(crate) fn plain_rejected(
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
        "request rejected"
    );
}

pub(crate) fn handler_panicked(panic: &str) {
    unused!(panic);
    event!(
        ERROR,
        panic,
        "handler panicked before accepting or rejecting"
    );
}

pub(crate) fn unused_panicked(panic: &str) {
    unused!(panic);
    event!(ERROR, panic, "unused session handler panicked when dropped");
}

pub(crate) fn upgrade_response_replaced(status: StatusCode) {
    unused!(status);
    event!(
        DEBUG,
        status = status.as_u16(),
        "upgrade response was replaced by a layer, session does not start"
    );
}

/// Reports an upgrade response without a session. An author of middleware must see that a handler's response lost its
/// session (ERROR). Clients can provoke one from a service that answers 101 without a handler (DEBUG).
pub(crate) fn no_session(status: StatusCode, was_made: bool) {
    unused!(status, was_made);
    #[cfg(feature = "tracing")]
    if was_made {
        event!(
            ERROR,
            status = status.as_u16(),
            "upgrade response lost its session: a layer created or cloned a response without its extensions"
        );
    } else {
        event!(
            DEBUG,
            status = status.as_u16(),
            "inner service sent an upgrade response without a session"
        );
    }
}

pub(crate) fn rejection_is_upgrade(status: StatusCode) {
    unused!(status);
    event!(
        ERROR,
        status = status.as_u16(),
        "handler rejected a request with the status of an upgrade response"
    );
}

/// Reports a request over HTTP/3 whose stream was reset, by either side.
#[cfg(feature = "http3")]
pub(crate) fn http3_request_failed(error: &dyn Display) {
    unused!(error);
    event!(DEBUG, %error, "request over HTTP/3 failed");
}

/// Reports an error of a service, or of the body of its response.
#[cfg(feature = "http3")]
pub(crate) fn http3_service_failed(error: &dyn Display) {
    unused!(error);
    event!(ERROR, %error, "service failed, request over HTTP/3 was reset");
}

pub(crate) fn not_offered(protocol: &dyn Display) {
    unused!(protocol);
    event!(
        ERROR,
        %protocol,
        "handler accepted a protocol that was not offered"
    );
}

pub(crate) fn invalid_upgrade_response(broken: &str) {
    unused!(broken);
    event!(
        ERROR,
        error = broken,
        "inner service sent an invalid upgrade response"
    );
}

/// Reports a server that does not hand over connections. The author of the server must see it (ERROR).
pub(crate) fn upgrade_failed(error: &dyn Display) {
    unused!(error);
    event!(
        ERROR,
        %error,
        "no session can start: serve connections with `with_upgrades()`, or with \
         `serve_connection_with_upgrades` of hyper-util"
    );
}

/// Reports an extractor without a layer. The author of the router must see it (ERROR).
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
        "report of a session panicked: a recorder, an `on_close` callback, or the `Display` of an error"
    );
}

#[cfg(all(feature = "axum", feature = "websocket"))]
pub(crate) fn on_failed_upgrade_panicked(panic: &str) {
    unused!(panic);
    event!(ERROR, panic, "`on_failed_upgrade` callback panicked");
}
