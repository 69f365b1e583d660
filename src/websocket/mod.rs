//! WebSocket (RFC 6455), over HTTP/1.1, HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220).
//!
//! [`websocket`] turns a closure into a protocol handler. The handler checks the opening handshake before the server
//! responds, and rejects an invalid one with an explanation: see [`WebSocketUpgrade`]. [`WebSocketConfig`] has the
//! settings of handlers, extractors and clients.
//!
//! ```no_run
//! use axum::{Router, routing::get, serve::ListenerExt as _};
//! use std::time::Duration;
//! use tower_upgrade::{
//!     Session, UpgradeLayer,
//!     websocket::{Message, WebSocket, WebSocketConfig, websocket},
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = WebSocketConfig::new()
//!     .subprotocols(["chat.v2", "chat.v1"])
//!     .origins(["https://example.com"])
//!     .max_message_size(64 * 1024)
//!     .keep_alive(Duration::from_secs(30));
//! let chat = websocket(|mut socket: WebSocket, session: Session| async move {
//!     let user = session.extensions().get::<String>().cloned(); // set by a layer
//!     drop(session);
//!     while let Some(message) = socket.recv().await {
//!         match message? {
//!             Message::Text(text) => socket.send(format!("{user:?} says {text}")).await?,
//!             Message::Binary(_) => return Err("text, please".into()),
//!             _ => {} // pings and the close frame are answered already
//!         }
//!     }
//!     Ok(())
//! })
//! .config(config);
//!
//! let app = Router::new()
//!     .route("/", get(|| async { "index" }))
//!     .layer(UpgradeLayer::new().protocol("websocket", chat));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! // With `TCP_NODELAY`: otherwise each small write may wait 40 ms for an acknowledgement.
//! let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A browser can open a WebSocket over HTTP/2 if the server enables extended CONNECT, which `axum::serve` does with
//! axum's feature `http2`. [Behind a router](crate::UpgradeLayer#behind-a-router) explains the consequences for routes.
//! Chromium uses HTTP/2 if it already has an HTTP/2 connection to the server, and otherwise opens an HTTP/1.1
//! connection.
//!
//! # Closing
//!
//! | cause | the peer receives | [close reason](crate::CloseReason) |
//! |---|---|---|
//! | the peer closed | its own close frame | finished |
//! | the handler returned `Ok` | 1000 | finished |
//! | the handler returned an error | 1011 | failed |
//! | the handler panicked | 1011 | panicked |
//! | the session received its [stop](crate::Session::stop) signal, for example at a drain | 1001 | drained |
//! | the handler was aborted: it did not stop in time, or the session was [idle](crate::UpgradeLayer::idle_timeout) | 1001, or nothing if a message is partly written | aborted, lifetime or idle |
//! | the peer sent text or a close reason that is not UTF-8 | 1007, before the message is complete | failed, if the handler returns the error |
//! | the peer sent a frame or a message over the size limit | 1009 | failed, if the handler returns the error |
//! | the peer violated the protocol in any other way, also with a corrupt compressed message | 1002 | failed, if the handler returns the error |
//! | the peer closed with an invalid code | 1002 | finished |
//! | the peer exceeded a rate limit that [closes](RateLimit::close) | 1008 | failed, if the handler returns the error |
//! | the peer read [broadcasts](Broadcast) too slowly | 1013, or the code of [`SlowConsumer::Close`] | failed, if the handler returns the error |
//! | the peer did not answer a ping | nothing | idle |
//!
//! In the rows with "failed, if the handler returns the error", [`recv`](WebSocket::recv) returns an error, and the
//! handler may return it with `?`. If the handler returns `Ok` instead, or the [`Closed`](ErrorKind::Closed) error of a
//! later `send`, the close reason is finished.
//!
//! The session writes all queued messages before the close frame, also the rest of a partly written message. The
//! session ends when the peer answers the close frame, or when
//! [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) has passed. After the close frame, the session answers
//! no pings.
//!
//! A handler that closes the WebSocket chooses the code: 1000 to 1003, 1007 to 1014, or 3000 to 4999. Sending any other
//! code fails. Sending a reason of more than 123 bytes, or a ping or pong of more than 125 bytes, also fails.
//!
//! The WebSocket ends with its handler, even if other tasks still hold its halves: see [`WebSocket`].
//!
//! # Broadcasts
//!
//! [`Broadcast`] sends one message to all WebSockets that are subscribed to a key, such as a chat room. Each WebSocket
//! has a bounded queue, which its session writes in its own task: the handler needs no second task and no channel.
//!
//! - The frame is encoded once, and all sessions share the payload. Servers write a payload of 16 KiB or more from its
//!   own memory.
//! - A session writes up to 16 KiB of queued messages at once.
//! - A slow peer delays no other one: its session drops messages or closes, as [`SlowConsumer`] says.
//! - A subscription of an idle session takes less than 200 bytes.
//!
//! # Secrets
//!
//! Some browser clients send a token as a subprotocol, because a page cannot set any other header of the handshake.
//! This crate never logs the offered subprotocols, and marks them as sensitive in the request.
//!
//! # Compression
//!
//! With the feature `deflate`, `WebSocketConfig::deflate` compresses messages (permessage-deflate, RFC 7692) if the
//! peer supports it, as browsers do. The handshake negotiates over every HTTP version, on the server and on the
//! client. By default messages are not compressed: compression takes time and memory, and may reveal secrets.
//!
//! ```
//! # #[cfg(feature = "deflate")]
//! # {
//! use tower_upgrade::websocket::{Deflate, WebSocketConfig};
//!
//! const CONFIG: WebSocketConfig = WebSocketConfig::new().deflate(Deflate::new());
//! # }
//! ```
//!
//! | | by default | with context takeover |
//! |---|---|---|
//! | memory between messages | less than 200 bytes | up to 64 KiB more: the last 32 KiB of each direction |
//! | to compress 1 KiB of JSON | 3 µs, to 46 % | 24 µs, to 30 % |
//! | to decompress 1 KiB of JSON | 1 µs | 1 µs |
//!
//! Sessions share the compressors and decompressors of their thread, and hold none between messages. A process limits
//! the number of windows of sessions with context takeover. A message that compression does not shorten is sent
//! uncompressed. A message that exceeds [`max_message_size`](WebSocketConfig::max_message_size) while it is
//! decompressed closes the WebSocket with 1009. `Deflate` has the settings and more figures.
//!
//! Keep [secrets](crate::manual::threats#compression) out of compressed messages with text that others choose:
//! [`send_uncompressed`](WebSocket::send_uncompressed) leaves one message uncompressed, and `Deflate::receive_only` all
//! that a peer sends.
//!
//! flate2 with zlib-rs compresses: Rust without C code, fast, and able to limit its window as a peer may demand.
//!
//! # Memory
//!
//! Between messages a session holds no read buffer and at most 2 KiB of write buffer. The session returns its buffers
//! to a pool of the current thread, and the next message of any session on that thread reuses them. The pool keeps 4
//! read buffers of 72 KiB, and 1 MiB of write buffers.
//!
//! - A message of 36 KiB or more that arrives in one frame and fits into a read buffer stays there: the handler receives
//!   a slice of the buffer, which returns to the pool when the handler drops the slice.
//! - A shorter message is copied, so that a handler that keeps a few bytes does not keep a large buffer.
//! - A longer or fragmented message is read into memory that grows with the bytes that have arrived. The header of a
//!   frame allocates no memory for its payload. A session keeps a read buffer for the rest of a frame if an eighth of it
//!   has arrived.
//! - A payload of 16 KiB or more is sent from its own memory by the server. The client masks a copy.
//!
//! # Frames
//!
//! This crate reads and writes the frames itself. It rejects every invalid frame, also lengths that do not have the
//! shortest form, and text as soon as it is not UTF-8 (RFC 6455 §8.1). A fuzzer compares the messages and errors with
//! those of a plain reader, and property tests compare them with tungstenite's.
//!
//! The [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite) 25.10.1 tests the handler, the extractor,
//! the client, and the handler behind a reverse proxy over HTTP/1.1 and over HTTP/2. No case fails or is `NON-STRICT`:
//!
//! | section | cases | OK | informational |
//! |---|---|---|---|
//! | 1 framing | 16 | 16 | |
//! | 2 pings and pongs | 11 | 11 | |
//! | 3 reserved bits | 7 | 7 | |
//! | 4 opcodes | 10 | 10 | |
//! | 5 fragmentation | 20 | 20 | |
//! | 6 UTF-8 | 145 | 145 | |
//! | 7 close handling | 37 | 34 | 3 |
//! | 9 limits and performance | 54 | 54 | |
//! | 10 automatic fragmentation | 1 | 1 | |
//! | 12 compression of various payloads | 90, and 15 except for the handler | all | |
//! | 13 compression with various parameters | 126, and 21 except for the handler | all | |
//!
//! The same handler with the frames of other libraries:
//!
//! | | idle | after 64 KiB | rate | accepts | |
//! |---|---|---|---|---|---|
//! | this crate | 2,497 | 2,497 | 0.92 to 0.93 | valid frames only | MIT |
//! | tokio-tungstenite | 133,690 | 304,086 | 0.75 | valid frames only | MIT |
//! | the same with small buffers | 4,751 | 137,918 | 0.92 to 0.95 | the same | |
//! | fastwebsockets | 7,959 | 84,226 | 0.97 to 0.99 | unmasked frames from clients, fragmented messages of any size | Apache-2.0 |
//! | tokio-websockets | 7,657 | 81,663 | 0.92 to 0.95 | valid frames only: the strictest | MIT, Rust 1.89 |
//! | yawc | 12,275 | 18,951 | 0.91 to 0.94 | pongs that are too long | MPL-2.0, 72 crates |
//! | the same with small buffers | 4,612 | 4,627 | 0.91 to 0.94 | the same | |
//! | axum, with tokio-tungstenite | 132,873 | 316,192 | 0.74 to 0.78 | as tokio-tungstenite | MIT |
//!
//! `idle` is the resident memory of a server session after an echo of 64 bytes, and `after 64 KiB` is its memory after
//! a second echo, of 64 KiB; both are in bytes. `rate` is the number of 16-byte echoes in 64 sessions, relative to
//! hyper alone, which copies bytes. All values are from one machine. The first row is the handler of this module; the
//! other rows are the same handler with the named library.
//!
//! # Frames of another library
//!
//! [`Handshake::accept_raw`] accepts the same handshake, and gives the handler the byte stream, for the frames of
//! another library. The handler then sends the close frames itself, also at the stop signal of the session. Such a
//! handshake accepts no extension.
//!
//! ```
//! use fastwebsockets::{FragmentCollector, OpCode};
//! use futures_util::{SinkExt as _, StreamExt as _};
//! use tokio_tungstenite::{WebSocketStream, tungstenite};
//! use tower_upgrade::{
//!     Accept, BoxError, ProtocolHandler, Rejection, Session, UpgradeRequest,
//!     websocket::WebSocketUpgrade,
//! };
//!
//! struct OtherFrames {
//!     upgrade: WebSocketUpgrade,
//! }
//!
//! impl ProtocolHandler for OtherFrames {
//!     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
//!         let handshake = self.upgrade.check(request)?;
//!         Ok(handshake.accept_raw(with_tokio_tungstenite)) // or one of the others
//!     }
//! }
//!
//! async fn with_tokio_tungstenite(session: Session) -> Result<(), BoxError> {
//!     let role = tungstenite::protocol::Role::Server;
//!     let mut socket = WebSocketStream::from_raw_socket(session.into_io(), role, None).await;
//!     while let Some(message) = socket.next().await {
//!         let message = message?;
//!         if message.is_text() || message.is_binary() {
//!             socket.send(message).await?;
//!         }
//!     }
//!     Ok(())
//! }
//!
//! async fn with_tokio_websockets(session: Session) -> Result<(), BoxError> {
//!     let mut socket = tokio_websockets::ServerBuilder::new().serve(session.into_io());
//!     while let Some(message) = socket.next().await {
//!         let message = message?;
//!         if message.is_text() || message.is_binary() {
//!             socket.send(message).await?;
//!         }
//!     }
//!     Ok(())
//! }
//!
//! async fn with_fastwebsockets(session: Session) -> Result<(), BoxError> {
//!     let role = fastwebsockets::Role::Server;
//!     let socket = fastwebsockets::WebSocket::after_handshake(session.into_io(), role);
//!     let mut socket = FragmentCollector::new(socket);
//!     loop {
//!         let frame = socket.read_frame().await?;
//!         match frame.opcode {
//!             OpCode::Close => return Ok(()),
//!             OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
//!             _ => {}
//!         }
//!     }
//! }
//!
//! async fn with_yawc(session: Session) -> Result<(), BoxError> {
//!     let options = yawc::Options::default().with_utf8().without_compression();
//!     let role = yawc::Role::Server;
//!     let mut socket = yawc::WebSocket::from_stream(session.into_io(), role, options)?;
//!     while let Some(frame) = socket.next().await {
//!         if matches!(frame.opcode(), yawc::OpCode::Text | yawc::OpCode::Binary) {
//!             socket.send(frame).await?;
//!         }
//!     }
//!     Ok(())
//! }
//! ```

mod broadcast;
#[cfg(feature = "client")]
mod client;
mod codec;
mod config;
#[cfg_attr(not(feature = "deflate"), path = "no_deflate.rs")]
mod deflate;
mod error;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod handshake;
mod header;
mod input;
mod keep_alive;
mod mask;
mod message;
mod origin;
mod payload;
mod rate_limit;
mod reader;
#[cfg(feature = "client")]
pub mod reconnect;
mod running;
mod shared;
mod socket;
mod stop;
mod upgrade;
mod write_queue;

#[cfg(feature = "client")]
pub use self::client::WebSocketRequest;
#[cfg(feature = "deflate")]
pub use self::deflate::Deflate;
pub use self::{
    broadcast::{Broadcast, SlowConsumer, Subscription},
    config::WebSocketConfig,
    error::{Error, ErrorKind},
    message::{CloseFrame, Message, Utf8Bytes},
    rate_limit::RateLimit,
    socket::WebSocket,
    upgrade::{Handshake, WebSocketUpgrade, websocket},
};
