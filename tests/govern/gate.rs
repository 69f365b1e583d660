//! A1: a foreign upgrader starts only if its upgrade response leaves the outermost layer.

use crate::{
    matrix::ROWS,
    support::{Peer, Server, until, websocket::Frame},
    upgraders::{Count, WEBSOCKETS, axum_websocket, handshake, raw},
};
use http::StatusCode;
use tokio::net::TcpStream;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _};
use tower_upgrade::UpgradeLayer;

#[tokio::test]
async fn a1_governed_websockets_echo() {
    for (name, upgrader) in WEBSOCKETS {
        let count = Count::default();
        let server =
            Server::start(UpgradeLayer::new().govern().layer(upgrader(count.clone()))).await;
        let mut peer = server.connect().await;
        // The first frame comes right behind the request.
        let hello = Frame::new(1, "hello").masked();
        peer.send([handshake(&[]).into_bytes(), hello].concat())
            .await;
        let head = peer.head().await;
        head.assert_upgraded("websocket");
        let accept = head.get("sec-websocket-accept");
        assert_eq!(
            accept.as_deref(),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "{name}"
        );
        assert_eq!(
            Frame::read(&mut peer).await.brief(),
            "1: \"hello\"",
            "{name}"
        );
        assert_eq!(count.get(), 1, "{name}");
    }
}

#[tokio::test]
async fn a1_replaced_upgrade_response_starts_nothing() {
    for (name, upgrader) in WEBSOCKETS {
        for row in ROWS {
            if row.undecided {
                continue;
            }
            let count = Count::default();
            let inner = (row.wrap)(upgrader(count.clone()));
            let server = Server::start(UpgradeLayer::new().govern().layer(inner)).await;
            let mut peer: Peer<TcpStream> = server.connect().await;
            peer.send(handshake(row.lines)).await;
            let head = peer.head().await;
            assert_eq!(head.status, row.status, "{name}, {}", row.name);
            assert_eq!(
                head.get("sec-websocket-accept"),
                None,
                "{name}, {}",
                row.name
            );
            peer.finish().await;
            let _ = peer.rest().await;
            server.connections_ended().await;
            assert_eq!(count.get(), 0, "{name}, {}", row.name);
        }
    }
}

/// Pins the failure that the gate prevents, and that `README.md` documents.
#[tokio::test]
async fn ungoverned_upgrader_starts_after_replaced_upgrade_response() {
    for (name, upgrader) in WEBSOCKETS {
        for row in ROWS {
            if row.undecided || !row.reaches_handler {
                continue;
            }
            let count = Count::default();
            let server = Server::start((row.wrap)(upgrader(count.clone()))).await;
            let mut peer: Peer<TcpStream> = server.connect().await;
            peer.send(handshake(row.lines)).await;
            assert_eq!(peer.head().await.status, row.status, "{name}, {}", row.name);
            peer.finish().await;
            until(|| count.get() == 1).await;
        }
    }
}

/// The connection serves further requests after the rejection.
#[tokio::test]
async fn a1_connection_stays_open_after_replaced_upgrade_response() {
    let count = Count::default();
    let inner = axum_websocket(count.clone()).map_response(|mut response| {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    });
    let server = Server::start(UpgradeLayer::new().govern().layer(inner)).await;
    let mut peer = server.connect().await;
    for _ in 0..3 {
        peer.send(handshake(&[])).await;
        assert_eq!(peer.response().await.0.status, 403);
    }
    assert_eq!(count.get(), 0);
}

#[tokio::test]
async fn a1_request_that_the_upgrader_rejects_leaves_the_connection_open() {
    let count = Count::default();
    let server = Server::start(UpgradeLayer::new().govern().layer(axum_websocket(count))).await;
    let mut peer = server.connect().await;
    let wrong = handshake(&[]).replace("Version: 13", "Version: 12");
    for _ in 0..2 {
        peer.send(&wrong).await;
        assert_eq!(peer.response().await.0.status, 400);
    }
    peer.send(handshake(&[])).await;
    peer.head().await.assert_upgraded("websocket");
}

#[tokio::test]
async fn a1_handlers_of_this_crate_inside_take_precedence() {
    let count = Count::default();
    let (foreign, own) = (raw(count.clone()), crate::support::handlers::echo());
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new().govern())
        .layer(UpgradeLayer::new().protocol("own", own))
        .service(foreign);
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(crate::support::offer("own", &[])).await;
    peer.head().await.assert_upgraded("own");
    peer.expect_echo(b"by the handler").await;
    assert_eq!(count.get(), 0);
    let mut peer = server.connect().await;
    peer.send(crate::support::offer("other", &[])).await;
    peer.head().await.assert_upgraded("other");
    peer.expect_echo(b"by the upgrader").await;
    until(|| count.get() == 1).await;
}

#[tokio::test]
async fn a8_ungoverned_upgrader_is_left_alone() {
    let count = Count::default();
    let server = Server::start(UpgradeLayer::new().layer(raw(count.clone()))).await;
    let mut peer = server.connect().await;
    peer.send(crate::support::offer("other", &[])).await;
    peer.head().await.assert_upgraded("other");
    peer.expect_echo(b"as without the layer").await;
}
