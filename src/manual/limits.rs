//! # Limits and timeouts
//!
//! Every limit that this crate has, with its default, and what happens past it. Where a row says `none` there is no
//! limit until one is set. Times that take an `Option` are taken off with `None`.
//!
//! # Defaults
//!
//! ## The server's layer
//!
//! [`UpgradeLayer`](crate::UpgradeLayer). What a layer sets holds for all inside it, unless one further in has its
//! own.
//!
//! | limit | default | past it | because of |
//! |---|---|---|---|
//! | [`accept_timeout`](crate::UpgradeLayer::accept_timeout), from the request to the handler's decision | 30 s | 504; the decision is dropped | hyper [may not notice](super::stack_below#a-client-that-half-closes-counts-as-gone) that a client has left |
//! | [`body_limit`](crate::UpgradeLayer::body_limit), what is read and dropped of a request's body | 64 KiB | 413, and the connection closes | RFC 9110 §7.8: a switch comes after the whole request |
//! | [`body_timeout`](crate::UpgradeLayer::body_timeout), for that | 10 s | 408, and the connection closes | the same |
//! | [`handshake_timeout`](crate::UpgradeLayer::handshake_timeout), from the outermost layer, which lets the switch out, to the connection | 10 s | the session never starts | a response that is held back further out, or is never sent |
//! | [`idle_timeout`](crate::UpgradeLayer::idle_timeout), without a byte either way | none | the handler is dropped, and the connection shut down | |
//! | [`lifetime`](crate::UpgradeLayer::lifetime), from the switch on | none | the session is told to stop, and after `shutdown_timeout` its handler is dropped | |
//! | [`Accept::lifetime`](crate::Accept::lifetime), the same for one session; the earlier holds | none | the same | |
//! | [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout), to flush and shut down; for a peer of a WebSocket to answer a close frame | 10 s | the connection is dropped | |
//! | what is read of a peer behind our end | 1 s, 1 MiB | the connection is dropped | RFC 9112 §9.6: no reset overtakes what was written |
//! | a refusal of more than 16 KiB on a connection that is to end, whose request was not read | 10 s | the connection is ended | hyper [would cut it](super::stack_below#a-long-response-to-an-unread-request-is-cut) |
//!
//! The last two cannot be changed. Between the decision and the outermost layer there is no limit: a layer there that
//! holds the response back keeps what was prepared, until a timeout around that layer, inside of the outermost one,
//! gives up or the client leaves. `accept_timeout` does not hold for a route that decides with an extractor of the
//! module `extract`: put tower-http's `TimeoutLayer` inside.
//!
//! ## Sessions
//!
//! [`Sessions`](crate::Sessions).
//!
//! | limit | default | past it |
//! |---|---|---|
//! | [`max`](crate::SessionsBuilder::max), sessions, those included that are being decided | none | 503, `Retry-After: 5`, before the handler is asked |
//! | [`max_per_key`](crate::SessionsBuilder::max_per_key), the same for one address, user, or whatever the key is | none | the same |
//! | [`drain(timeout)`](crate::Sessions::drain) | it has no default | handlers are dropped, and what is undecided is refused with 503 |
//! | connections that are left when its timeout is over | 2 s | counted as left in the report |
//!
//! Without `Sessions` there is no limit, and nobody tells sessions to stop.
//!
//! ## WebSocket
//!
//! Feature `websocket`: `websocket::WebSocketUpgrade`, `extract::WebSocketUpgrade`, `websocket::WebSocketRequest`.
//!
//! | limit | default | past it | because of |
//! |---|---|---|---|
//! | `max_message_size` | 1 MiB | closed with 1009; before it is read, if it is in one frame | RFC 6455 §10.4 |
//! | payload of a control frame | 125 bytes | closed with 1002 | RFC 6455 §5.5 |
//! | answers to pings that a peer does not take | 16 KiB | nothing more is read of it | |
//! | what a thread keeps of buffers for the next message | 1 MiB to read into, and 1 MiB to write from | they are freed | |
//! | `keep_alive`: an interval of silence, then a ping, and an interval without an answer; or a blocked write of which the peer takes nothing for an interval | none | the session ends as idle, within three intervals | |
//! | `rate_limit`, a `RateLimit`: messages and bytes per second, with a burst | none | the reader waits, or, as configured, the session is closed with 1008 | |
//! | answer to a close frame | `shutdown_timeout` on the server, 10 s on the client | the connection is dropped | RFC 6455 §7.1.1 |
//!
//! ## The client
//!
//! Feature `client`.
//!
//! | limit | default | past it |
//! |---|---|---|
//! | `client::UpgradeLayer::handshake_timeout`, from the call to the session, with the connection that is made for it | 30 s | an error of kind `Timeout` |
//! | a session that is not read, on a `client::Http2` | 2 MiB | its server waits; the other sessions go on |
//!
//! A client's session has no limits in time of its own. A `tokio::time::timeout` around what is done with it is one.
//!
//! ## Tunnels
//!
//! Feature `tunnel`. Sessions of the two proxies have the limits of the layer around them, `accept_timeout`
//! included: dialing happens in `accept`.
//!
//! | limit | default | past it | because of |
//! |---|---|---|---|
//! | `ConnectProxy::connect_timeout`, to resolve and to connect | 10 s | 504 | |
//! | between two attempts to connect | 250 ms | the next address is tried beside | RFC 8305 §5 |
//! | addresses of one name that are tried | 16 | the others are not | |
//! | `Policy::ports` | 443 | 403 | |
//! | `Policy::hosts` | any | 403 | |
//! | addresses | those that are globally reachable | 403 | RFC 6890 |
//! | body of a request that a `ReverseProxy` passes on | 64 KiB | 413 | it is sent as a whole, once it is known to be complete |
//! | `client::UpgradeLayer::handshake_timeout` of a `ReverseProxy`'s client | 30 s | 504 | |
//! | `Relay::idle_timeout` | none | the relay ends | |
//! | quiet until a relay that was told to stop ends | 1 s, behind what a peer still has to take | it ends, in order | |
//! | shutdown of an end that is no session's | 10 s | it is dropped | |
//! | pipes of a process for `splice` | 32 | bytes are copied | Linux gives a user so many |
//!
//! ## Beneath
//!
//! These are hyper's and h2's, and a part of what keeps a server up. [The stack below](super::stack_below)
//! has more on the windows and the streams of HTTP/2.
//!
//! | limit, in hyper 1.12 | default | past it |
//! |---|---|---|
//! | head of a request on HTTP/1 | 408 KiB, 100 fields | 431 |
//! | time for a head on HTTP/1 | 30 s, *if the server has a timer* | the connection is closed |
//! | fields of a request on HTTP/2 | 16 KiB | 431 |
//! | streams of a connection at a time | 200 | `REFUSED_STREAM` |
//! | streams that the client resets before they are accepted | 20 | the connection is closed |
//! | streams that h2 resets for the client's errors | 1024 | the connection is closed |
//!
//! Give the server a timer, or a client that does not finish its head stays for ever. Neither hyper-util's builder
//! nor `axum::serve` has one by default. It cannot be given to `axum::serve`; serve with hyper-util where
//! clients connect directly:
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
//! | what you know | what to set |
//! |---|---|
//! | how many sessions the server can hold: file descriptors, memory of your handlers | [`max`](crate::SessionsBuilder::max), with room to spare; a proxy needs two descriptors for each |
//! | one client should not have all of them | [`max_per_key`](crate::SessionsBuilder::max_per_key), by address or by user. Behind a balancer all clients have its address, so take what it says of them, if it can be trusted |
//! | how long a decision takes at most: a look-up, a dial, a backend | `accept_timeout` a little longer, and the limits of what is called in it shorter, so that their errors are told |
//! | handlers read bodies, such as those of Docker's client | the limit that is given to `read_body` counts for them, with `body_timeout`; `body_limit` for what they leave. What is read with `body_mut` has no limit but `accept_timeout` |
//! | peers vanish without a word | `idle_timeout`; for WebSocket `keep_alive`, which tells a silent peer from one that is gone |
//! | a balancer in front cuts what is idle | pings at less than half of its timeout: [Scaling out](super::scaling) |
//! | credentials, routes or certificates expire | `lifetime`, and clients that come again |
//! | the longest message that the application sends | `max_message_size`. A client can make the server hold that much for each session |
//! | how long the server may take to stop | the timeout of `drain`, and what stops the process some seconds longer: [Stopping a server](super::stopping) |
//!
//! `idle_timeout` counts bytes. A peer that sends a byte in time, or answers pings, is not idle: only `lifetime`
//! and your handler bound that.
//!
//! # Where it is tested
//!
//! | | in the repository |
//! |---|---|
//! | decisions | `tests/conformance/safety.rs`, `s2_` |
//! | bodies | `tests/conformance/request_body.rs`, `u7_` |
//! | sessions and their time | `tests/sessions/limits.rs`, `times.rs`, `drain.rs`, `hard.rs`; `tests/session/life.rs` |
//! | the ends of connections | `tests/conformance/closing.rs`, `tests/session/end.rs` |
//! | WebSocket | `tests/websocket/strictness.rs`, `keep_alive.rs`, `closing.rs` |
//! | the client | `tests/client/failures.rs`, `tests/client/http2.rs` |
//! | tunnels | `tests/tunnel/connect.rs`, `tests/relay/ends.rs`, `tests/reverse/refusals.rs`, `tests/pipes.rs` |
