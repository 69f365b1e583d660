//! # The commit
//!
//! A handler accepts, and its session starts later, or never. The step in between, the commit, is what this crate
//! adds to an upgrade in tower. [The crate's page](crate#why-commit-is-a-step-of-its-own) has the short version,
//! and what was measured.
//!
//! # What goes wrong without it
//!
//! A service that upgrades with hyper alone does two things at once: it makes a 101, and it spawns a task that waits
//! for the connection. The task does not see what becomes of the 101, and hyper hands the connection over
//! [whatever was answered](super::stack_below#hyper-hands-the-connection-over-whatever-was-answered). So a layer
//! around it can make the two disagree: the client was told 403, and the handler runs, with whatever it was
//! allowed to do. Its bytes reach the client, and the client can answer.
//!
//! # What the gate does
//!
//! 1. The outermost `UpgradeLayer` puts an empty slot into the extensions of the request. Those further in find it.
//! 2. The layer that has a handler for the request moves the connection from the request into the slot. From here
//!    on nobody else can have it.
//! 3. The handler accepts. Its session is prepared, and travels outwards in the extensions of the response. It does
//!    not run, and it has no connection.
//! 4. The outermost layer looks at the response that leaves. If it is the switch, a 101 or a 2xx to a CONNECT, and
//!    carries the session that was prepared for this request, the session gets its task. If not, it is dropped with
//!    all that the handler had prepared, its permit is given back, and the fields of the handshake are taken off the
//!    response.
//! 5. The task waits until the server hands the connection over, no longer than the
//!    [`handshake_timeout`](crate::UpgradeLayer::handshake_timeout). Then the handler speaks.
//!
//! The same holds the other way round. A 101, or a 2xx to a CONNECT, that has lost its session on its way does not
//! leave: it becomes a 500 or a 501, and an event says so.
//!
//! # Nested layers
//!
//! Inner layers decide, the outermost one commits. That takes no configuration: a layer that finds a slot in the
//! request is not the outermost. How far apart they are makes no difference, nor does a router in between, as
//! long as the extensions of the request and of the response are passed on.
//!
//! What a layer sets, timeouts, [`Sessions`](crate::Sessions) and `on_close`, holds for all that is decided inside it,
//! unless one further in has its own.
//!
//! # What it cannot see
//!
//! | | what happens | what to do |
//! |---|---|---|
//! | a layer outside of the outermost one makes something else of the switch | the session starts, as it would without this crate | an `UpgradeLayer::new()` at the very outside: [Where to put the layer](super::placement) |
//! | a layer outside clones the request with its extensions, and sends both | both wait for one connection, and one of them never starts | put retries and mirrors inside |
//! | the server has taken the 101, and the client is gone | the session starts, and reads an end or an error | nothing |
//! | a handler spawns a task in `accept`, and does not wait for its session | the task runs, whatever is answered | do what has effects in the session |
//!
//! What it does see: a request that is cloned inside comes to one session, a clone of a response carries none, and a
//! switch of another request is none of this one.
//!
//! # Upgraders of other crates
//!
//! A service inside that upgrades by itself, such as axum's `WebSocketUpgrade`, works as it does without this
//! crate, and has no gate: its task is its own, and hyper's `OnUpgrade` is left where it is until a handler of this
//! crate was chosen. [There are two exceptions](crate#why-commit-is-a-step-of-its-own). To have the gate, let the
//! handler be one of this crate: [Coming from elsewhere](super::migration).
//!
//! # The tests
//!
//! | in `tests/gate/` of the repository | |
//! |---|---|
//! | `foreign.rs` | axum's own handler runs where the switch was lost; this pins what the gate is for |
//! | `matrix.rs` | no session starts whose switch was lost, on a connection that goes on, one that closes, and with a client that leaves; layers that let the switch pass do no harm |
//! | `nested.rs`, `settings.rs` | who decides, whose settings hold, a request that is sent twice |
//! | `slot.rs` | a switch of another request, requests and responses that outlive their exchange |
//! | `connect.rs` | the same for CONNECT, and on HTTP/2 |
//!
//! `tests/sessions/permits.rs` has the permit on each path, and `tests/conformance/safety.rs` clones of
//! responses and a 101 that nobody stands behind.
