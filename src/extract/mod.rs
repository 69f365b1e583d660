//! axum extractors for routes that accept or reject upgrades themselves.
//!
//! The extractors require an [`UpgradeLayer`](crate::UpgradeLayer) around the router; the layer needs no handlers.
//! Without the layer, the extractors reject requests with 500 and emit a `tracing` event at level `ERROR`.
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
//!     .route("/echo", any(echo)) // `get` would reject HTTP/2 clients, whose method is CONNECT, with 405
//!     .route("/greet", any(greet))
//!     .layer(UpgradeLayer::new());
//! ```
//!
//! A route that serves requests with and without an upgrade takes [`MaybeUpgrade`], which returns the whole request if
//! the client does not ask for an upgrade. An `Option` of an extractor would lose the body.
//!
//! A layer with protocol handlers rejects an extended CONNECT for any other protocol before the request reaches a
//! route: see [`UpgradeLayer::unsupported`](crate::UpgradeLayer::unsupported).
//!
//! # From `axum::extract::ws`
//!
//! Add `UpgradeLayer::new()` to the router as its last `.layer(..)`, and return a `Result` from the callback.
//! The other methods correspond as follows:
//!
//! | `axum::extract::ws` | here |
//! |---|---|
//! | `WebSocketUpgrade` | [`WebSocketUpgrade`] |
//! | `.protocols(..)`, the server's order decides | [`config`](WebSocketUpgrade::config) with [`subprotocols`](crate::websocket::WebSocketConfig::subprotocols), the client's order decides; [`prefer_own_subprotocols`](crate::websocket::WebSocketConfig::prefer_own_subprotocols) |
//! | `.requested_protocols()` | [`requested_protocols`](WebSocketUpgrade::requested_protocols) |
//! | `.selected_protocol()` | [`selected_protocol`](WebSocketUpgrade::selected_protocol), and [`WebSocket::subprotocol`](crate::websocket::WebSocket::subprotocol) |
//! | `.max_message_size(..)`, 64 MiB | `config` with [`max_message_size`](crate::websocket::WebSocketConfig::max_message_size), 1 MiB |
//! | `.max_frame_size(..)`, 16 MiB | not needed: `max_message_size` also limits frames |
//! | `.read_buffer_size(..)`, `.write_buffer_size(..)`, `.max_write_buffer_size(..)` | not needed: an idle session holds no buffers |
//! | `.accept_unmasked_frames(..)` | not supported (RFC 6455 §5.1) |
//! | `.on_failed_upgrade(..)` | [`on_failed_upgrade`](WebSocketUpgrade::on_failed_upgrade); [`UpgradeLayer::on_close`](crate::UpgradeLayer::on_close) also gets the reason, but is not called if middleware replaced the upgrade response |
//! | `.on_upgrade(\|socket\| async { .. })` | [`on_upgrade`](WebSocketUpgrade::on_upgrade)`(\|socket\| async { .. Ok(()) })` |
//! | accepts pages of any origin | accepts pages of the same origin by default; `config` with [`any_origin`](crate::websocket::WebSocketConfig::any_origin) or [`origins`](crate::websocket::WebSocketConfig::origins) |
//! | `WebSocket`, `Message`, `CloseFrame`, `Utf8Bytes` | the same in [`websocket`](crate::websocket), where `message.to_text()` is [`as_text`](crate::websocket::Message::as_text) |
//! | `socket.recv()`, `socket.send(..)`, `StreamExt`, `SinkExt` | the same |
//!
//! The same code before and after the migration:
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
//!         websocket::{CloseFrame, Message, WebSocket, WebSocketConfig},
//!     };
//!
//!     async fn chat(upgrade: WebSocketUpgrade) -> Response {
//!         let config = WebSocketConfig::new()
//!             .subprotocols(["chat"])
//!             .max_message_size(64 * 1024)
//!             .any_origin(); // the behavior of axum; safer without
//!         let upgrade = upgrade
//!             .config(config)
//!             .on_failed_upgrade(|| eprintln!("the session did not start"));
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
