//! axum's `WebSocketUpgrade`: it works inside an `UpgradeLayer` as it does without one, and it shows the
//! failure that the gate prevents.

use crate::{
    matrix::{Boxed, ROWS, Row, boxed},
    support::{Peer, Server, handlers::echo, head},
};
use axum::{
    Router,
    extract::ws::{Message, WebSocketUpgrade},
    routing::any,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::net::TcpStream;
use tower::{Layer as _, ServiceBuilder};
use tower_upgrade::UpgradeLayer;

/// An axum WebSocket route that counts its sessions and sends `hello` in each.
fn axum_websocket(started: Arc<AtomicUsize>, undecided: bool) -> Boxed {
    let handler = move |upgrade: WebSocketUpgrade| async move {
        if undecided {
            std::future::pending::<()>().await;
        }
        upgrade.on_upgrade(move |mut socket| async move {
            started.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send(Message::from("hello")).await;
        })
    };
    boxed(Router::new().route("/", any(handler)))
}

fn websocket(lines: &[&str]) -> String {
    let mut all = vec![
        "GET / HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    all.extend(lines);
    head(&all)
}

/// An unmasked text frame with the payload `hello`.
const HELLO: &[u8] = b"\x81\x05hello";

#[tokio::test]
async fn axum_websocket_extractor_works_inside_the_layer() {
    let started = Arc::new(AtomicUsize::new(0));
    let inner = axum_websocket(Arc::clone(&started), false);
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(inner);
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(websocket(&[])).await;
    let head = peer.head().await;
    head.assert_upgraded("websocket");
    assert_eq!(
        head.get("sec-websocket-accept").as_deref(),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    );
    assert_eq!(peer.exactly(HELLO.len()).await, HELLO);
    assert_eq!(started.load(Ordering::SeqCst), 1);
}

/// Returns whether axum's handler ran after the response became a refusal, and whether its bytes reached the
/// client.
async fn runs_after_refusal(row: &Row) -> (bool, bool) {
    let started = Arc::new(AtomicUsize::new(0));
    let inner = axum_websocket(Arc::clone(&started), row.undecided);
    let server = Server::start(UpgradeLayer::new().layer((row.wrap)(inner))).await;
    let mut peer: Peer<TcpStream> = server.connect().await;
    peer.send(websocket(row.lines)).await;
    assert_eq!(peer.head().await.status, row.status, "{}", row.name);
    peer.finish().await;
    let rest = peer.rest().await.unwrap_or_default();
    server.connections_ended().await;
    (
        started.load(Ordering::SeqCst) > 0,
        rest.windows(HELLO.len()).any(|window| window == HELLO),
    )
}

/// Pins the behaviour of upgraders without a gate that `README.md` documents: when a layer turns the upgrade
/// response into a refusal, axum's handler still runs on the live connection.
#[tokio::test]
async fn axum_websocket_handler_runs_after_replaced_response() {
    let mut ran = Vec::new();
    for row in ROWS {
        let (started, reached_client) = runs_after_refusal(row).await;
        assert_eq!(started, reached_client, "{}", row.name);
        if started {
            ran.push(row.name);
        }
    }
    assert_eq!(
        ran,
        [
            "CompressionLayer answers 406",
            "map_response rewrites the status",
            "map_response replaces the response",
            "map_response moves the head into a refusal",
            "map_response makes it a success",
            "CatchPanicLayer answers 500",
            "TraceLayer, with a rewriting layer inside",
        ]
    );
}
