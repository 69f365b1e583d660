//! The servers under test: each echoes messages.

use crate::support::{Server, Via, plain};
use axum::{Router, routing::any};
use hyper_util::client::legacy::connect::HttpConnector;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    BoxError, UpgradeLayer,
    client::Dial,
    extract::WebSocketUpgrade,
    tunnel::ReverseProxy,
    websocket::{Deflate, Message, WebSocket, WebSocketConfig, websocket},
};

/// The settings of both sides. The longest message of the suite has 16 MiB. Even the shortest message is compressed.
pub(crate) const CONFIG: WebSocketConfig = WebSocketConfig::new()
    .max_message_size(16 << 20)
    .deflate(Deflate::new().min_size(0).context_takeover(1000));

pub(crate) async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await {
        let message = message?;
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            socket.send(message).await?;
        }
    }
    Ok(())
}

pub(crate) async fn handler(via: Via) -> Server {
    let handler = websocket(|socket, _session| echo(socket)).config(CONFIG);
    let layer = UpgradeLayer::new().protocol("websocket", handler);
    Server::start_via(via, layer.layer(service_fn(plain))).await
}

pub(crate) async fn extractor() -> Server {
    let route = any(|upgrade: WebSocketUpgrade| async { upgrade.config(CONFIG).on_upgrade(echo) });
    let app = Router::new().route("/", route).layer(UpgradeLayer::new());
    Server::start_via(Via::Auto, app).await
}

/// Starts a reverse proxy and its backend, a server with the handler.
pub(crate) async fn behind_reverse_proxy(via: Via) -> (Server, Server) {
    let backend = handler(via).await;
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    let uri = format!("http://{}", backend.address);
    let mut dial = Dial::new(tcp).destination(uri.parse().expect("a URI"));
    if via == Via::Http2 {
        dial = dial.http2_only();
    }
    let proxy = ReverseProxy::new(dial);
    let app = UpgradeLayer::new().any_protocol(proxy.clone()).layer(proxy);
    (Server::start_via(Via::Auto, app).await, backend)
}
