//! # Limits and timeouts
//!
//! Every limit of this crate, its default, and the consequence of exceeding it. `none` in the column "default" means
//! that the limit is off until you set it. `None` disables a time limit whose setter takes an `Option`.
//!
//! # Defaults
//!
//! ## The server's layer
//!
//! [`UpgradeLayer`](crate::UpgradeLayer). The settings of a layer apply to all layers inside it that do not set the
//! same limit.
//!
//! | limit | default | when exceeded | reason |
//! |---|---|---|---|
//! | [`accept_timeout`](crate::UpgradeLayer::accept_timeout), from the request to the handler's decision | 30 s | 504; the decision is dropped | hyper [may not notice](super::stack_below#a-client-that-half-closes-counts-as-disconnected) that a client has left |
//! | [`body_limit`](crate::UpgradeLayer::body_limit), the part of the request body that the layer reads and drops | 64 KiB | 413, and the connection closes | RFC 9110 §7.8: the server switches protocols after it has received the whole request |
//! | [`body_timeout`](crate::UpgradeLayer::body_timeout), for reading that part | 10 s | 408, and the connection closes | the same |
//! | [`handshake_timeout`](crate::UpgradeLayer::handshake_timeout), from the outermost layer's response to the connection | 10 s | the session never starts | a layer or server outside may hold the response back, or never send it |
//! | [`idle_timeout`](crate::UpgradeLayer::idle_timeout), without a byte in either direction | none | the handler is dropped, and the connection shut down; a WebSocket of `websocket()`, `govern` or `relay` is closed with 1001 | |
//! | [`lifetime`](crate::UpgradeLayer::lifetime), from the upgrade response on | none | the session's stop signal fires, and after `shutdown_timeout` its handler is dropped | |
//! | [`Accept::lifetime`](crate::Accept::lifetime), the same for one session; the earlier of both applies | none | the same | |
//! | [`govern_keep_alive`](crate::UpgradeLayer::govern_keep_alive): an interval of silence of a governed WebSocket's client, then a ping, and an interval without an answer | none | the session ends as idle, within three intervals | |
//! | [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout), to flush and shut down; for a peer of a WebSocket to answer a close frame | 10 s | the connection is dropped | |
//! | reading from the peer after the write side was shut down | 1 s, 1 MiB | the connection is dropped | RFC 9112 §9.6: without this, a reset may destroy data that the peer has not read |
//! | sending a rejection of more than 16 KiB before the connection closes, if the request was not read | 10 s | the connection is closed | hyper [would truncate it](super::stack_below#a-long-response-to-an-unread-request-is-truncated) |
//!
//! The last two cannot be changed. The time between the decision and the outermost layer has no limit: a layer there
//! that delays the response keeps the prepared values until a timeout layer inside the outermost `UpgradeLayer` expires
//! or the client leaves. `accept_timeout` does not apply to a route that decides with an extractor of the module
//! `extract`: put tower-http's `TimeoutLayer` inside.
//!
//! ## Sessions
//!
//! [`Sessions`](crate::Sessions).
//!
//! | limit | default | when exceeded |
//! |---|---|---|
//! | [`max`](crate::SessionsBuilder::max), sessions, including undecided upgrade requests | none | 503, `Retry-After: 5`, before the handler is called |
//! | [`max_per_key`](crate::SessionsBuilder::max_per_key), the same for each key, such as an address or a user | none | the same |
//! | [`drain(timeout)`](crate::Sessions::drain) | required | handlers are dropped, and undecided requests are rejected with 503 |
//! | closing the remaining connections after the timeout | 2 s | the report counts them as left |
//!
//! Without `Sessions` the number of sessions is unlimited, and sessions receive no stop signal.
//!
//! ## WebSocket
//!
//! Feature `websocket`: `websocket::WebSocketUpgrade`, `extract::WebSocketUpgrade`, `websocket::WebSocketRequest`.
//!
//! | limit | default | when exceeded | reason |
//! |---|---|---|---|
//! | `max_message_size` | 1 MiB | closed with 1009; a single frame is rejected before its payload is read | RFC 6455 §10.4 |
//! | the same limit for a compressed message; its frames may be longer by an eighth | | closed with 1009; decompression stops at the limit | |
//! | `Deflate::context_takeover`: windows of all sessions, of up to 32 KiB each | 0 | new sessions compress each message alone | |
//! | idle compressors of a thread | one for each window size, of up to 371 KiB | | |
//! | idle decompressors of a thread | 10, of 47 KiB | they are freed | |
//! | payload of a control frame | 125 bytes | closed with 1002 | RFC 6455 §5.5 |
//! | unsent pongs for a peer that does not read | 16 KiB | reading from the peer stops | |
//! | buffers that a thread keeps for the next message | 1 MiB for reading, 1 MiB for writing | they are freed | |
//! | `keep_alive`: an interval of silence, then a ping, and an interval without an answer; or an interval in which a blocked write makes no progress | none | the session ends as idle, within three intervals | |
//! | `rate_limit`, a `RateLimit`: messages and bytes per second, with a burst | none | the reader waits, or, as configured, the session is closed with 1008 | |
//! | answer to a close frame | `shutdown_timeout` on the server, 10 s on the client | the connection is dropped | RFC 6455 §7.1.1 |
//!
//! ## The client
//!
//! Feature `client`.
//!
//! | limit | default | when exceeded |
//! |---|---|---|
//! | `client::UpgradeLayer::handshake_timeout`, from the call to the session, including the connection | 30 s | an error of kind `Timeout` |
//! | unread data of a session on a `client::Http2` | 2 MiB | the server waits; other sessions continue |
//!
//! Time limits do not apply to a client's session. Wrap the code that uses the session in `tokio::time::timeout`.
//!
//! ## Tunnels
//!
//! Feature `tunnel`. The limits of the layer apply to the sessions of both proxies. `accept_timeout` includes dialing,
//! which happens in `accept`.
//!
//! | limit | default | when exceeded | reason |
//! |---|---|---|---|
//! | `ConnectProxy::connect_timeout`, to resolve and to connect | 10 s | 504 | |
//! | between two attempts to connect | 250 ms | the next address is tried concurrently | RFC 8305 §5 |
//! | addresses tried for one name | 16 | further addresses are ignored | |
//! | `Policy::ports` | 443 | 403 | |
//! | `Policy::hosts` | any | 403 | |
//! | addresses | globally reachable addresses | 403 | RFC 6890 |
//! | body of an upgrade request that a `ReverseProxy` passes on | 64 KiB | 413 | the proxy sends the body after it has received all of it; bodies of plain requests stream without a limit |
//! | `ReverseProxy::response_timeout`, from the last frame of the request body to the head of the response | 60 s | 504 | `UpgradeLayer::accept_timeout` applies to upgrades as well |
//! | `Relay::idle_timeout` | none | the relay ends | |
//! | silence that ends a relay after its stop signal | 1 s, after all data was delivered | the relay shuts both connections down | |
//! | shutdown of a connection that belongs to no session | 10 s | the connection is dropped | |
//! | pipes of a process for `splice` | 32 | bytes are copied | Linux limits the pipes of a user |
//!
//! ## Datagrams
//!
//! Feature `datagram`. The limits of the layer apply to the sessions of a `ConnectUdp`, and those of its `Policy` as above.
//!
//! | limit | default | when exceeded | reason |
//! |---|---|---|---|
//! | datagram in a capsule that is received | 65,543 bytes | the stream is aborted | a UDP payload, its Context ID, and 8 bytes for other protocols |
//! | UDP payload | 65,527 bytes | the stream is aborted | RFC 9298 §5 |
//! | capsules of other types | any length | skipped without a buffer | RFC 9297 §3.2 |
//! | datagrams that wait for a peer which does not read | 64 KiB, with 64 bytes more for each | the oldest are dropped | a late datagram is worth less than a recent one |
//! | QUIC datagram that is sent | the limit of the peer and of the path | dropped and counted | RFC 9298 §6.1 |
//! | QUIC datagrams that wait, in either direction | the limits of the `Transport` | | |
//! | `ConnectUdp::connect_timeout`, to resolve | 10 s | 504 | |
//! | `ConnectUdp::idle_timeout`, without a datagram in either direction | 2 min | the session ends | RFC 4787 §4.3 |
//!
//! ## HTTP/3
//!
//! Feature `http3`. The windows and numbers of streams are those of `http3::transport_config`.
//!
//! | limit | default | when exceeded | reason |
//! |---|---|---|---|
//! | `http3::Builder::max_head_size` | 16 KiB | 431; for trailers a reset | as hyper over HTTP/2 |
//! | `http3::Builder::head_timeout` | 30 s | the stream is reset | as hyper over HTTP/1.1 |
//! | `http3::Builder::idle_timeout`, without a request or a session | 60 s | GOAWAY, and the connection closes | |
//! | frame on the control stream | 4 KiB | the connection closes | other implementations send less than 100 bytes |
//! | requests and sessions on a connection | 100 | further ones wait at the client | |
//! | receive window of a stream, of a connection | 256 KiB, 32 MiB | the client waits | a session that does not read cannot stop the others |
//! | QUIC datagrams that wait for a session | 64 KiB | the oldest are dropped | as with capsules |
//! | handshakes at a `http3::Listener` | 256, 1,024 | new clients must prove their address; are refused | packets with forged addresses |
//! | time for a handshake | 10 s | given up | |
//!
//! ## hyper and h2
//!
//! hyper and h2 enforce these limits, which a server needs as well. [The stack below](super::stack_below) describes the
//! windows and the streams of HTTP/2.
//!
//! | limit, in hyper 1.12 | default | when exceeded |
//! |---|---|---|
//! | head of a request on HTTP/1 | 408 KiB, 100 fields | 431 |
//! | time for a head on HTTP/1 | 30 s, *if the server has a timer* | the connection is closed |
//! | fields of a request on HTTP/2 | 16 KiB | 431 |
//! | concurrent streams of a connection | 200 | `REFUSED_STREAM` |
//! | streams that the client resets before they are accepted | 20 | the connection is closed |
//! | streams that h2 resets for the client's errors | 1024 | the connection is closed |
//!
//! Give the server a timer: without one, a client that never completes its request head keeps its connection open
//! forever. Neither hyper-util's builder nor `axum::serve` has a timer by default, and `axum::serve` does not accept
//! one. Serve with hyper-util where clients connect directly:
//!
//! ```
//! use hyper_util::{
//!     rt::{TokioExecutor, TokioIo, TokioTimer},
//!     server::conn::auto,
//!     service::TowerToHyperService,
//! };
//! use std::time::Duration;
//! use tokio::{io::AsyncWriteExt as _, time::timeout};
//! use tower_upgrade::{UpgradeLayer, handler_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> std::io::Result<()> {
//! let echo = handler_fn(|_session| async { Ok(()) });
//! let app = UpgradeLayer::new().protocol("echo", echo).into_service();
//! let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
//! for has_timer in [false, true] {
//!     if has_timer {
//!         server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
//!     }
//!     let (mut client, io) = tokio::io::duplex(1024);
//!     let service = TowerToHyperService::new(app.clone());
//!     let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service);
//!     client.write_all(b"GET / HTTP/1.1\r\nHost: exam").await?; // and no more
//!     let ended = timeout(Duration::from_secs(3600), connection).await;
//!     assert_eq!(ended.is_ok(), has_timer);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How to choose
//!
//! | situation | setting |
//! |---|---|
//! | the server has a limited number of file descriptors, and limited memory for handlers | [`max`](crate::SessionsBuilder::max), below those limits; a proxy needs two descriptors for each session |
//! | one client must not use all sessions | [`max_per_key`](crate::SessionsBuilder::max_per_key), by address or by user. Behind a load balancer all clients have its address: use the forwarded address, if the load balancer is trusted |
//! | a decision takes a known maximum time: a look-up, a dial, a backend | `accept_timeout` a little longer, and shorter timeouts for the calls inside, so that the client receives their errors |
//! | handlers read bodies, such as those of Docker's client | the argument of `read_body`, and `body_timeout`; `body_limit` for the part that handlers do not read. Only `accept_timeout` bounds reading with `body_mut` |
//! | peers disappear without closing | `idle_timeout`; for WebSocket `keep_alive` or `govern_keep_alive`, which distinguish a silent peer from a lost peer |
//! | a load balancer in front closes idle connections | pings at less than half of its timeout: [Scaling out](super::scaling) |
//! | credentials, routes or certificates expire | `lifetime`, and clients that reconnect |
//! | the application's messages have a known maximum size | `max_message_size`. A client can make the server hold that many bytes for each session |
//! | the server has a limited time to stop | the timeout of `drain`, and some seconds more before the process is killed: [Stopping a server](super::stopping) |
//!
//! `idle_timeout` counts bytes. A peer that sends a byte in time or answers pings is not idle: only `lifetime` and your
//! handler limit such a session.
//!
//! # Tests
//!
//! | | in the repository |
//! |---|---|
//! | decisions | `tests/conformance/safety.rs`, `s2_` |
//! | bodies | `tests/conformance/request_body.rs`, `u7_` |
//! | sessions and their time | `tests/registry/limits.rs`, `times.rs`, `drain.rs`, `edge_cases.rs`; `tests/session/life.rs` |
//! | the ends of connections | `tests/conformance/closing.rs`, `tests/session/end.rs` |
//! | WebSocket | `tests/websocket/strictness.rs`, `keep_alive.rs`, `closing.rs` |
//! | the client | `tests/client/failures.rs`, `tests/client/http2.rs` |
//! | datagrams | `tests/datagram/` |
//! | tunnels | `tests/tunnel/connect.rs`, `tests/relay/ends.rs`, `tests/reverse_proxy/backend_errors.rs`, `tests/reverse_proxy/plain/failures.rs`, `tests/pipes.rs` |
