//! WebSocket (RFC 6455), over HTTP/1.1 and HTTP/2 (RFC 8441).
//!
//! # Why these frames
//!
//! Frames are read by tungstenite's codec, without its IO: when there is nothing more to read, it can be dropped with
//! its buffers, and is made anew with the next message. Of what was measured this is strict, old enough to be
//! trusted, about as quick as any, and with it an idle session costs least:
//!
//! | | idle | after 64 KiB | rate | what it takes | |
//! |---|---|---|---|---|---|
//! | tungstenite's codec, as here | 3,381 | 3,405 | 0.94 to 0.96 | what is right | MIT or Apache-2.0 |
//! | tokio-tungstenite | 133,690 | 304,086 | 0.75 | the same | MIT |
//! | the same with small buffers | 4,751 | 137,918 | 0.92 to 0.95 | the same | |
//! | fastwebsockets | 7,959 | 84,226 | 0.97 to 0.99 | unmasked frames of clients, messages of any size in fragments | Apache-2.0 |
//! | tokio-websockets | 7,657 | 81,663 | 0.92 to 0.95 | what is right: the strictest | MIT, Rust 1.89 |
//! | yawc | 12,275 | 18,951 | 0.91 to 0.94 | pongs that are too long | MPL-2.0, 72 crates |
//! | the same with small buffers | 4,612 | 4,627 | 0.91 to 0.94 | the same | |
//! | axum, with tokio-tungstenite | 132,873 | 316,192 | 0.74 to 0.78 | as that | MIT |
//!
//! `idle` is the resident bytes of a session on the server when a message of 64 bytes has gone there and back, then
//! one of 64 KiB; `rate` is echoes of 16 bytes in 64 sessions, against those of hyper alone, which copies bytes. All were
//! measured on one machine, with the same few lines around each; the README has what the handler costs as it is.
//!
//! `permessage-deflate` (RFC 7692) is not spoken: of these only yawc does. A handler that wants it has the frames of
//! another library with [`Handshake::accept_raw`].

#[cfg(feature = "client")]
mod client;
mod codec;
mod error;
mod frames;
mod handshake;
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
