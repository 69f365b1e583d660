//! axum's own `WebSocketUpgrade`.

use axum::{
    Router,
    extract::ws::{WebSocket, WebSocketUpgrade},
    routing::any,
};
use tower_upgrade_foreign::{Starts, Step, Upgrader, boxed, checks};

async fn echo(mut socket: WebSocket, starts: Starts) {
    starts.add();
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

fn upgrader() -> Upgrader {
    let starts = Starts::default();
    let counted = starts.clone();
    let handler = move |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|socket| echo(socket, counted))
    };
    Upgrader {
        service: boxed(Router::new().route("/ws", any(handler))),
        starts,
        path: "/ws",
        subprotocol: None,
        dialogue: &[Step::Send("hello"), Step::Expect("hello")],
    }
}

checks!(upgrader());
