//! Extractors for axum: for routes that decide for themselves.
//!
//! What they extract goes through the gate of an [`UpgradeLayer`](crate::UpgradeLayer), which has to be around the
//! router, with no handler of its own if it needs none. Without one they answer 500, and an event of the level `ERROR`
//! says so.
//!
#![cfg_attr(feature = "websocket", doc = "```")]
#![cfg_attr(not(feature = "websocket"), doc = "```ignore")]
//! use axum::{Router, response::Response, routing::any};
//! use tower_upgrade::{
//!     Accept, UpgradeLayer,
//!     extract::{UpgradeRequest, WebSocketUpgrade},
//!     copy,
//!     websocket::WebSocket,
//! };
//!
//! async fn echo(upgrade: UpgradeRequest) -> Response {
//!     let echo = Accept::new(|session| async move {
//!         let (mut reader, mut writer) = tokio::io::split(session.into_io());
//!         copy(&mut reader, &mut writer).await?;
//!         Ok(())
//!     });
//!     upgrade.accept("echo", echo).await
//! }
//!
//! async fn greet(upgrade: WebSocketUpgrade) -> Response {
//!     upgrade.on_upgrade(|mut socket: WebSocket| async move {
//!         socket.send("hello").await?;
//!         Ok(())
//!     })
//! }
//!
//! let app: Router = Router::new()
//!     .route("/echo", any(echo)) // with `get` a client over HTTP/2 is answered with 405
//!     .route("/greet", any(greet))
//!     .layer(UpgradeLayer::new());
//! ```
//!
//! A route that serves requests with and without an upgrade takes [`MaybeUpgrade`], which gives back the whole request
//! if it does not ask for one. (An `Option` of an extractor would lose the body.) A layer that has protocols of its own refuses
//! an extended CONNECT for others before any route sees it: see
//! [`UpgradeLayer::unsupported`](crate::UpgradeLayer::unsupported).
//!
//! # From `axum::extract::ws`
//!
//! Put an `UpgradeLayer::new()` around the router, as its last `.layer(..)`, and let the callback
//! end with a `Result`. The rest is much the same:
//!
//! | `axum::extract::ws` | here |
//! |---|---|
//! | `WebSocketUpgrade` | [`WebSocketUpgrade`] |
//! | `.protocols(..)`, the server's order decides | [`protocols`](WebSocketUpgrade::protocols), the client's order decides; [`prefer_own_protocols`](WebSocketUpgrade::prefer_own_protocols) |
//! | `.requested_protocols()` | [`requested_protocols`](WebSocketUpgrade::requested_protocols) |
//! | `.selected_protocol()` | [`selected_protocol`](WebSocketUpgrade::selected_protocol), and [`WebSocket::subprotocol`](crate::websocket::WebSocket::subprotocol) |
//! | `.max_message_size(..)`, 64 MiB | [`max_message_size`](WebSocketUpgrade::max_message_size), 1 MiB |
//! | `.max_frame_size(..)`, 16 MiB | not needed: a frame may be as long as a message |
//! | `.read_buffer_size(..)`, `.write_buffer_size(..)`, `.max_write_buffer_size(..)` | there are no buffers while nothing comes |
//! | `.accept_unmasked_frames(..)` | not to be had (RFC 6455 §5.1) |
//! | `.on_failed_upgrade(..)` | [`on_failed_upgrade`](WebSocketUpgrade::on_failed_upgrade); with its reason, unless a layer made something else of the switch, [`UpgradeLayer::on_close`](crate::UpgradeLayer::on_close) |
//! | `.on_upgrade(\|socket\| async { .. })` | [`on_upgrade`](WebSocketUpgrade::on_upgrade)`(\|socket\| async { .. Ok(()) })` |
//! | pages of any origin | pages of the same origin; [`any_origin`](WebSocketUpgrade::any_origin), [`origins`](WebSocketUpgrade::origins) |
//! | `WebSocket`, `Message`, `CloseFrame`, `Utf8Bytes` | the same in [`websocket`](crate::websocket), where `message.to_text()` is [`as_text`](crate::websocket::Message::as_text) |
//! | `socket.recv()`, `socket.send(..)`, `StreamExt`, `SinkExt` | the same |
//!
//! Row by row, before and after:
//!
#![cfg_attr(feature = "websocket", doc = "```")]
#![cfg_attr(not(feature = "websocket"), doc = "```ignore")]
//! # #[allow(dead_code)]
//! mod before {
//!     use axum::{
//!         extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
//!         response::Response,
//!     };
//!     use futures_util::{SinkExt as _, StreamExt as _};
//!
//!     async fn chat(upgrade: WebSocketUpgrade) -> Response {
//!         let upgrade = upgrade
//!             .protocols(["chat"])
//!             .max_message_size(64 * 1024)
//!             .max_frame_size(64 * 1024)
//!             .read_buffer_size(4 * 1024)
//!             .write_buffer_size(4 * 1024)
//!             .max_write_buffer_size(64 * 1024)
//!             .on_failed_upgrade(|error| eprintln!("{error}"));
//!         println!("{} offered", upgrade.requested_protocols().count());
//!         println!("{:?} chosen", upgrade.selected_protocol());
//!         upgrade.on_upgrade(talk)
//!     }
//!
//!     async fn talk(mut socket: WebSocket) {
//!         println!("{:?} chosen", socket.protocol());
//!         while let Some(Ok(message)) = socket.recv().await {
//!             match message {
//!                 Message::Text(text) => drop(socket.send(Message::Text(text)).await),
//!                 Message::Binary(_) => break,
//!                 Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
//!             }
//!         }
//!         let (mut sink, mut stream) = socket.split();
//!         let goodbye = CloseFrame { code: 1003, reason: "text, please".into() };
//!         let _ = sink.send(Message::Close(Some(goodbye))).await;
//!         while let Some(Ok(_)) = stream.next().await {}
//!     }
//! }
//!
//! # #[allow(dead_code)]
//! mod after {
//!     use axum::response::Response;
//!     use futures_util::{SinkExt as _, StreamExt as _};
//!     use tower_upgrade::{
//!         BoxError,
//!         extract::WebSocketUpgrade,
//!         websocket::{CloseFrame, Message, WebSocket},
//!     };
//!
//!     async fn chat(upgrade: WebSocketUpgrade) -> Response {
//!         let upgrade = upgrade
//!             .protocols(["chat"])
//!             .max_message_size(64 * 1024)
//!             .any_origin() // as it was; better leave it out
//!             .on_failed_upgrade(|| eprintln!("the session never started"));
//!         println!("{} offered", upgrade.requested_protocols().count());
//!         println!("{:?} chosen", upgrade.selected_protocol());
//!         upgrade.on_upgrade(talk)
//!     }
//!
//!     async fn talk(mut socket: WebSocket) -> Result<(), BoxError> {
//!         println!("{:?} chosen", socket.subprotocol());
//!         while let Some(message) = socket.recv().await {
//!             match message? {
//!                 Message::Text(text) => socket.send(Message::Text(text)).await?,
//!                 Message::Binary(_) => break,
//!                 Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
//!             }
//!         }
//!         let (mut sink, mut stream) = socket.split();
//!         let goodbye = CloseFrame { code: 1003, reason: "text, please".into() };
//!         sink.send(Message::Close(Some(goodbye))).await?;
//!         while let Some(message) = stream.next().await {
//!             message?;
//!         }
//!         Ok(())
//!     }
//! }
//! ```

mod maybe;
mod upgrade;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(feature = "websocket")]
pub use self::websocket::WebSocketUpgrade;
pub use self::{maybe::MaybeUpgrade, upgrade::UpgradeRequest};

use crate::message::{body::ErasedBody, rejection::Rejection};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        response(self.into_response())
    }
}

fn response(response: http::Response<ErasedBody>) -> Response {
    response.map(Body::new)
}
