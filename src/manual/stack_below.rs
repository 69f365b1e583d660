//! # Behaviour of the stack below
//!
//! This crate works with what hyper, h2 and hyper-util hand it. Some of what they do surprises. This
//! page says what that is, what this crate makes of it, and what to do about it.
//!
//! All of it was measured with hyper 1.12, hyper-util 0.1.21 and h2 0.4.20. A test in `tests/stack/`
//! of the repository pins each point, so that a change of theirs is seen.
//!
//! | behaviour | what to do |
//! |---|---|
//! | **[HTTP/1.1](#http11)** | |
//! | [hyper hands the connection over whatever was answered](#hyper-hands-the-connection-over-whatever-was-answered) | an `UpgradeLayer` at the very outside |
//! | [hyper offers an upgrade that nobody asked for](#hyper-offers-an-upgrade-that-nobody-asked-for) | nothing |
//! | [hyper does not check `Host`](#hyper-does-not-check-host) | check it where it matters |
//! | [A 101 goes out to HTTP/1.0 clients](#a-101-goes-out-to-http10-clients) | nothing |
//! | [A body that was not read becomes the new protocol](#a-body-that-was-not-read-becomes-the-new-protocol) | nothing |
//! | [A 2xx to CONNECT with a `Content-Length` is not sent](#a-2xx-to-connect-with-a-content-length-is-not-sent) | nothing |
//! | [A long response to an unread request is cut](#a-long-response-to-an-unread-request-is-cut) | read the body |
//! | [Only one clone of an upgrade is of use](#only-one-clone-of-an-upgrade-is-of-use) | do not clone requests outside of the layer |
//! | [After a refusal hyper ends the connection without a shutdown](#after-a-refusal-hyper-ends-the-connection-without-a-shutdown) | nothing |
//! | [A client that half-closes counts as gone](#a-client-that-half-closes-counts-as-gone) | `half_close(true)`, if such clients matter |
//! | **[HTTP/2](#http2)** | |
//! | [Extended CONNECT has to be enabled](#extended-connect-has-to-be-enabled) | `enable_connect_protocol()` |
//! | [A CONNECT with a `Content-Length` ends the whole connection](#a-connect-with-a-content-length-ends-the-whole-connection) | expect sessions to end with an error |
//! | [One session that does not read stops all the others](#one-session-that-does-not-read-stops-all-the-others) | set window sizes |
//! | [Small messages that are not read end the connection](#small-messages-that-are-not-read-end-the-connection) | set window sizes, read |
//! | [A connection has 200 sessions](#a-connection-has-200-sessions) | `max_concurrent_streams` |
//! | [Frames wait for acknowledgements](#frames-wait-for-acknowledgements) | `TCP_NODELAY` |
//! | [A flush does not say that anything was sent](#a-flush-does-not-say-that-anything-was-sent) | small writes; answers of the protocol's own |
//! | [A stream outlives its session](#a-stream-outlives-its-session) | [bound the graceful shutdown](super::stopping) |
//! | [A reset can look like an end](#a-reset-can-look-like-an-end) | an end mark of the protocol's own |
//! | [A connection that breaks is an error](#a-connection-that-breaks-is-an-error) | nothing |
//! | [A stream ends with `NO_ERROR`](#a-stream-ends-with-no_error) | let the client end first |
//! | [A session on HTTP/2 has no socket of its own](#a-session-on-http2-has-no-socket-of-its-own) | handle the `Err` of `downcast` |
//! | **[Shutting down](#shutting-down)** | |
//! | [HTTP/1.1 sessions are not waited for](#http11-sessions-are-not-waited-for) | [drain them](super::stopping) |
//! | [HTTP/2 sessions are waited for](#http2-sessions-are-waited-for) | [drain them](super::stopping) |
//! | **[Clients](#clients)** | |
//! | [A client is handed the connection for any 101](#a-client-is-handed-the-connection-for-any-101) | nothing |
//! | [A client's body that was not sent yet is lost at a switch](#a-clients-body-that-was-not-sent-yet-is-lost-at-a-switch) | send short bodies |
//! | [A client is handed a tunnel for a 200](#a-client-is-handed-a-tunnel-for-a-200) | expect an error for another 2xx |
//! | [A client sends an extended CONNECT whatever the server allows](#a-client-sends-an-extended-connect-whatever-the-server-allows) | `client::Http2`, or `client::Dial` |
//! | [A pool may send an `Upgrade` over HTTP/2](#a-pool-may-send-an-upgrade-over-http2) | do not let it negotiate HTTP/2 |
//! | [A client takes a 101 over HTTP/2 for no answer](#a-client-takes-a-101-over-http2-for-no-answer) | nothing |
//! | [hyper-util's tunnel loses what comes early](#hyper-utils-tunnel-loses-what-comes-early) | `client::Tunnel` |
//!
//! # HTTP/1.1
//!
//! ## hyper hands the connection over whatever was answered
//!
//! hyper makes one upgrade for each request that asks for it. It is fulfilled when the connection
//! ends, also if the answer was a 403. A service that spawned a task on `hyper::upgrade::on` then
//! speaks to a client that was refused. After a refusal the connection serves further requests; if
//! one of them asks for an upgrade as well, the earlier upgrade yields an error.
//!
//! This crate starts a session only if the response that leaves the outermost layer is the switch.
//! [The commit](super::commit) has more.
//!
//! *What to do:* put an [`UpgradeLayer`](crate::UpgradeLayer) at the very outside of the stack.
//!
//! ## hyper offers an upgrade that nobody asked for
//!
//! hyper looks at the `Upgrade` header alone. Without `Connection: upgrade` the request has an
//! `OnUpgrade` as well, and a 101 switches.
//!
//! This crate ignores an `Upgrade` without the connection option, as RFC 9110 asks of a server.
//!
//! *What to do:* nothing.
//!
//! ## hyper does not check `Host`
//!
//! hyper serves an HTTP/1.1 request without `Host`, with two, or with an invalid one, where RFC 9112 §3.2 asks for
//! 400. Over HTTP/2 it serves one whose `Host` is not its `:authority` (RFC 9113 §8.3.1).
//!
//! `ReverseProxy` and `ConnectProxy` refuse all of these with 400: another server on the way could read another host from
//! them. [`UpgradeRequest::authority`](crate::UpgradeRequest::authority) returns the host of the target, or else of the
//! only `Host`, and an error if neither is valid.
//!
//! *What to do:* ask for the authority in a handler to which the host matters.
//!
//! ## A 101 goes out to HTTP/1.0 clients
//!
//! hyper offers no upgrade to an HTTP/1.0 request that has an `Upgrade` header. But if the service
//! answers 101 all the same, hyper sends it. A CONNECT on HTTP/1.0 is offered one, unless it has an
//! `Upgrade` header as well.
//!
//! This crate ignores `Upgrade` on HTTP/1.0, and serves CONNECT. A CONNECT with an `Upgrade` header on
//! HTTP/1.0 it refuses with 501.
//!
//! *What to do:* nothing.
//!
//! ## A body that was not read becomes the new protocol
//!
//! If a service answers 101 before it has read the request's body, hyper hands the connection over,
//! and what comes of the body then are the first bytes of the new protocol. The client chooses them.
//!
//! This crate reads what the handler left of the body before it answers 101, up to
//! [`body_limit`](crate::UpgradeLayer::body_limit) and for
//! [`body_timeout`](crate::UpgradeLayer::body_timeout).
//!
//! *What to do:* nothing.
//!
//! ## A 2xx to CONNECT with a `Content-Length` is not sent
//!
//! On HTTP/1.1 hyper drops the connection, without any answer, even if the length is 0. On HTTP/2 it
//! resets the stream with `INTERNAL_ERROR` if the length is not 0. A body without the header is
//! dropped silently.
//!
//! This crate removes the header and the body, also if a layer around added them.
//!
//! *What to do:* nothing.
//!
//! ## A long response to an unread request is cut
//!
//! Where an upgrade was offered and the connection is to end, hyper hands it over as soon as the request's
//! body was dropped and the response is in its own buffer. What the socket had not taken by then is
//! lost: of a response of 20 MB 3.9 MB arrived.
//!
//! This crate keeps the request open behind a long refusal of its own. It can do nothing for an inner
//! service's.
//!
//! *What to do:* in a service that answers at length, read the body.
//!
//! ## Only one clone of an upgrade is of use
//!
//! `OnUpgrade` is `Clone`, but to poll a clone when another has resolved panics. A request that is
//! cloned has a clone of it.
//!
//! This crate takes the upgrade out of the request as soon as the outermost layer has a handler for
//! it. If a layer further out has used a clone by then, the panic is caught and the session never
//! starts.
//!
//! *What to do:* do not clone requests outside of the outermost layer, for example to retry them.
//!
//! ## After a refusal hyper ends the connection without a shutdown
//!
//! Where an upgrade was offered and refused, hyper drops the connection in the end, where it shuts
//! other connections down. On TLS there is no close_notify.
//!
//! This crate waits for such a connection and shuts it down in order.
//!
//! *What to do:* nothing. If a service further in refuses upgrades itself, hyper's behaviour remains.
//!
//! ## A client that half-closes counts as gone
//!
//! A client that shuts its side down before it is answered is taken for a client that left: hyper
//! drops the service's future, and the client reads the end. With `half_close(true)` it is answered. If
//! the client has sent more bytes behind its request, hyper does not read on and does not see the end
//! in either case. After the switch such an end is the session's EOF.
//!
//! This crate bounds what it cannot see: a decision ends with
//! [`accept_timeout`](crate::UpgradeLayer::accept_timeout).
//!
//! *What to do:* if such clients matter, set it. `axum::serve` has no such setting, and takes them for
//! gone.
//!
//! ```
//! use hyper_util::{rt::TokioExecutor, server::conn::auto};
//!
//! let mut server = auto::Builder::new(TokioExecutor::new());
//! server.http1().half_close(true);
//! ```
//!
//! # HTTP/2
//!
//! ## Extended CONNECT has to be enabled
//!
//! Where it is not, h2 resets the stream of an extended CONNECT with `PROTOCOL_ERROR`, and no service
//! is asked. The other streams go on. `axum::serve` enables it, with axum's feature `http2`.
//!
//! *What to do:*
//!
//! ```
//! use hyper_util::{rt::TokioExecutor, server::conn::auto};
//!
//! let mut server = auto::Builder::new(TokioExecutor::new());
//! server.http2().enable_connect_protocol();
//! ```
//!
//! ## A CONNECT with a `Content-Length` ends the whole connection
//!
//! If the length is not 0 hyper ends the connection at once, with all streams of it. No service is
//! asked. The other sessions on that connection see an error.
//!
//! This crate cannot know of it before.
//!
//! *What to do:* expect it where clients share one connection, such as behind a proxy: one of them can
//! end the sessions of all.
//!
//! ## One session that does not read stops all the others
//!
//! hyper's defaults are a window of 1 MiB for a stream, and of 1 MiB for the connection. A peer may
//! send 1 MiB to a session that does not read. Then the connection's window is used up: no other
//! session of the connection gets any data, until the first one reads or ends.
//!
//! With smaller stream windows a session stops only itself, until so many do not read that their
//! windows together are the connection's.
//!
//! This crate changes nothing about it: windows are the server's.
//!
//! *What to do:* choose both windows, so that the connection's holds those of all its streams. The
//! larger one is also what a connection can make the server keep in memory.
//!
//! ```
//! use hyper_util::{rt::TokioExecutor, server::conn::auto};
//!
//! let mut server = auto::Builder::new(TokioExecutor::new());
//! server
//!     .http2()
//!     .enable_connect_protocol()
//!     .initial_stream_window_size(64 * 1024)
//!     .initial_connection_window_size(200 * 64 * 1024); // of 200 streams, as many as there may be
//! ```
//!
//! ## Small messages that are not read end the connection
//!
//! A frame of less than 256 bytes that waits to be read costs more than it holds, so h2 counts what is missing. When
//! that comes to half of the connection's window it ends the *connection*, with `ENHANCE_YOUR_CALM`, and all
//! sessions on it fail. With hyper's window of 1 MiB that is a peer which sends 2,057 single bytes to a session that
//! reads nothing. h2 does so since 0.4.16, and in proportion to the window since 0.4.19: before, a larger one makes no
//! difference.
//!
//! *What to do:* a larger window for the connection, as above, leaves room for more. Read what comes, or end the
//! session.
//!
//! ## A connection has 200 sessions
//!
//! A session is a stream, and hyper allows 200 streams at a time. A further request is reset with
//! `REFUSED_STREAM`, and no service is asked, as long as 200 sessions are open.
//!
//! *What to do:* where sessions last, set `max_concurrent_streams` to what a connection may have.
//!
//! ```
//! use hyper_util::{rt::TokioExecutor, server::conn::auto};
//!
//! let mut server = auto::Builder::new(TokioExecutor::new());
//! server.http2().max_concurrent_streams(1000);
//! ```
//!
//! ## Frames wait for acknowledgements
//!
//! A write of a session can take several segments on the wire, and without `TCP_NODELAY` the system
//! holds the last one back until the ones before are acknowledged. Measured over loopback on Linux:
//! 64 echoes of 32 KiB each, one after the other, took 4.8 s; with `TCP_NODELAY` on the server's side
//! 1.9 s, and on both sides 0.06 s.
//!
//! *What to do:* set it on every accepted socket. With `axum::serve`:
//!
//! ```no_run
//! use axum::{Router, serve::ListenerExt};
//!
//! # async fn serve(app: Router) -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! let listener = listener.tap_io(|socket| {
//!     if let Err(error) = socket.set_nodelay(true) {
//!         eprintln!("no TCP_NODELAY: {error}");
//!     }
//! });
//! axum::serve(listener, app).await
//! # }
//! ```
//!
//! ## A flush does not say that anything was sent
//!
//! Between a session and h2 is a channel for a few writes.
//!
//! - A write is taken whole, whatever its length, and copied into memory: 8 MiB at once for a peer that
//!   takes nothing. There is no limit in bytes, only one in writes.
//! - A flush ends when the channel has room for another write. With a peer that takes nothing, two
//!   writes can be flushed; a third is taken, and then a flush and a further write wait.
//! - A shutdown waits until all writes are handed to h2. For the last of them that is as soon as the
//!   peer takes one byte of it.
//!
//! This crate passes writes on as they come. [`copy`](crate::copy()) writes no more than 72 KiB at a time.
//!
//! *What to do:* write in small pieces. To know that the peer has something, let it answer.
//!
//! ## A stream outlives its session
//!
//! What a session has written stays with h2 until the peer takes it, also when the session's
//! [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) is over. hyper does not reset the stream
//! when its IO is dropped. So a peer that takes nothing keeps a stream, and what was written to it,
//! for as long as its connection lasts, and [a graceful shutdown](#http2-sessions-are-waited-for)
//! waits for it.
//!
//! *What to do:* give the graceful shutdown a limit.
//!
//! ## A reset can look like an end
//!
//! hyper makes a clean EOF of a peer's `RST_STREAM` with `CANCEL` or `NO_ERROR`. Data that came before it
//! is read first. Every other reset is an error. Writes fail after any reset.
//!
//! This crate passes it on.
//!
//! *What to do:* where it matters whether a message is whole, let the protocol say its length or its
//! end.
//!
//! ## A connection that breaks is an error
//!
//! If the client's socket closes, a session on HTTP/2 reads an error, `BrokenPipe`. On HTTP/1.1 the
//! same is a clean EOF.
//!
//! *What to do:* nothing; a handler that returns the error ends its session.
//!
//! ## A stream ends with `NO_ERROR`
//!
//! A refused CONNECT is answered with its response, to an `END_STREAM`. If the client has not ended its
//! side, `RST_STREAM(NO_ERROR)` follows: not an error, but a word that nobody reads on.
//!
//! A session that ends first sends its `END_STREAM` at once. Then this crate reads for up to a second
//! what the client still sends, and if the client has not ended its side by then,
//! `RST_STREAM(NO_ERROR)` follows. If it has, nothing follows.
//!
//! *What to do:* let the client end first, if the protocol leaves the choice.
//!
//! ## A session on HTTP/2 has no socket of its own
//!
//! [`Upgraded::downcast`](crate::Upgraded::downcast) to `TcpStream` gives the IO on HTTP/1.1, and on
//! HTTP/2 the `Upgraded` back.
//!
//! *What to do:* handle the `Err`: use the `Upgraded` as it is.
//!
//! # Shutting down
//!
//! ## HTTP/1.1 sessions are not waited for
//!
//! The future of an HTTP/1.1 connection ends when its session begins. Whatever waits for connections
//! does not wait for the session: hyper's `graceful_shutdown()`, hyper-util's `GracefulShutdown`, and
//! `axum::serve` with `with_graceful_shutdown`. The session goes on until the runtime ends.
//!
//! An upgrade that is being decided when the shutdown begins goes on. Its 101 says
//! `Connection: upgrade, close`, and its session starts.
//!
//! `GracefulShutdown` does not take hyper's own HTTP/1 connection once it is `with_upgrades()`. It takes
//! hyper-util's `auto` connection:
//!
//! ```compile_fail,E0277
//! # use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
//! # use tower_upgrade::UpgradeLayer;
//! # fn watch(connections: GracefulShutdown, io: tokio::net::TcpStream) {
//! # let service = TowerToHyperService::new(UpgradeLayer::new().into_service());
//! let connection = hyper::server::conn::http1::Builder::new()
//!     .serve_connection(TokioIo::new(io), service)
//!     .with_upgrades();
//! drop(connections.watch(connection)); // not a `GracefulConnection`
//! # }
//! ```
//!
//! ## HTTP/2 sessions are waited for
//!
//! A session on HTTP/2 is a stream of its connection, and the connection's future ends when the last
//! stream has ended. At a graceful shutdown hyper sends a `GOAWAY` and a `PING`. When the client has
//! answered the `PING`, a second `GOAWAY` says which stream was the last, and later ones are ignored.
//! Sessions go on, and the connection with them, without a limit.
//!
//! *What to do for both:* give the layer [`Sessions`](crate::Sessions), and [drain](crate::Sessions::drain)
//! them while the connections shut down: [Stopping a server](super::stopping) has it all.
//!
//! # Clients
//!
//! What this crate makes of it needs the feature `client`.
//!
//! ## A client is handed the connection for any 101
//!
//! hyper's client looks at nothing but the status: a 101 without `Upgrade`, for a protocol that was not
//! offered, or to a request that asked for none, hands the connection over.
//!
//! This crate reads the 101, and drops the connection of one that does not answer what was asked for.
//!
//! *What to do:* nothing.
//!
//! ## A client's body that was not sent yet is lost at a switch
//!
//! If a server answers 101 before it has read all of the request, hyper's client hands the connection over
//! with what it still had to send in its own buffer. That is lost, and the first bytes of the new protocol are
//! taken for the rest of the body: of one of 64 MB 3.9 MB arrived. A client may not begin before it has sent
//! its request (RFC 9110 §7.8), and hyper does not tell whether it has.
//!
//! This crate can do nothing about it.
//!
//! *What to do:* with servers that may not read the body first, keep it shorter than what the socket takes at
//! once: some KiB.
//!
//! ## A client is handed a tunnel for a 200
//!
//! Any 2xx to a CONNECT makes a tunnel (RFC 9110 §9.3.6). hyper's client hands it over for all but 204 on
//! HTTP/1, and for nothing but 200 on HTTP/2.
//!
//! This crate makes another 2xx an error of kind `Unsupported`.
//!
//! *What to do:* nothing. Proxies answer 200.
//!
//! ## A client sends an extended CONNECT whatever the server allows
//!
//! A client may send one only when the server's settings allow it (RFC 8441 §3). h2 does not look, nor
//! does hyper, and the connection's `is_extended_connect_protocol_enabled` is `false` until the settings
//! have come.
//!
//! This crate waits for the settings of the connections that it makes.
//!
//! *What to do:* use `client::Http2`, or `client::Dial`.
//!
//! ## A pool may send an `Upgrade` over HTTP/2
//!
//! Where TLS negotiates HTTP/2, hyper-util's pooled `Client` sends an `Upgrade` as a plain request: hyper
//! takes the fields off. The server answers that.
//!
//! This crate makes an error of any such answer, of kind `Unsupported`.
//!
//! *What to do:* give the pool a connector that does not negotiate HTTP/2, or use `client::Dial`.
//!
//! ## A client takes a 101 over HTTP/2 for no answer
//!
//! There is none in HTTP/2 (RFC 9113 §8.6). h2 skips it, as it skips a 103, and waits on.
//!
//! *What to do:* nothing: the wait is bounded.
//!
//! ## hyper-util's tunnel loses what comes early
//!
//! Its connector through a proxy, `connect::proxy::Tunnel`, drops what arrives in one read with the
//! proxy's 200, such as the greeting of an SSH or SMTP server.
//!
//! *What to do:* use `client::Tunnel`.
