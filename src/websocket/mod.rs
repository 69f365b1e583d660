//! WebSocket (RFC 6455), over HTTP/1.1 and HTTP/2 (RFC 8441).
//!
//! [`websocket`] makes a handler of a closure, which is registered as any other. The opening handshake is checked before
//! anything is answered, and what is wrong with it is refused with words: see [`WebSocketUpgrade`].
//!
//! ```no_run
//! use axum::{Router, routing::get, serve::ListenerExt as _};
//! use std::time::Duration;
//! use tower_upgrade::{
//!     Session, UpgradeLayer,
//!     websocket::{Message, WebSocket, websocket},
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let chat = websocket(|mut socket: WebSocket, session: Session| async move {
//!     let user = session.extensions().get::<String>().cloned(); // as a layer around left it
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
//! .subprotocols(["chat.v2", "chat.v1"])
//! .origins(["https://example.com"])
//! .max_message_size(64 * 1024)
//! .keep_alive(Duration::from_secs(30));
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
//! Over HTTP/2 a browser speaks WebSocket if the server has enabled extended CONNECT, which `axum::serve` does
//! with axum's feature `http2`. [Behind a router](crate::UpgradeLayer#behind-a-router) says what that means for
//! routes. Chromium does so where it has a connection of HTTP/2 to the server already, and else opens one of
//! HTTP/1.1.
//!
//! # The end
//!
//! | the session ends because | the peer gets | the [reason](crate::CloseReason) is |
//! |---|---|---|
//! | the peer closed | its own close frame | finished |
//! | the handler ended well | 1000 | finished |
//! | the handler ended with an error | 1011 | failed |
//! | the handler panicked | 1011 | panicked |
//! | the session is to [stop](crate::Session::stop), at a drain for example | 1001 | drained |
//! | the handler was dropped: it did not stop in time, or the session was [idle](crate::UpgradeLayer::idle_timeout) | nothing | aborted, lifetime or idle |
//! | the peer broke the protocol: text or a reason that is no UTF-8 | 1007 | failed, if the handler says so |
//! | a frame or a message that is longer than it may be | 1009 | failed, if the handler says so |
//! | anything else that it may not send | 1002 | failed, if the handler says so |
//! | the peer closed with a code that may not be sent | 1002 | finished |
//! | the peer did not answer a ping | nothing | idle, if the handler says so |
//!
//! A handler says so by ending with the error, as `?` does. What it has queued is written first, and a message that
//! is half written is written to its end. The peer has
//! [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) to answer a close frame; the session ends when it has,
//! or when that is over. Behind a close frame of ours its pings are not answered any more.
//!
//! A handler that closes by itself chooses the code: 1000 to 1003, 1007 to 1014, or 3000 to 4999. Another one, and a
//! reason or a ping that is too long for its frame, is an error and is not sent.
//!
//! All of this goes for a WebSocket whose halves are in other tasks as well: it ends with the handler, and not with
//! them. See [`WebSocket`].
//!
//! # Secrets
//!
//! Some clients send a token as a subprotocol, for lack of another header that a browser lets them set. What is
//! offered is never logged here, and is marked as sensitive in the request.
//!
//! # Memory
//!
//! A session that waits between messages has no buffer to read into, and none of more than 2 KiB to write from. It
//! leaves them to the thread, for the next message of any of its sessions: a thread keeps what has read messages of
//! 1 MiB in all, and 1 MiB to write from. So neither a stream of messages of 64 KiB nor one at a time makes the
//! allocator take and give back as much for each. A message of more than 1 MiB does.
//!
//! A payload is the handler's, and is not copied: it is a part of what it was read into, which is shared until the
//! handler drops it. One that is less than half of that part's longest message is copied, so that to keep a few
//! bytes is not to keep much more.
//!
//! # Why these frames
//!
//! Frames are read by tungstenite's codec, without its IO: when there is nothing more to read, it can be let go of
//! with its buffers, and another one reads the next message. Of what was measured this is strict, old enough to be
//! trusted, about as quick as any, and with it an idle session costs least:
//!
//! | | idle | after 64 KiB | rate | what it takes | |
//! |---|---|---|---|---|---|
//! | tungstenite's codec, as here | 2,718 | 2,731 | 0.96 | what is right | MIT or Apache-2.0 |
//! | tokio-tungstenite | 133,690 | 304,086 | 0.75 | the same | MIT |
//! | the same with small buffers | 4,751 | 137,918 | 0.92 to 0.95 | the same | |
//! | fastwebsockets | 7,959 | 84,226 | 0.97 to 0.99 | unmasked frames of clients, messages of any size in fragments | Apache-2.0 |
//! | tokio-websockets | 7,657 | 81,663 | 0.92 to 0.95 | what is right: the strictest | MIT, Rust 1.89 |
//! | yawc | 12,275 | 18,951 | 0.91 to 0.94 | pongs that are too long | MPL-2.0, 72 crates |
//! | the same with small buffers | 4,612 | 4,627 | 0.91 to 0.94 | the same | |
//! | axum, with tokio-tungstenite | 132,873 | 316,192 | 0.74 to 0.78 | as that | MIT |
//!
//! `idle` is the resident bytes of a session on the server when a message of 64 bytes has gone there and back,
//! then one of 64 KiB; `rate` is echoes of 16 bytes in 64 sessions, against those of hyper alone, which copies
//! bytes. All were measured on one machine, with the same few lines around each but the first, which is the handler
//! as it is.
//!
//! # Other frames
//!
//! The handshake does not need the frames: [`Handshake::accept_raw`] hands out the bytes. permessage-deflate
//! (RFC 7692) is not spoken, and no extension is accepted; of those above only yawc speaks it. What the session
//! is told to do, and its close frames, are then the handler's own to mind.
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

mod caught;
#[cfg(feature = "client")]
mod client;
mod codec;
mod error;
mod frames;
pub(crate) mod handshake;
mod keep_alive;
mod message;
mod origin;
mod out;
mod rate_limit;
mod reader;
mod server;
mod socket;

#[cfg(feature = "client")]
pub use self::client::WebSocketRequest;
pub use self::{
    error::{Error, ErrorKind},
    message::{CloseFrame, Message, Utf8Bytes},
    rate_limit::RateLimit,
    server::{Handshake, WebSocketUpgrade, websocket},
    socket::WebSocket,
};
