//! WebSocket (RFC 6455), over HTTP/1.1 and HTTP/2 (RFC 8441).

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
