//! Tower middleware for HTTP upgrades: for every connection that has to leave HTTP.
//!
//! Put an [`UpgradeLayer`] into any tower stack and register a [`ProtocolHandler`] for each protocol.
//! The layer finds the upgrade request, negotiates, lets the handler decide, answers `101 Switching
//! Protocols`, and hands the handler a [`Session`] with an [`Upgraded`] IO.
//!
//! # A five-minute start
//!
//! A handler that only speaks is a closure:
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use tower_upgrade::{Session, UpgradeLayer, copy, handler_fn};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let echo = handler_fn(|session: Session| async move {
//!     let (mut reader, mut writer) = tokio::io::split(session.into_io());
//!     copy(&mut reader, &mut writer).await?;
//!     Ok(())
//! });
//! let app = Router::new()
//!     .route("/", get(|| async { "try `Upgrade: echo`" }))
//!     .layer(UpgradeLayer::new().protocol("echo", echo));
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! One that decides implements [`ProtocolHandler`]. It can look at the whole request, read its
//! body, dial a backend, and refuse with any response, all before anything has been answered. What
//! it prepared moves into the session:
//!
//! ```
//! use http::StatusCode;
//! use tokio::io::AsyncWriteExt as _;
//! use tower_upgrade::{Accept, ProtocolHandler, Rejection, Session, UpgradeRequest};
//!
//! struct Greeter;
//!
//! impl ProtocolHandler for Greeter {
//!     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
//!         let user = request.headers().get("user").cloned().ok_or_else(|| {
//!             Rejection::new(StatusCode::UNAUTHORIZED, "say who you are")
//!         })?;
//!         Ok(Accept::new(move |session: Session| async move {
//!             let mut io = session.into_io();
//!             io.write_all(b"hello ").await?;
//!             io.write_all(user.as_bytes()).await?;
//!             Ok(())
//!         }))
//!     }
//! }
//! ```
//!
//! Its test needs no socket: see the module `testing` (feature `testing`).
//!
//! # The way of a request
//!
//! ```text
//!             request head
//!                  │
//!    ┌─────────────▼─────────────┐ no upgrade request, or nothing supported
//!    │ negotiate                 ├───────────────────────────────────────────► inner service
//!    └─────────────┬─────────────┘ (as configured, the latter is 426)
//!                  │ a handler is chosen
//!    ┌─────────────▼─────────────┐ a rejection: its response
//!    │ handler.accept(request)   ├───────────────────────────────────────────► client
//!    └─────────────┬─────────────┘ too late: 504; a panic: 500
//!                  │ rest of the request's body read and dropped, bounded
//!    ┌─────────────▼─────────────┐
//!    │ switch: 101               ├──► response, with the session waiting in its extensions
//!    └─────────────┬─────────────┘
//!         inner layers may still rewrite or replace the response
//!    ┌─────────────▼─────────────┐ the response is no switch any more: the session is dropped, it
//!    │ commit, outermost layer   │ never starts, and the head of the switch is taken off
//!    └─────────────┬─────────────┘
//!    ┌─────────────▼─────────────┐
//!    │ session, in its own task  │ the handler speaks; then flush, shutdown, and an orderly end
//!    └───────────────────────────┘
//! ```
//!
//! ## Why commit is a step of its own
//!
//! hyper hands a connection over when it ends, whatever was sent on it. A service that spawns its
//! session when it makes its 101 runs that session even if a layer around turned the 101 into a
//! 403: on a live connection, with a client that was refused. A `TimeoutLayer` can do that, or a
//! `CompressionLayer` that answers 406 to `Accept-Encoding: identity;q=0`, which the client sends.
//!
//! Here a session starts only when the response that leaves the *outermost* `UpgradeLayer` is still
//! the switch. Inner layers decide, the outermost one commits: nested layers need no configuration.
//! That is why one belongs at the very outside, as `UpgradeLayer::new()` if it has nothing to
//! decide; what a layer further out does to the response, no session can know.
//!
//! An upgrader of another crate inside, such as axum's `WebSocketUpgrade`, works as it did without
//! this one, and has no gate.
//!
//! # What the server has to do
//!
//! - Serve the connection *with upgrades*: `with_upgrades()` on hyper's connection, or
//!   `serve_connection_with_upgrades` of hyper-util. `axum::serve` does. Without it the client gets
//!   its 101, and the session is reported as one that never started.
//! - Run on tokio, with the time driver enabled.
//! - Set `half_close(true)` on hyper's `http1` builder if clients may shut their side down before
//!   they are answered. By default hyper takes that for a disconnect, and drops the request.
//!
//! hyper does not wait for sessions at its graceful shutdown: its connection has ended when the
//! session begins.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `tracing` | yes | events for refusals, and for sessions that end, fail, panic or never start |
//! | `testing` | no | the module `testing`: a stack's upgrade in a test, with no socket |
//!
//! # Stability
//!
//! The crate follows semantic versioning. Its minimum supported Rust version is 1.85; raising it is
//! no breaking change. These dependencies are part of the public API: `http`, `http-body` and
//! `bytes` (requests, responses, bodies), `tower-layer` and `tower-service` (the middleware), and
//! the IO traits of `tokio` and of `hyper` (on [`Upgraded`]).
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod commit;
mod copy;
mod decision;
mod future;
mod handler;
mod layer;
mod linger;
mod negotiate;
mod pending_upgrade;
mod protocol;
mod rejection;
mod request;
mod service;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod trace;
mod upgraded;

pub use crate::{
    body::{RequestBody, ResponseBody},
    copy::copy,
    future::ResponseFuture,
    handler::{Accept, HandlerFn, ProtocolHandler, When, handler_fn},
    layer::UpgradeLayer,
    negotiate::Preference,
    pending_upgrade::PendingUpgrade,
    protocol::{InvalidProtocol, Protocol},
    rejection::{Rejection, RejectionReason},
    request::{UpgradeKind, UpgradeRequest},
    service::{Upgrade, UpgradeRequired},
    session::Session,
    upgraded::{BoxIo, Parts, Upgraded},
};

/// Any error: what handlers end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
