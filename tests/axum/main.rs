//! The extractors, in axum routes over a real server.

#[path = "../support/mod.rs"]
mod support;

mod any_protocol;
mod permits;
mod websocket;

use axum::response::Response;
use support::{Head, Peer, Server, handlers::run_echo, offer};
use tokio::net::TcpStream;
use tower_upgrade::{
    Accept,
    extract::UpgradeRequest,
    websocket::{Message, WebSocket},
};

async fn echo(upgrade: UpgradeRequest) -> Response {
    upgrade.accept("echo", Accept::new(run_echo)).await
}

async fn speak(mut socket: WebSocket) -> Result<(), tower_upgrade::BoxError> {
    while let Some(message) = socket.recv().await {
        if let message @ Message::Text(_) = message? {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// An opening handshake, with more lines.
fn opening(more: &[&str]) -> String {
    let mut lines = vec![
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    lines.extend(more);
    offer("websocket", &lines)
}

async fn ask(server: &Server, request: impl AsRef<[u8]>) -> (Head, Peer<TcpStream>) {
    let mut peer = server.connect().await;
    peer.send(request).await;
    let head = peer.head().await;
    (head, peer)
}
