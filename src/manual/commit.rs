//! # The commit
//!
//! After a handler accepts and before its session starts, other middleware can still replace the response. The commit
//! is the step in which the outermost [`UpgradeLayer`](crate::UpgradeLayer) checks the final response, and starts or
//! drops the session. [The crate documentation](crate) has a summary and measurements.
//!
//! # The problem
//!
//! A service that upgrades with hyper alone builds a 101 and spawns a task that awaits the connection. hyper does not
//! report to the task whether the 101 was sent, and hands over the connection [even after a
//! rejection](super::stack_below#hyper-hands-over-the-connection-even-after-a-rejection). If a layer around the service
//! replaces the 101 with a 403, the handler runs nevertheless: its bytes reach a client whose request was rejected, and
//! the client can answer.
//!
//! # How it works
//!
//! 1. The outermost `UpgradeLayer` puts an empty slot into the request's extensions, where inner layers find it.
//! 2. The layer that has a handler for the request moves the pending upgrade from the request into the slot. Other code
//!    can no longer take the connection.
//! 3. The handler accepts. The prepared session travels outwards in the response's extensions. It does not run yet, and
//!    does not have the connection.
//! 4. The outermost layer checks the response that it returns. The session's task starts if the response is an upgrade
//!    response (a 101, or a 2xx to a CONNECT) and carries the session that was prepared for this request. Otherwise the
//!    layer drops the session with everything that the handler prepared, releases its permit, and removes the handshake
//!    headers from the response.
//! 5. The task waits for the server to hand over the connection, for at most the
//!    [`handshake_timeout`](crate::UpgradeLayer::handshake_timeout), and then runs the session.
//!
//! The check also applies in the other direction: the outermost layer does not return an upgrade response without its
//! session. It replaces a 101 with a 500, and a 2xx to a CONNECT with a 501, and emits an event.
//!
//! # Nested layers
//!
//! Inner layers choose the handler, the outermost layer commits. No configuration is needed: a layer that finds a slot
//! in the request is not the outermost. Any number of layers and routers may lie in between, as long as they keep the
//! extensions of the request and of the response.
//!
//! Settings of the outermost layer (timeouts, [`Sessions`](crate::Sessions), `on_close`) apply to all sessions accepted
//! inside it. A setting of an inner layer takes precedence.
//!
//! # Limits
//!
//! | | consequence | remedy |
//! |---|---|---|
//! | middleware outside the outermost layer replaces the upgrade response | the session starts, as it would without this crate | an `UpgradeLayer::new()` around that middleware: [Where to put the layer](super::placement) |
//! | middleware outside clones the request with its extensions and sends both copies | both wait for one connection, and one session never starts | retry and mirror inside the outermost layer |
//! | the client disconnects after the server has taken the 101 | the session starts, and reads EOF or an error | none needed |
//! | a handler spawns a task in `accept` that does not wait for the session | the task runs even if the upgrade is rejected | put side effects into the session |
//!
//! Cases that the commit does handle: a request cloned inside the outermost layer yields one session, a clone of a
//! response carries no session, and an upgrade response made for a different request starts no session.
//!
//! # Upgraders of other crates
//!
//! A service inside that does its own upgrade, such as axum's `WebSocketUpgrade`, works as it does without this crate.
//! The commit does not cover it: the service spawns its own task, and the layer leaves hyper's `OnUpgrade` in the
//! request until a handler of this crate is chosen. For a session that the commit covers, have the layer
//! [govern](super::govern) the service, or use a handler of this crate: [Coming from elsewhere](super::migration).
//!
//! Two kinds of request do not reach such a service with a usable upgrade:
//!
//! - CONNECT on HTTP/1: a rejection has to close the connection, so the outermost layer takes the upgrade out of each
//!   such request.
//! - Extended CONNECT for a protocol without a handler: a layer with handlers for other protocols rejects the request,
//!   unless it is configured with [`unsupported`](crate::UpgradeLayer::unsupported) to pass the request on.
//!
//! # The tests
//!
//! | in `tests/gate/` of the repository | shows |
//! |---|---|
//! | `foreign.rs` | axum's own handler runs although its 101 was replaced: the problem that the commit solves |
//! | `matrix.rs` | no session starts if its upgrade response was replaced, whether the connection goes on, closes, or loses its client; sessions start behind middleware that keeps the response |
//! | `nested.rs`, `settings.rs` | which layer decides, which settings apply, a request that is sent twice |
//! | `slot.rs` | an upgrade response of a different request; requests and responses that outlive their exchange |
//! | `connect.rs` | the same for CONNECT and for HTTP/2 |
//!
//! `tests/registry/permits.rs` shows that every path releases the permit. `tests/conformance/safety.rs` covers clones
//! of responses, and a 101 without a session.
