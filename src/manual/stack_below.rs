//! # Behaviour of the stack below
//!
//! Some behaviour of hyper, h2 and hyper-util surprises users of upgrades. Each section describes one behaviour, its
//! treatment in this crate, and the action to take in your code.
//!
//! Everything here was measured with hyper 1.12, hyper-util 0.1.21 and h2 0.4.20. A test in `tests/stack/` of the
//! repository pins each behaviour, and fails if a new version changes it.
//!
//! | behaviour | what to do |
//! |---|---|
//! | **[HTTP/1.1](#http11)** | |
//! | [hyper hands over the connection even after a rejection](#hyper-hands-over-the-connection-even-after-a-rejection) | put an `UpgradeLayer` outermost |
//! | [hyper offers an upgrade without `Connection: upgrade`](#hyper-offers-an-upgrade-without-connection-upgrade) | nothing |
//! | [hyper does not check `Host`](#hyper-does-not-check-host) | check the authority in handlers that depend on it |
//! | [A 101 goes out to HTTP/1.0 clients](#a-101-goes-out-to-http10-clients) | nothing |
//! | [A body that was not read becomes the new protocol](#a-body-that-was-not-read-becomes-the-new-protocol) | nothing |
//! | [A 2xx to CONNECT with a `Content-Length` is not sent](#a-2xx-to-connect-with-a-content-length-is-not-sent) | nothing |
//! | [A long response to an unread request is truncated](#a-long-response-to-an-unread-request-is-truncated) | read the body |
//! | [An `OnUpgrade` has no constructor](#an-onupgrade-has-no-constructor) | nothing |
//! | [Only one clone of `OnUpgrade` works](#only-one-clone-of-onupgrade-works) | do not clone requests outside the layer |
//! | [After a rejection hyper ends the connection without a shutdown](#after-a-rejection-hyper-ends-the-connection-without-a-shutdown) | nothing |
//! | [A client that half-closes counts as disconnected](#a-client-that-half-closes-counts-as-disconnected) | `half_close(true)`, if such clients matter |
//! | **[HTTP/2](#http2)** | |
//! | [Extended CONNECT has to be enabled](#extended-connect-has-to-be-enabled) | `enable_connect_protocol()` |
//! | [A CONNECT with a `Content-Length` ends the whole connection](#a-connect-with-a-content-length-ends-the-whole-connection) | expect sessions to end with an error |
//! | [One session that does not read stops all the others](#one-session-that-does-not-read-stops-all-the-others) | set window sizes |
//! | [Small messages that are not read end the connection](#small-messages-that-are-not-read-end-the-connection) | set window sizes, read |
//! | [A connection has at most 200 sessions](#a-connection-has-at-most-200-sessions) | `max_concurrent_streams` |
//! | [Frames wait for acknowledgements](#frames-wait-for-acknowledgements) | `TCP_NODELAY` |
//! | [A flush does not mean that data was sent](#a-flush-does-not-mean-that-data-was-sent) | write in small pieces; acknowledge in the protocol |
//! | [A stream outlives its session](#a-stream-outlives-its-session) | [bound the graceful shutdown](super::stopping) |
//! | [A reset can look like an end](#a-reset-can-look-like-an-end) | mark the end of messages in the protocol |
//! | [A connection that breaks is an error](#a-connection-that-breaks-is-an-error) | nothing |
//! | [A stream ends with `NO_ERROR`](#a-stream-ends-with-no_error) | let the client end first |
//! | [A session on HTTP/2 has no `TcpStream`](#a-session-on-http2-has-no-tcpstream) | handle the `Err` of `downcast` |
//! | **[HTTP/3](#http3)** | |
//! | [The receive window of a connection is unlimited](#the-receive-window-of-a-connection-is-unlimited) | `http3::transport_config` |
//! | [A dropped stream looks like an end](#a-dropped-stream-looks-like-an-end) | nothing |
//! | [A read after a reset returns the end](#a-read-after-a-reset-returns-the-end) | nothing |
//! | **[Shutting down](#shutting-down)** | |
//! | [A graceful shutdown does not wait for HTTP/1.1 sessions](#a-graceful-shutdown-does-not-wait-for-http11-sessions) | [drain them](super::stopping) |
//! | [A graceful shutdown waits for HTTP/2 sessions](#a-graceful-shutdown-waits-for-http2-sessions) | [drain them](super::stopping) |
//! | **[Clients](#clients)** | |
//! | [A client is handed the connection for any 101](#a-client-is-handed-the-connection-for-any-101) | nothing |
//! | [A client's unsent body is lost at the upgrade](#a-clients-unsent-body-is-lost-at-the-upgrade) | send short bodies |
//! | [A client is handed a tunnel for a 200](#a-client-is-handed-a-tunnel-for-a-200) | expect an error for another 2xx |
//! | [A client sends an extended CONNECT to any server](#a-client-sends-an-extended-connect-to-any-server) | `client::Http2`, or `client::Dial` |
//! | [A pool may send an `Upgrade` over HTTP/2](#a-pool-may-send-an-upgrade-over-http2) | do not negotiate HTTP/2 in the pool |
//! | [A client ignores a 101 over HTTP/2](#a-client-ignores-a-101-over-http2) | nothing |
//! | [hyper-util's tunnel loses early data](#hyper-utils-tunnel-loses-early-data) | `client::Tunnel` |
//!
//! # HTTP/1.1
//!
//! ## hyper hands over the connection even after a rejection
//!
//! hyper creates an `OnUpgrade` for each request that asks for an upgrade, and resolves it when the connection ends,
//! even if the response was a 403. A task that awaits `hyper::upgrade::on` then runs with a client whose request was
//! rejected. After a rejection the connection serves further requests; if one of them also asks for an upgrade, the
//! earlier `OnUpgrade` resolves to an error.
//!
//! This crate starts a session only if the response that leaves the outermost layer is the upgrade response. See
//! [The commit](super::commit).
//!
//! *What to do:* put an [`UpgradeLayer`](crate::UpgradeLayer) outermost in the stack.
//!
//! ## hyper offers an upgrade without `Connection: upgrade`
//!
//! hyper checks only the `Upgrade` header. A request without `Connection: upgrade` has an `OnUpgrade` too, and hyper
//! hands over the connection after a 101.
//!
//! This crate ignores an `Upgrade` header without the connection option, as RFC 9110 requires of a server.
//!
//! *What to do:* nothing.
//!
//! ## hyper does not check `Host`
//!
//! hyper serves an HTTP/1.1 request whose `Host` is missing, repeated or invalid, although RFC 9112 §3.2 requires 400.
//! Over HTTP/2, it serves a request whose `Host` differs from its `:authority` (RFC 9113 §8.3.1).
//!
//! `ReverseProxy` and `ConnectProxy` reject all of these with 400, because another server on the way could read a
//! different host from them. [`UpgradeRequest::authority`](crate::UpgradeRequest::authority) returns the host of the
//! target, or otherwise of the only `Host`, and an error if neither is valid.
//!
//! *What to do:* call `authority` in a handler that depends on the host.
//!
//! ## A 101 goes out to HTTP/1.0 clients
//!
//! hyper creates no `OnUpgrade` for an HTTP/1.0 request with an `Upgrade` header, but sends a 101 if the service
//! returns one. A CONNECT on HTTP/1.0 has an `OnUpgrade`, unless the request also has an `Upgrade` header.
//!
//! This crate ignores `Upgrade` on HTTP/1.0 and serves CONNECT. A CONNECT on HTTP/1.0 with an `Upgrade` header gets
//! 501.
//!
//! *What to do:* nothing.
//!
//! ## A body that was not read becomes the new protocol
//!
//! If a service returns a 101 before it has read the request body, hyper hands over the connection at once. The handler
//! then reads the rest of the body, which the client chose, as the first bytes of the new protocol.
//!
//! Before this crate returns the 101, it reads the part of the body that the handler left unread: up to
//! [`body_limit`](crate::UpgradeLayer::body_limit) bytes, within [`body_timeout`](crate::UpgradeLayer::body_timeout).
//!
//! *What to do:* nothing.
//!
//! ## A 2xx to CONNECT with a `Content-Length` is not sent
//!
//! - On HTTP/1.1, hyper drops the connection without a response, even if the length is 0.
//! - On HTTP/2, hyper resets the stream with `INTERNAL_ERROR` if the length is not 0.
//! - A body without the header is silently dropped.
//!
//! This crate removes the header and the body, even if middleware around the handler layer added them.
//!
//! *What to do:* nothing.
//!
//! ## A long response to an unread request is truncated
//!
//! If a request asked for an upgrade and its connection is to be closed, hyper hands over the connection as soon as the
//! request body has been dropped and the response is in hyper's buffer. Data that the socket has not accepted by then
//! is lost: of a 20 MB response 3.9 MB arrived.
//!
//! This crate keeps the unread request body alive while it sends a long rejection. It cannot do so for responses of an
//! inner service.
//!
//! *What to do:* read the request body in services that return long responses.
//!
//! ## An `OnUpgrade` has no constructor
//!
//! Only hyper's own connections create an `OnUpgrade`. Middleware that wraps the IO of an upgrade, and servers other
//! than hyper, cannot pass an `OnUpgrade` to code that expects one.
//!
//! This crate obtains an `OnUpgrade` for [governed](super::govern) upgraders: a hyper connection over a scripted IO
//! reads a constant upgrade request and answers 101. The flush of that IO stays pending until the session starts; then
//! hyper resolves the `OnUpgrade` to the IO.
//!
//! A constructor in hyper would replace that connection, for example:
//!
//! ```ignore
//! /// Creates an `OnUpgrade` and the sender that resolves it.
//! ///
//! /// Dropping the sender resolves the `OnUpgrade` to an error, as if the connection had ended without an upgrade.
//! pub fn pending() -> (Pending, OnUpgrade);
//!
//! impl Pending {
//!     /// Resolves the `OnUpgrade` to an upgraded connection.
//!     pub fn fulfill<T>(self, io: T, read_buf: Bytes)
//!     where
//!         T: Read + Write + Unpin + Send + 'static;
//! }
//! ```
//!
//! hyper has both functions, but they are private. If they were public, they would serve middleware that meters, limits
//! or drains upgraded connections, HTTP servers of other crates, and tests of upgrade code without a connection.
//!
//! *What to do:* nothing.
//!
//! ## Only one clone of `OnUpgrade` works
//!
//! A clone of a request contains a clone of its `OnUpgrade`. Once one clone has resolved, polling any other clone
//! panics.
//!
//! This crate takes the `OnUpgrade` out of the request as soon as the outermost layer has a handler for it. If
//! middleware further out has used a clone by then, the layer catches the panic and the session never starts.
//!
//! *What to do:* do not clone requests outside the outermost layer, for example to retry them.
//!
//! ## After a rejection hyper ends the connection without a shutdown
//!
//! hyper shuts other connections down, but drops a connection on which an upgrade request was rejected. With TLS the
//! client gets no close_notify.
//!
//! This crate waits for such a connection and shuts it down.
//!
//! *What to do:* nothing. If an inner service rejects the upgrade itself, hyper's behaviour remains.
//!
//! ## A client that half-closes counts as disconnected
//!
//! If a client shuts down its write side before it has the response, hyper treats the client as disconnected: hyper
//! drops the service's future, and the client reads EOF. With `half_close(true)` the client gets its response.
//!
//! If the client has sent more bytes after its request, hyper does not read further, and detects EOF with neither
//! setting. After the upgrade response the session reads such an end as EOF.
//!
//! This crate limits the time of a decision for a client that may have disconnected:
//! [`accept_timeout`](crate::UpgradeLayer::accept_timeout).
//!
//! *What to do:* set `half_close(true)` if such clients matter. `axum::serve` does not have this setting and treats
//! them as disconnected.
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
//! Otherwise h2 resets the stream of an extended CONNECT with `PROTOCOL_ERROR` and the service is not called. Other
//! streams go on. `axum::serve` enables extended CONNECT if axum has its feature `http2`.
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
//! If the length is not 0, hyper closes the connection with all its streams at once. The service is not called, and
//! the other sessions on the connection read an error.
//!
//! This crate cannot prevent it.
//!
//! *What to do:* expect such errors if several clients share one connection, for example behind a proxy. One client
//! can end the sessions of all.
//!
//! ## One session that does not read stops all the others
//!
//! By default hyper has a window of 1 MiB for each stream, and of 1 MiB for the connection. A peer can send 1 MiB to a
//! session that does not read. The connection's window is then used up, and the other sessions of the connection
//! receive nothing until the first one reads or ends.
//!
//! With smaller stream windows, a session blocks only itself until the windows of all blocked sessions add up to the
//! window of the connection.
//!
//! This crate does not change the windows: they are settings of the server.
//!
//! *What to do:* choose both windows so that the connection's window is at least the sum of the windows of its streams.
//! That window is also the amount of memory that one connection can make the server use.
//!
//! ```
//! use hyper_util::{rt::TokioExecutor, server::conn::auto};
//!
//! let mut server = auto::Builder::new(TokioExecutor::new());
//! server
//!     .http2()
//!     .enable_connect_protocol()
//!     .initial_stream_window_size(64 * 1024)
//!     .initial_connection_window_size(200 * 64 * 1024); // 200 streams, hyper's limit
//! ```
//!
//! ## Small messages that are not read end the connection
//!
//! An unread frame of less than 256 bytes costs more memory than its window accounts for. h2 adds up the difference.
//! When the sum reaches half of the connection's window, h2 closes the *connection* with `ENHANCE_YOUR_CALM`, and all
//! its sessions fail. With hyper's default of 1 MiB, a peer reaches that with 2,057 single bytes to a session that does
//! not read.
//!
//! h2 has had this limit since 0.4.16. Since 0.4.19 the limit depends on the window; in earlier versions a larger
//! window does not help.
//!
//! *What to do:* use a larger window for the connection, as above. Keep reading, or end the session.
//!
//! ## A connection has at most 200 sessions
//!
//! A session is a stream, and hyper allows 200 concurrent streams. While 200 sessions are open, hyper resets further
//! requests with `REFUSED_STREAM`, and the service is not called.
//!
//! *What to do:* for long sessions, raise `max_concurrent_streams`.
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
//! A write of a session can become several segments on the wire. Without `TCP_NODELAY` the system holds the last
//! segment back until the earlier ones are acknowledged. Measured over loopback on Linux, 64 consecutive echoes of 32
//! KiB took:
//!
//! | `TCP_NODELAY` | time |
//! |---|---|
//! | on neither side | 4.8 s |
//! | on the server | 1.9 s |
//! | on both sides | 0.06 s |
//!
//! *What to do:* set `TCP_NODELAY` on every accepted socket. With `axum::serve`:
//!
//! ```no_run
//! use axum::{Router, serve::ListenerExt};
//!
//! # async fn serve(app: Router) -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! let listener = listener.tap_io(|socket| {
//!     if let Err(error) = socket.set_nodelay(true) {
//!         eprintln!("cannot set TCP_NODELAY: {error}");
//!     }
//! });
//! axum::serve(listener, app).await
//! # }
//! ```
//!
//! ## A flush does not mean that data was sent
//!
//! Between a session and h2 lies a channel with room for a few writes.
//!
//! - **Write:** hyper accepts a write of any length as a whole and copies it: 8 MiB at once for a peer that receives
//!   nothing. The channel limits the number of writes, not of bytes.
//! - **Flush:** completes when the channel has room for another write. With a peer that receives nothing, two writes
//!   can be flushed. A third write is accepted; after it a flush, or a further write, waits.
//! - **Shutdown:** waits until h2 has taken all writes. h2 takes the last write as soon as the peer receives its first
//!   byte.
//!
//! This crate passes writes on unchanged. [`copy`](crate::copy()) writes at most 72 KiB at a time.
//!
//! *What to do:* write in small pieces. To know that the peer has received a message, have it acknowledge the message.
//!
//! ## A stream outlives its session
//!
//! h2 keeps data that a session has written until the peer receives it, even after the session's
//! [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout). hyper does not reset the stream when its IO is dropped.
//! So a peer that receives nothing keeps a stream and its data alive as long as the connection, and
//! [a graceful shutdown](#a-graceful-shutdown-waits-for-http2-sessions) waits for the stream.
//!
//! *What to do:* set a time limit for the graceful shutdown.
//!
//! ## A reset can look like an end
//!
//! hyper turns a `RST_STREAM` with `CANCEL` or `NO_ERROR` into a clean EOF, after the data that came before it. Any
//! other reset is a read error. Writes fail after any reset.
//!
//! This crate passes the EOF on.
//!
//! *What to do:* if truncated messages matter, send the length or an end marker in the protocol.
//!
//! ## A connection that breaks is an error
//!
//! If the client's socket closes, a session on HTTP/2 reads an error, `BrokenPipe`. A session on HTTP/1.1 reads a clean
//! EOF.
//!
//! *What to do:* nothing. A handler that returns the error ends its session.
//!
//! ## A stream ends with `NO_ERROR`
//!
//! The response to a rejected CONNECT ends with `END_STREAM`. If the client has not closed its direction,
//! `RST_STREAM(NO_ERROR)` follows. The reset does not report an error: it means that the server reads no further.
//!
//! A session that ends first sends its `END_STREAM` at once. This crate then reads for up to a second. If the client
//! has not closed its direction by then, `RST_STREAM(NO_ERROR)` follows; otherwise no frame follows.
//!
//! *What to do:* if the protocol allows both sides to end first, have the client end first.
//!
//! ## A session on HTTP/2 has no `TcpStream`
//!
//! [`Upgraded::downcast`](crate::Upgraded::downcast) to `TcpStream` succeeds on HTTP/1.1. On HTTP/2 it returns the
//! `Upgraded` as an error.
//!
//! *What to do:* handle the `Err`, which holds the `Upgraded`.
//!
//! # HTTP/3
//!
//! Measured with quinn 0.11.12. These sections concern the module `http3`.
//!
//! ## The receive window of a connection is unlimited
//!
//! By default each stream of quinn buffers up to 1.25 MB that the application has not read, and the connection sets no
//! limit for all streams together. With a limit, quinn returns the credit for read data in portions of an eighth of the
//! window: sessions that do not read stop the others before the sum of their windows reaches the limit.
//!
//! *What to do:* use `http3::transport_config`: its windows bound the memory and leave the eighth free.
//!
//! ## A dropped stream looks like an end
//!
//! Dropping quinn's `SendStream` sends FIN, so that the peer takes an abort for the end. Dropping a `RecvStream` that was
//! not read to its end sends `STOP_SENDING` with code 0, which is not a code of HTTP/3.
//!
//! This crate resets a stream that did not end in order, and stops with codes of HTTP/3. A proposal to quinn: an option of
//! the connection for the codes of dropped streams.
//!
//! *What to do:* nothing.
//!
//! ## A read after a reset returns the end
//!
//! The first read after a reset by the peer returns the error, and each further read returns the end of the stream. A
//! reader that takes the end for success must not read again.
//!
//! The IO of this crate returns the same error on each read. A proposal to quinn: return the error again.
//!
//! *What to do:* nothing.
//!
//! # Shutting down
//!
//! ## A graceful shutdown does not wait for HTTP/1.1 sessions
//!
//! The future of an HTTP/1.1 connection completes when its session starts. A graceful shutdown that waits for
//! connections therefore does not wait for sessions. This applies to hyper's `graceful_shutdown()`, hyper-util's
//! `GracefulShutdown`, and `axum::serve` with `with_graceful_shutdown`. Sessions continue until the runtime ends.
//!
//! If a handler is deciding when the shutdown begins, the upgrade continues: the 101 has
//! `Connection: upgrade, close`, and the session starts.
//!
//! `GracefulShutdown` cannot watch hyper's own HTTP/1 connection after `with_upgrades()`. It can watch hyper-util's
//! `auto` connection:
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
//! ## A graceful shutdown waits for HTTP/2 sessions
//!
//! A session on HTTP/2 is a stream of its connection. The connection's future completes after its last stream.
//!
//! At a graceful shutdown hyper sends a `GOAWAY` and a `PING`. After the client has answered the `PING`, a second
//! `GOAWAY` names the last stream that the server accepts; h2 ignores later streams. Open sessions keep the connection
//! alive without a time limit.
//!
//! *What to do for both:* give the layer [`Sessions`](crate::Sessions), and [drain](crate::Sessions::drain) them while
//! the connections shut down, as in [Stopping a server](super::stopping).
//!
//! # Clients
//!
//! In this section, the behaviour of this crate requires the feature `client`.
//!
//! ## A client is handed the connection for any 101
//!
//! hyper's client checks only the status. It hands over the connection for a 101 without `Upgrade`, for a protocol that
//! was not offered, or in response to a request without `Upgrade`.
//!
//! This crate checks the 101, and drops the connection if the 101 does not match the request.
//!
//! *What to do:* nothing.
//!
//! ## A client's unsent body is lost at the upgrade
//!
//! If a server sends a 101 before it has read the whole request, hyper's client hands over the connection and drops the
//! unsent part of the request in its buffer. The server then reads the first bytes of the new protocol as the rest of
//! the body: of a 64 MB body 3.9 MB arrived. A client must not switch protocols before it has sent its request (RFC
//! 9110 §7.8), but hyper does not report whether it has.
//!
//! This crate cannot prevent it.
//!
//! *What to do:* if a server may send the 101 before it reads the body, keep the body smaller than the socket's send
//! buffer: some KiB.
//!
//! ## A client is handed a tunnel for a 200
//!
//! Any 2xx response to a CONNECT opens a tunnel (RFC 9110 §9.3.6). On HTTP/1, hyper's client hands over the connection
//! for any 2xx but 204; on HTTP/2, only for 200.
//!
//! This crate returns an error of kind `Unsupported` for the other 2xx responses.
//!
//! *What to do:* nothing. Proxies answer 200.
//!
//! ## A client sends an extended CONNECT to any server
//!
//! A client may send an extended CONNECT only if the server's settings allow it (RFC 8441 §3). Neither h2 nor hyper
//! checks the settings, and the connection's `is_extended_connect_protocol_enabled` is `false` until the settings have
//! arrived.
//!
//! This crate waits for the settings on the connections that it makes.
//!
//! *What to do:* use `client::Http2`, or `client::Dial`.
//!
//! ## A pool may send an `Upgrade` over HTTP/2
//!
//! If TLS negotiates HTTP/2, hyper-util's pooled `Client` sends an `Upgrade` as an ordinary request: hyper removes the
//! headers, and the server answers a request without an upgrade.
//!
//! This crate turns any such response into an error of kind `Unsupported`.
//!
//! *What to do:* give the pool a connector that does not negotiate HTTP/2, or use `client::Dial`.
//!
//! ## A client ignores a 101 over HTTP/2
//!
//! HTTP/2 has no 101 (RFC 9113 §8.6). h2 skips it like a 103 and keeps waiting for a response.
//!
//! *What to do:* nothing. The time for a response is limited.
//!
//! ## hyper-util's tunnel loses early data
//!
//! `connect::proxy::Tunnel`, hyper-util's connector through a proxy, drops data that arrives in the same read as the
//! proxy's 200, such as the greeting of an SSH or SMTP server.
//!
//! *What to do:* use `client::Tunnel`.
