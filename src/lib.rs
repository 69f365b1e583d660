//! Tower middleware for HTTP upgrades: for connections that switch away from HTTP.
//!
//! Put an [`UpgradeLayer`] into any tower stack and register a [`ProtocolHandler`] for each protocol.
//! The layer finds the upgrade request, negotiates, lets the handler decide, answers `101 Switching
//! Protocols`, and hands the handler a [`Session`] with an [`Upgraded`] IO. The same handler serves
//! `Upgrade` on HTTP/1.1, extended CONNECT on HTTP/2, and, where it is registered for it, CONNECT.
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
//!    └─────────────┬─────────────┘ (for the latter 426 if configured; CONNECT: 501 by default)
//!                  │ a handler is chosen
//!    ┌─────────────▼─────────────┐ draining, or as many sessions as there may be
//!    │ admit (Sessions)          ├───────────────────────────────────────────► client: 503
//!    └─────────────┬─────────────┘
//!    ┌─────────────▼─────────────┐ a rejection: its response
//!    │ handler.accept(request)   ├───────────────────────────────────────────► client
//!    └─────────────┬─────────────┘ too late: 504; a panic: 500
//!                  │ rest of the request's body read and dropped, bounded
//!    ┌─────────────▼─────────────┐
//!    │ switch: 101, or 200       ├──► response, with the session waiting in its extensions
//!    └─────────────┬─────────────┘
//!         inner layers may still rewrite or replace the response
//!    ┌─────────────▼─────────────┐ the response is no longer the switch: the session is dropped
//!    │ commit, outermost layer   │ before it starts, and the handshake headers are removed
//!    └─────────────┬─────────────┘
//!    ┌─────────────▼─────────────┐
//!    │ session, in its own task  │ the handler speaks, in time; then flush, shutdown, an orderly end,
//!    │ and its own span          │ and the reason: tracing, metrics, on_close
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
//! decide; a session cannot see what layers further out do to the response.
//!
//! Measured with axum 0.8's own `WebSocketUpgrade`, with the same layers between the upgrader and the
//! client, its handler ran, and its bytes reached the client, in each of these cases; here no session
//! started:
//!
//! | in between | the client sees |
//! |---|---|
//! | `CompressionLayer`, `Accept-Encoding: identity;q=0` | 406 |
//! | `map_response` that rewrites or replaces the 101 | 403 |
//! | `map_response` that makes it a 200 | 200 |
//! | `CatchPanicLayer` around a layer that panics | 500 |
//!
//! An upgrader of another crate inside, such as axum's `WebSocketUpgrade`, works as it did without
//! this one, and has no gate. There are two exceptions. A CONNECT on HTTP/1 ends its connection when it
//! is refused, so the outermost layer takes the connection from every such request. And a layer that
//! serves protocols refuses an extended CONNECT for another one, unless it is told to
//! [let it pass](UpgradeLayer::unsupported).
//!
//! [The commit](manual::commit) says step by step what the gate does, and what it cannot see; [Where to put the
//! layer](manual::placement) goes through other layers one by one.
//!
//! # What the server has to do
//!
//! - Serve the connection *with upgrades*: `with_upgrades()` on hyper's connection, or
//!   `serve_connection_with_upgrades` of hyper-util. `axum::serve` does. Without it the client gets
//!   its 101, and the session is reported as one that never started.
//! - Run on tokio, with the time driver enabled.
//! - Choose what a client that shuts its side down before it is answered means. By default hyper
//!   takes it for a disconnect, and drops the request; with `half_close(true)` on its `http1` builder
//!   such a client is answered, but then one that has left keeps a decision pending until
//!   [`UpgradeLayer::accept_timeout`].
//! - For HTTP/2: enable extended CONNECT (`axum::serve` does, if axum has its feature `http2`), choose
//!   windows that keep a session which does not read from stopping the others on its connection, and
//!   set `TCP_NODELAY`.
//! - Give hyper a timer, or a client that never finishes the head of a request stays for ever.
//!
//! ```no_run
//! use hyper_util::{rt::{TokioExecutor, TokioTimer}, server::conn::auto};
//!
//! let mut server = auto::Builder::new(TokioExecutor::new());
//! server.http1().half_close(true).timer(TokioTimer::new());
//! server
//!     .http2()
//!     .enable_connect_protocol()
//!     .initial_stream_window_size(64 * 1024)
//!     .initial_connection_window_size(200 * 64 * 1024); // of 200 streams, as many as there may be
//! ```
//!
//! What hyper and h2 do beneath that surprises, and what to do about it, is in [the
//! manual](manual::stack_below).
//!
//! # Limits, time, and the end of it
//!
//! [`Sessions`] counts sessions, lists them, limits them, closes one, and ends them all. Give it to the
//! outermost layer, or to several: [`UpgradeLayer::sessions`]. The limits in time, with their defaults,
//! are in a table of [`UpgradeLayer`]; [the manual](manual::limits) has all limits that there are, and how to
//! choose them. How each session ended, with its bytes and how long it took, is told to
//! [`UpgradeLayer::on_close`], to `tracing` and to `metrics` alike: [`Closed`], [`CloseReason`]. [What is logged and
//! counted](manual::observing) lists events with their levels.
//!
//! hyper does not wait for sessions of HTTP/1.1 at its graceful shutdown, and waits for those of HTTP/2
//! without a limit. [Stopping a server](manual::stopping) says in which order to stop things, and [Scaling
//! out](manual::scaling) how to have several of them behind nginx, HAProxy, Envoy or in Kubernetes.
//!
//! Whom all this trusts, what it defends against, and what is left to you, is in [Threats](manual::threats).
//!
//! # WebSocket
//!
//! The module `websocket` is a handler for it, over HTTP/1.1 and HTTP/2, whose frames are a library's. The
//! module `extract` has it as an extractor.
//!
//! # The client side
//!
//! The module `client` asks for upgrades, over any tower client of HTTP: one layer around it, and a call
//! comes to a session, or to an error with the whole response of a server that refused.
//!
//! # Tunnels and proxies
//!
//! The module `tunnel` carries bytes between two connections: a relay that joins a session with anything else,
//! a forward proxy for CONNECT with a policy of where clients may go, and a reverse proxy for upgrades of any
//! protocol.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `axum` | no | the module `extract`: extractors for routes that decide for themselves |
//! | `client` | no | the module `client`: the other end |
//! | `full` | no | all of these |
//! | `tracing` | yes | a span for each session, which follows from its request's; events for refusals, and for sessions that start, end, fail, panic or never start; without it the message of a panic goes to the panic hook and to `on_close` only |
//! | `metrics` | no | counters, gauges and histograms through the `metrics` facade: see the module `metrics` |
//! | `testing` | no | the module `testing`: a stack's upgrade in a test, over HTTP/1.1 or HTTP/2, with no socket |
//! | `tunnel` | no | the module `tunnel`: a relay, a forward proxy for CONNECT, a reverse proxy for upgrades |
//! | `websocket` | no | the module `websocket`: a handler for WebSocket, and with `client` the other end of it |
//!
//! # Stability
//!
//! The crate follows semantic versioning. Its minimum supported Rust version is 1.85; raising it is
//! not considered a breaking change. These dependencies are part of the public API: `http`, `http-body` and
//! `bytes` (requests, responses, bodies), `tower-layer` and `tower-service` (the middleware), and
//! the IO traits of `tokio` and of `hyper` (on [`Upgraded`]). With the feature `client` also the connections and the
//! bodies of `hyper`, the connectors of `hyper-util`, and `Full` of `http-body-util`; with `testing` the bodies of
//! `hyper`; with `websocket` the traits `Stream` and `Sink` of `futures`; with `tunnel` the networks of `ipnet`, and
//! the names that `hyper-util` resolves; with `axum` those of `axum-core`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod box_io;
mod buffer;
#[cfg(feature = "client")]
pub mod client;
mod commit;
mod config;
mod copy;
mod decision;
mod detach;
#[cfg(any(feature = "client", feature = "tracing"))]
mod error;
#[cfg(feature = "axum")]
pub mod extract;
mod future;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod layer;
mod linger;
// Its examples take all features.
#[cfg(any(not(doctest), feature = "full"))]
#[cfg_attr(docsrs, doc(auto_cfg = false))]
pub mod manual;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
mod metrics;
mod negotiate;
mod pending_upgrade;
mod pool;
mod protocol;
mod rejection;
mod request;
mod request_body;
mod service;
mod session;
mod slot;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod trace;
#[cfg(feature = "tunnel")]
pub mod tunnel;
mod upgraded;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use crate::{
    body::ResponseBody,
    box_io::BoxIo,
    copy::copy,
    future::ResponseFuture,
    handler::{Accept, HandlerFn, ProtocolHandler, When, handler_fn},
    layer::UpgradeLayer,
    negotiate::{Preference, Unsupported},
    pending_upgrade::PendingUpgrade,
    protocol::{InvalidProtocol, Protocol},
    rejection::{Rejection, RejectionReason},
    request::{UpgradeKind, UpgradeRequest},
    request_body::RequestBody,
    service::{Upgrade, UpgradeRequired},
    session::{
        CloseReason, Closed, DrainOptions, DrainReport, Identity, Session, SessionId, SessionInfo,
        Sessions, SessionsBuilder,
    },
    upgraded::{Parts, Upgraded},
};

/// Any error: what handlers end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The examples of the README, compiled.
#[cfg(all(doctest, feature = "axum", feature = "tunnel", feature = "websocket"))]
#[doc = include_str!("../README.md")]
struct Readme;
