//! # Around existing code
//!
//! Much existing code performs upgrades itself: axum's `WebSocketUpgrade`, socketioxide, jsonrpsee, async-graphql, or a
//! few lines around `hyper::upgrade::on`. [`UpgradeLayer::govern`](crate::UpgradeLayer::govern) treats the sessions of
//! such a *foreign upgrader* like those of a handler, without a change to its code.
//!
//! # Put it around what you have
//!
//! Put the layer outermost, as in any stack.
//!
//! ## axum
//!
//! ```
//! use axum::{Router, extract::ws::{WebSocket, WebSocketUpgrade}, routing::any};
//! use tower_upgrade::{Sessions, UpgradeLayer};
//!
//! async fn echo(mut socket: WebSocket) {
//!     while let Some(Ok(message)) = socket.recv().await {
//!         let _ = socket.send(message).await;
//!     }
//! }
//!
//! fn app(sessions: &Sessions) -> Router {
//!     let govern = UpgradeLayer::new().sessions(sessions.clone()).govern();
//!     let echo = any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo));
//!     Router::new().route("/ws", echo).layer(govern)
//! }
//! ```
//!
//! The settings of the layer and of `Sessions` apply: `Sessions::builder().max(10_000)`, `idle_timeout`, `lifetime`,
//! `on_close`.
//!
//! ## socketioxide
//!
//! The polling transport of Socket.IO is plain HTTP. The session begins with the upgrade to WebSocket.
//!
#![doc = "```ignore"]
#![doc = include_str!("govern/socketioxide.rs")]
#![doc = "```"]
//!
//! ## jsonrpsee
//!
//! The layer goes into the server's HTTP middleware:
//!
#![doc = "```ignore"]
#![doc = include_str!("govern/jsonrpsee.rs")]
#![doc = "```"]
//!
//! ## async-graphql
//!
#![doc = "```ignore"]
#![doc = include_str!("govern/async_graphql.rs")]
#![doc = "```"]
//!
//! ## A server in another process
//!
//! `tunnel::ReverseProxy` puts limits, time limits, the list and the drain in front of a server in any language. The
//! proxy is a handler, so its layer does not need `govern`. At a stop signal both ends of a WebSocket receive a close
//! frame with code 1001.
//!
//! ```
//! use hyper_util::client::legacy::connect::HttpConnector;
//! use tower::Layer as _;
//! use tower_upgrade::{Sessions, UpgradeLayer, client::{Dial, Pool}, tunnel::ReverseProxy};
//!
//! # fn example(backend: http::Uri, sessions: &Sessions) {
//! let backend = Pool::new(Dial::new(HttpConnector::new()).destination(backend));
//! let proxy = ReverseProxy::new(backend);
//! let app = UpgradeLayer::new().sessions(sessions.clone()).any_protocol(proxy.clone()).layer(proxy);
//! # fn is_service<S: tower::Service<http::Request<hyper::body::Incoming>>>(_: &S) {}
//! # is_service(&app);
//! # }
//! ```
//!
//! ## hyper
//!
//! ```
//! use http::{Request, Response, header};
//! use hyper::body::Incoming;
//! use std::convert::Infallible;
//! use tower::{Layer as _, service_fn};
//! use tower_upgrade::UpgradeLayer;
//!
//! async fn existing(mut request: Request<Incoming>) -> Result<Response<String>, Infallible> {
//!     let upgrade = hyper::upgrade::on(&mut request);
//!     tokio::spawn(async move { upgrade.await.map(drop) });
//!     let response = Response::builder().status(101).header(header::CONNECTION, "upgrade").header(header::UPGRADE, "echo");
//!     Ok(response.body(String::new()).expect("a valid response"))
//! }
//!
//! let app = UpgradeLayer::new().govern().layer(service_fn(existing));
//! ```
//!
//! # Sessions of foreign upgraders
//!
//! | | |
//! |---|---|
//! | gate | The upgrader's `OnUpgrade` resolves only if its upgrade response leaves the outermost layer. Otherwise it resolves to an error. |
//! | limits | The registry admits the request before the inner service receives it: 503 with `Retry-After` over the limit and during a drain. The permit is released if the upgrader does not upgrade. |
//! | time limits | `idle_timeout` and `lifetime` apply. `accept_timeout` does not, because the inner service may answer the request without an upgrade, at any time. To limit the decision, put a `TimeoutLayer` around the inner service. |
//! | identity | An [`Identity`](crate::Identity) in the extensions of the request, or in those of the upgrade response, which takes precedence. |
//! | response | A 101 must name one offered protocol, otherwise the client receives a 500. The layer removes `Content-Length` and `Transfer-Encoding`. |
//! | reports | The list, span, metrics and `on_close` have these sessions. Metrics label their protocol `websocket` or `other`. The upgrader's errors and panics are not reported: a session that the upgrader has ended is `finished`. |
//! | pings | With [`govern_keep_alive`](crate::UpgradeLayer::govern_keep_alive) the session pings a silent client between two frames of the upgrader, which does not read the pong. |
//! | stop signal | See [below](#close-frames). |
//!
//! Bytes pass without a copy and without a task in between. While the inner service decides, a governed request holds
//! about 11 KB: a hyper connection that will resolve the `OnUpgrade`. An idle governed session costs about 0.9 KB more
//! than the session of the upgrader alone.
//!
//! # Close frames
//!
//! At its stop signal, for example in a drain, a governed WebSocket ends with a close frame. At the next frame boundary
//! the upgrader reads a close frame with code 1001, as if the client had sent it, and then the end of stream. WebSocket
//! libraries answer that frame. The session discards later messages of the client. Extensions such as
//! permessage-deflate do not matter: control frames are never compressed.
//!
//! If the upgrader drops its connection at a frame boundary without a close frame, the session sends one in these cases:
//!
//! | case | code |
//! |---|---|
//! | The session has received its stop signal. | 1001 |
//! | The client has sent a close frame. The usual loop over axum's `recv` and `send` ends without an answer to it. | the client's |
//! | The session ends the upgrader, at the idle timeout or at the deadline of the stop signal: operations on its IO fail. | 1001 |
//! | The upgrader ends for any other reason. | no close frame: the end is passed on unchanged |
//!
//! At the stop signal, a session of any other protocol continues while bytes move, and ends at the first second without
//! a byte.
//!
//! # Exceptions
//!
//! | | |
//! |---|---|
//! | requests that offer only `h2c`, `HTTP` or `TLS` | pass unchanged, and so does an upgrader for them: many clients send `Upgrade: h2c` with ordinary requests |
//! | an HTTP/1.1 request with a body, if the layer cannot read the rest of it | is served without its upgrade, as RFC 9110 §7.8 allows. The layer can read the rest of `axum::body::Body`, and of `BoxBody` and `UnsyncBoxBody` of http-body-util with the error [`BoxError`](crate::BoxError): put the layer inside a `MapRequestBodyLayer` to one of these types |
//! | requests that a handler of this crate inside accepts | are sessions of that handler |
//! | `downcast` of hyper's `Upgraded` to a socket | fails, because the IO belongs to the session. The server's request extensions reach the upgrader: axum's `ConnectInfo` has the client's address, or, with a type that implements axum's `Connected`, also a duplicate of the socket, to set its options |
