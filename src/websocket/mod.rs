//! WebSocket (RFC 6455), over HTTP/1.1 and HTTP/2 (RFC 8441).
//!
//! [`websocket`] makes a handler of a closure, which is registered as any other. The opening handshake is checked before
//! anything is answered, and what is wrong with it is refused with words: see [`WebSocketUpgrade`].
//!
//! ```no_run
//! use axum::{Router, routing::get};
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
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Over HTTP/2 a browser speaks WebSocket if the server has enabled extended CONNECT, which `axum::serve` does with axum's
//! feature `http2`. [Behind a router](crate::UpgradeLayer#behind-a-router) says what that means for routes. Chromium does
//! so where it has a connection of HTTP/2 to the server already, and else opens one of HTTP/1.1.
//!
//! # The end
//!
//! | the session ends because | the peer gets | the [reason](crate::CloseReason) is |
//! |---|---|---|
//! | the peer closed | its own close frame | finished |
//! | the handler ended well, or dropped the socket | 1000 | finished |
//! | the handler ended with an error | 1011 | failed |
//! | the session is to [stop](crate::Session::stop), at a drain for example | 1001 | drained |
//! | the peer broke the protocol | 1002, 1007 or 1009 | failed, if the handler says so |
//! | the peer did not answer a ping | nothing | idle, if the handler says so |
//!
//! A handler says so by ending with the error, as `?` does. The peer has
//! [`shutdown_timeout`](crate::UpgradeLayer::shutdown_timeout) to answer a close frame.
//!
//! # Secrets
//!
//! Some clients send a token as a subprotocol, for lack of another header that a browser lets them set. What is offered is
//! never logged here, and is marked as sensitive in the request.
//!
//! # Other frames
//!
//! The handshake does not need these frames: [`Handshake::accept_raw`] has an example with another library.
//! permessage-deflate is not spoken, and no extension is accepted.

#[cfg(feature = "client")]
mod client;
mod codec;
mod error;
mod frames;
pub(crate) mod handshake;
mod keep_alive;
mod message;
mod origin;
mod server;
mod socket;

#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(feature = "client")))]
pub use self::client::WebSocketRequest;
pub use self::{
    error::{Error, ErrorKind},
    message::{CloseFrame, Message, Utf8Bytes},
    server::{Handshake, WebSocketUpgrade, websocket},
    socket::WebSocket,
};

/// Whether a handler has ended because its peer did not answer a ping.
pub(crate) fn is_idle(error: &crate::BoxError) -> bool {
    error
        .downcast_ref::<Error>()
        .is_some_and(|error| error.kind() == ErrorKind::Idle)
}
