//! # Events, spans and metrics
//!
//! The end of each session is reported in three ways, with the same [reason](crate::CloseReason), bytes and duration:
//! to the callback of [`on_close`](crate::UpgradeLayer::on_close), to `tracing` (feature `tracing`, on by default), and
//! to `metrics` (feature `metrics`). A rejection carries its [`RejectionReason`](crate::RejectionReason) in the
//! extensions of the response, for the layers outside.
//!
//! # The span of a session
//!
//! A session runs in a span named `session`, with the target `tower_upgrade` and the level `ERROR`, so that no level
//! filter removes it. The span contains the events of the handler. It is a root span, and follows from the span that was
//! current when the handler was chosen, such as that of a `TraceLayer`: a request's span ends with its response.
//!
//! | field | when | |
//! |---|---|---|
//! | `id` | from the start | [`Session::id`](crate::Session::id) |
//! | `kind` | | `upgrade`, `connect` or `extended-connect` |
//! | `protocol` | | as the client wrote it; empty for a CONNECT |
//! | `peer` | | the client's address, if [the server inserted it](crate::SessionsBuilder::peer) and the layer has `Sessions` |
//! | `identity` | | the `Display` form of the [`Identity`](crate::Identity), if the handler or a layer set one |
//! | `reason` | at the end | a [close reason](crate::CloseReason::as_str), such as `finished` |
//! | `bytes_read`, `bytes_written` | | the bytes that the handler read and wrote |
//! | `duration` | | from the upgrade response on |
//!
//! # Events
//!
//! All events have the target `tower_upgrade`. The level depends on the audience: `ERROR` is for the program's
//! developers, `WARN` for its operators, `DEBUG` for troubleshooting.
//!
//! | event | level | fields |
//! |---|---|---|
//! | `session started` | `DEBUG` | |
//! | `session failed` because of its connection or its peer: the handler returned an [`io::Error`](std::io::Error), or an error caused by one, after an operation on the session's IO had failed (`UnexpectedEof`: after the end was read); the handler returned an error of the session's WebSocket that the peer caused; either connection of `tunnel::relay` failed; or the client or the target of a `ConnectUdp` failed | `DEBUG` | `error` |
//! | `session failed` with any other error of its handler, such as the `io::Error` of a file or of a process that could not be spawned | `WARN` | `error` |
//! | `session aborted`: its handler was dropped at the deadline | `WARN` | |
//! | `session panicked` | `ERROR` | `panic` |
//! | `session did not start` | `DEBUG` | `error` |
//! | `session finished`: all other reasons | `DEBUG` | |
//! | `upgrade rejected`, by a handler or a layer of this crate | `DEBUG` | `status`, `reason`, `error` if it has a source |
//! | `upgrade response was replaced by a layer, session does not start` | `DEBUG` | `status` |
//! | `inner service sent an upgrade response without a session` | `DEBUG` | `status` |
//! | `upgrade response lost its session`: a layer dropped the extensions of the response | `ERROR` | `status` |
//! | ``no `UpgradeLayer` is around the route``, for a route with an extractor of the module `extract` | `ERROR` | |
//! | `no session can start`: the server does not serve `with_upgrades` | `ERROR` | `error` |
//! | `handler panicked before accepting or rejecting` | `ERROR` | `panic` |
//! | `handler rejected a request with the status of an upgrade response` | `ERROR` | `status` |
//! | `handler accepted a protocol that was not offered` | `ERROR` | `protocol` |
//! | `unused session handler panicked when dropped` | `ERROR` | `panic` |
//! | `report of a session panicked`: a recorder, an `on_close` callback, or the `Display` of the error | `ERROR` | `panic` |
//! | `` `on_failed_upgrade` callback panicked `` | `ERROR` | `panic` |
//!
//! Texts may change in any release; targets, levels and fields only in a minor release. The filter `tower_upgrade=warn`
//! shows the events that need attention.
//!
//! A client can cause warnings if a handler returns an error for invalid input, such as that of a parser. If such input
//! is expected, return `Ok`.
//!
//! Events contain only two values of a request: the chosen protocol and the client's address. The source of a rejection
//! may contain other addresses, as for a `ConnectProxy`.
//!
//! # Metrics
//!
//! The module `metrics` lists names and labels. Clients cannot choose the value of any label. Its function `describe`
//! passes descriptions to the recorder.
//!
//! Metrics worth watching:
//!
//! | metric | shows |
//! |---|---|
//! | `tower_upgrade_sessions_open`, against [`max`](crate::SessionsBuilder::max) | the remaining capacity |
//! | `tower_upgrade_rejections_total{status="503"}` | requests over the limit, or during a drain |
//! | `tower_upgrade_sessions_closed_total{reason="panicked"}` | a bug in a handler |
//! | `tower_upgrade_sessions_closed_total{reason="not-upgraded"}` | clients that disconnect early, or a server that does not send the upgrade response |
//! | `tower_upgrade_sessions_closed_total{reason="aborted"}` | handlers that ignore [`stop`](crate::Session::stop), or a timeout of a drain that is too short |
//! | `tower_upgrade_accept_duration_seconds`, against [`accept_timeout`](crate::UpgradeLayer::accept_timeout) | a slow backend |
//!
//! # Custom reports
//!
//! ```
//! use tower_upgrade::{CloseReason, Closed, UpgradeLayer};
//!
//! let layer = UpgradeLayer::new().on_close(|closed: &Closed| match closed.reason() {
//!     CloseReason::Failed(error) => eprintln!("session {} failed: {error}", closed.id()),
//!     CloseReason::Panicked(message) => eprintln!("session {} panicked: {message}", closed.id()),
//!     reason => println!("session {}: {reason} after {:?}", closed.id(), closed.duration()),
//! });
//! ```
//!
//! The tests are `tests/spans.rs` and `tests/metrics.rs` in the repository.
