//! WebSocket echo servers of this crate and of axum, and clients that send frames as raw bytes.

use crate::support::{Client, not_found, serve};
use axum::{extract::ws, routing::get};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    BoxError, Session, Sessions, UpgradeLayer,
    websocket::{Message, WebSocket, websocket},
};

/// Serves an echo with this crate's `websocket` handler.
pub(crate) async fn serve_websocket(listener: TcpListener) -> io::Result<()> {
    let layer = UpgradeLayer::new().protocol("websocket", websocket(echo));
    serve(listener, layer.layer(service_fn(async |_| Ok(not_found())))).await
}

/// Serves an echo with axum's `WebSocketUpgrade` and its defaults.
pub(crate) async fn serve_axum(listener: TcpListener) -> io::Result<()> {
    let upgrade = async |upgrade: ws::WebSocketUpgrade| upgrade.on_upgrade(echo_axum);
    serve(listener, axum::Router::new().route("/", get(upgrade))).await
}

/// Serves the same under a layer that governs it.
#[allow(dead_code, reason = "only one benchmark compares it")]
pub(crate) async fn serve_governed_axum(listener: TcpListener) -> io::Result<()> {
    let upgrade = async |upgrade: ws::WebSocketUpgrade| upgrade.on_upgrade(echo_axum);
    let govern = UpgradeLayer::new().sessions(Sessions::new()).govern();
    let app = axum::Router::new().route("/", get(upgrade)).layer(govern);
    serve(listener, app).await
}

async fn echo(mut socket: WebSocket, session: Session) -> Result<(), BoxError> {
    drop(session);
    while let Some(message) = socket.recv().await {
        if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn echo_axum(mut socket: ws::WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, ws::Message::Text(_) | ws::Message::Binary(_))
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}

/// Connects a WebSocket client.
pub(crate) async fn connect(server: SocketAddr) -> io::Result<Client> {
    let headers = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    Client::upgrade(server, headers).await
}

/// A masked binary frame and the expected answer.
pub(crate) struct Frame {
    sent: Vec<u8>,
    expected: Vec<u8>,
}

impl Frame {
    /// Makes a frame of `bytes` payload bytes. With `copied` the server echoes bytes, and the answer is masked.
    pub(crate) fn new(copied: bool, bytes: usize) -> Arc<Self> {
        const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
        let payload: Vec<_> = (0..bytes).map(|at| at as u8).collect();
        let header = |mask: u8| match u16::try_from(bytes) {
            Ok(length @ 0..126) => vec![0x82, mask | length as u8],
            Ok(length) => [&[0x82, mask | 126][..], &length.to_be_bytes()].concat(),
            Err(_) => [&[0x82, mask | 127][..], &(bytes as u64).to_be_bytes()].concat(),
        };
        let mut sent = header(0x80);
        sent.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        sent.extend(masked.map(|(byte, mask)| byte ^ mask));
        let expected = if copied {
            sent.clone()
        } else {
            [header(0), payload].concat()
        };
        Arc::new(Self { sent, expected })
    }

    /// Sends the frame `times` times, and waits for each answer.
    pub(crate) async fn echo(&self, client: &mut Client, times: usize) -> io::Result<()> {
        let mut answer = vec![0; self.expected.len()];
        for _ in 0..times {
            client
                .exchange(&self.sent, &self.expected, &mut answer)
                .await?;
        }
        Ok(())
    }
}

/// Runs `share` echoes in each session, with all sessions at the same time, and returns their number.
pub(crate) async fn echoes(
    clients: &mut Vec<Client>,
    frame: &Arc<Frame>,
    share: usize,
) -> Result<usize, BoxError> {
    let mut echoing = JoinSet::new();
    for mut client in clients.drain(..) {
        let frame = Arc::clone(frame);
        echoing.spawn(async move {
            frame.echo(&mut client, share).await?;
            Ok::<_, io::Error>(client)
        });
    }
    while let Some(client) = echoing.join_next().await {
        clients.push(client??);
    }
    Ok(share * clients.len())
}
