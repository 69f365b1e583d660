//! Tower middleware for HTTP upgrades: requests that ask to switch protocols.
//!
//! Put an [`UpgradeLayer`] into any tower stack and register a [`ProtocolHandler`] for each protocol. The layer finds
//! the upgrade request, negotiates, asks the handler to accept or reject, answers `101 Switching Protocols`, and
//! hands the handler a [`Session`] with an [`Upgraded`] IO. The same handler serves `Upgrade` on HTTP/1.1, extended
//! CONNECT on HTTP/2 and HTTP/3, and, where it is registered for it, CONNECT.
//!
//! # A five-minute start
//!
//! A handler that accepts every request can be a closure:
//!
//! ```no_run
//! use axum::{Router, routing::get, serve::ListenerExt as _};
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
//! // With `TCP_NODELAY`: otherwise each small write may wait 40 ms for an acknowledgement.
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A handler that decides implements [`ProtocolHandler`]. It can read the whole request and its body, connect to a
//! backend, and reject the request with any response, all before the client receives a response. Values that it
//! prepares move into the session:
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
//!             Rejection::new(StatusCode::UNAUTHORIZED, "the header `user` is missing")
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
//! The module `testing` (feature `testing`) tests such a handler without a socket.
//!
//! # The path of a request
//!
//! ```text
//!             request head
//!                  │
//!    ┌─────────────▼─────────────┐ not an upgrade request, or no handler for it
//!    │ negotiate                 ├───────────────────────────────────────────► inner service
//!    └─────────────┬─────────────┘ (no handler: 426 if configured; CONNECT: 501 by default)
//!                  │ a handler matches
//!    ┌─────────────▼─────────────┐ draining, or at the session limit
//!    │ admit (Sessions)          ├───────────────────────────────────────────► client: 503
//!    └─────────────┬─────────────┘
//!    ┌─────────────▼─────────────┐ a rejection: its response
//!    │ handler.accept(request)   ├───────────────────────────────────────────► client
//!    └─────────────┬─────────────┘ accept timeout: 504; a panic: 500
//!                  │ the rest of the request body is read and dropped, bounded
//!    ┌─────────────▼─────────────┐
//!    │ upgrade response: 101, 200├──► response, with the pending session in its extensions
//!    └─────────────┬─────────────┘
//!         inner layers may rewrite or replace the response
//!    ┌─────────────▼─────────────┐ no longer an upgrade response: the session is dropped before
//!    │ commit, outermost layer   │ it starts, and the handshake headers are removed
//!    └─────────────┬─────────────┘
//!    ┌─────────────▼─────────────┐
//!    │ session, in its own task  │ the session handler runs, within its time limits; then flush,
//!    │ and its own span          │ shutdown, and the close reason: tracing, metrics, on_close
//!    └───────────────────────────┘
//! ```
//!
//! ## Why the commit is a separate step
//!
//! hyper hands over the connection when HTTP ends on it, after a response with any status. A service that spawns its
//! session while it builds the 101 runs that session even if an outer layer turns the 101 into a 403: on a live
//! connection, with a client whose request was rejected. A `TimeoutLayer` can do that, and so can a `CompressionLayer`
//! (tower-http 0.7) that answers 406 to `Accept-Encoding: identity;q=0`, a header that the client controls.
//!
//! Here a session starts only if the response that leaves the *outermost* `UpgradeLayer` is still the upgrade response.
//! Inner layers decide, the outermost one commits: nested layers need no configuration. Put one outermost, as
//! `UpgradeLayer::new()` if it registers no handler; the commit does not cover changes that layers further out make to
//! the response.
//!
//! In a test with axum 0.8's `WebSocketUpgrade` and these layers between it and the client, the handler ran in each
//! case, and its bytes reached the client. With this crate no session started.
//!
//! | in between | the client receives |
//! |---|---|
//! | `CompressionLayer` of tower-http 0.7, `Accept-Encoding: identity;q=0` | 406 |
//! | `map_response` that rewrites or replaces the 101 | 403 |
//! | `map_response` that turns the 101 into a 200 | 200 |
//! | `CatchPanicLayer` around a layer that panics | 500 |
//!
//! The upgrader of another crate inside the layer, such as axum's `WebSocketUpgrade`, works as it does without this
//! crate, and the commit does not cover it unless the layer [governs](UpgradeLayer::govern) it. Two kinds of request
//! are exceptions. A rejected CONNECT on HTTP/1 ends its connection, so the outermost layer takes the connection of
//! every such request. And a layer with handlers for protocols rejects an extended CONNECT for any other protocol,
//! unless it is configured to [pass it on](UpgradeLayer::unsupported).
//!
//! [The commit](manual::commit) describes each step and the limits; [Where to put the layer](manual::placement) goes
//! through other layers one by one.
//!
//! # Requirements on the server
//!
//! - Serve the connection *with upgrades*: `with_upgrades()` on hyper's connection, or
//!   `serve_connection_with_upgrades` of hyper-util. `axum::serve` does. Otherwise the client gets its 101, and the
//!   session is reported as one that did not start.
//! - Run on tokio, with the time driver enabled.
//! - Choose the treatment of a client that shuts down its write side before it receives the response. By default hyper
//!   treats the client as disconnected, and drops the request. With `half_close(true)` on hyper's `http1` builder such
//!   a client receives its response, but the decision for a disconnected client then stays pending until
//!   [`UpgradeLayer::accept_timeout`].
//! - For HTTP/2: enable extended CONNECT (`axum::serve` does, if axum has its feature `http2`), set window sizes so
//!   that a session that does not read cannot block the others on its connection, and set `TCP_NODELAY`.
//! - Give hyper a timer. Without one, a client that never completes a request head stays connected forever.
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
//!     .initial_connection_window_size(200 * 64 * 1024); // of 200 streams, hyper's limit
//! ```
//!
//! [The stack below](manual::stack_below) lists surprising behaviour of hyper and h2, and how to handle it.
//!
//! # Limits, timeouts and shutdown
//!
//! [`Sessions`] counts, lists and limits sessions, closes a session, and drains them all. Give it to the outermost
//! layer, or to several layers: [`UpgradeLayer::sessions`]. The documentation of [`UpgradeLayer`] has a table of the
//! time limits and their defaults; [the manual](manual::limits) has all limits and how to choose them. The close reason
//! of each session, its bytes and its duration are reported to [`UpgradeLayer::on_close`], to `tracing` and to
//! `metrics`: [`Closed`], [`CloseReason`]. [Logs and metrics](manual::observing) lists the events with their levels.
//!
//! hyper's graceful shutdown does not wait for HTTP/1.1 sessions, and waits for HTTP/2 sessions without a limit.
//! [Stopping a server](manual::stopping) gives the order of steps, and [Scaling out](manual::scaling) the configuration
//! of several servers behind nginx, HAProxy, Envoy or in Kubernetes.
//!
//! [Threats](manual::threats) lists the parties that the crate trusts, the attacks that it prevents, and the attacks
//! that the application must prevent.
//!
//! # WebSocket
//!
//! The module `websocket` is a handler for WebSocket over HTTP/1.1, HTTP/2 and HTTP/3. The module `extract` has it as an
//! extractor.
//!
//! # The client side
//!
//! The module `client` sends upgrade requests over any tower HTTP client. A call returns a session, or an error that
//! holds the whole response of a server that rejected the request.
//!
//! # Tunnels and proxies
//!
//! The module `tunnel` has a relay that joins a session with another connection, a forward proxy for CONNECT with a
//! policy of allowed targets, and a reverse proxy for upgrades of any protocol and plain requests.
//!
//! # Datagrams
//!
//! The module `datagram` sends and receives HTTP datagrams, in capsules or, over HTTP/3, as QUIC datagrams, and has a
//! proxy for UDP with the policy of the forward proxy.
//!
//! # HTTP/3
//!
//! The module `http3` serves QUIC connections of quinn with any tower service. The handlers are the same as for the other
//! versions.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `axum` | no | the module `extract`: extractors for routes that decide themselves |
//! | `client` | no | the module `client`: the client side |
//! | `datagram` | no | the module `datagram`: HTTP datagrams, a proxy for UDP, its client side; enables `tunnel` |
//! | `full` | no | all of these |
//! | `http3` | no | the module `http3`: a server for HTTP/3 over quinn, and with `client` its client side |
//! | `tracing` | yes | a span for each session, which follows from the span of its request; events for rejections, and for sessions that start, end, fail, panic or do not start; without it the message of a panic is reported to the panic hook and to `on_close` only |
//! | `metrics` | no | counters, gauges and histograms through the `metrics` facade: see the module `metrics` |
//! | `testing` | no | the module `testing`: an upgrade through a stack in a test, over HTTP/1.1 or HTTP/2, without a socket |
//! | `tunnel` | no | the module `tunnel`: a relay, a forward proxy for CONNECT, a reverse proxy; enables `client` |
//! | `websocket` | no | the module `websocket`: a handler for WebSocket, and with `client` its client side |
//!
//! # Stability
//!
//! The crate follows semantic versioning. Its minimum supported Rust version is 1.85; raising it is
//! not considered a breaking change. These dependencies are part of the public API: `http`, `http-body` and
//! `bytes` (requests, responses, bodies), `tower-layer` and `tower-service` (the middleware), and
//! the IO traits of `tokio` and of `hyper` (on [`Upgraded`]). With the feature `client` also the connections and the
//! bodies of `hyper`, the connectors of `hyper-util`, and `Full` of `http-body-util`; with `testing` the bodies of
//! `hyper`; with `websocket` the traits `Stream` and `Sink` of `futures`; with `tunnel` the networks of `ipnet`;
//! with `axum` the extractor traits of `axum-core`; with `http3` the endpoints, connections and the transport configuration
//! of `quinn`.
#![cfg_attr(docsrs, feature(doc_cfg))]

// Ordered from top to bottom: a module imports only from modules below it, as `tests/layout.rs` checks.
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "http3")]
pub mod http3;

#[cfg(feature = "datagram")]
pub mod datagram;

#[cfg(feature = "axum")]
pub mod extract;
#[cfg(feature = "tunnel")]
pub mod tunnel;
#[cfg(feature = "websocket")]
pub mod websocket;

#[cfg(feature = "client")]
pub mod client;

mod layer;

mod govern;

mod decide;

mod commit;

mod handler;

mod session;

mod message;

mod io;

#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
mod metrics;

mod negotiate;

mod error;
mod frames;
mod panic;
#[cfg(any(feature = "client", feature = "http3", feature = "testing"))]
mod service;
mod sync;
mod time;
mod trace;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

// The examples in the manual need all features.
#[cfg(any(not(doctest), feature = "full"))]
#[cfg_attr(docsrs, doc(auto_cfg = false))]
pub mod manual;

pub use crate::{
    decide::erased::BoxHandler,
    error::BoxError,
    handler::{
        Accept, HandlerFn, ProtocolHandler, When,
        accept_fn::{AcceptFn, AsyncAccept, accept_fn},
        handler_fn,
        request::UpgradeRequest,
    },
    io::{box_io::BoxIo, copy::copy, parts::UpgradedParts},
    layer::{
        UpgradeLayer,
        future::ResponseFuture,
        service::{Upgrade, UpgradeRequired},
    },
    message::{
        body::ResponseBody,
        rejection::{Rejection, RejectionReason},
        request_body::RequestBody,
    },
    negotiate::{
        Preference, Unsupported,
        kind::UpgradeKind,
        protocol::{InvalidProtocol, Protocol},
    },
    session::{
        CloseReason, Closed, DrainOptions, DrainReport, Identity, Session, SessionId, SessionInfo,
        Sessions, SessionsBuilder, pending_upgrade::PendingUpgrade, upgraded::Upgraded,
    },
};

/// The examples of the README, compiled.
#[cfg(all(doctest, feature = "axum", feature = "datagram", feature = "websocket"))]
#[doc = include_str!("../README.md")]
struct Readme;
