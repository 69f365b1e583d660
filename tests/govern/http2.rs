//! A6: axum's `ws` over HTTP/2, by extended CONNECT (RFC 8441).

use crate::{
    support::{Peer, Server, Via, h2, until, websocket::Frame},
    upgraders::{Count, axum_websocket},
};
use http::{Request, StatusCode};
use std::time::Duration;
use tower::{Layer as _, ServiceExt as _};
use tower_upgrade::{Sessions, UpgradeKind, UpgradeLayer};

fn handshake() -> Request<()> {
    h2::extended_connect("websocket")
        .header("sec-websocket-version", "13")
        .body(())
        .expect("a request")
}

/// Starts a server with governed sessions, and connects to it.
async fn start(layer: UpgradeLayer, count: Count) -> (Server, h2::Client) {
    let app = layer.govern().layer(axum_websocket(count));
    let server = Server::start_via(Via::Http2, app).await;
    let client = h2::Client::connect(server.connect().await).await;
    (server, client)
}

async fn open(client: &mut h2::Client) -> Peer<h2::Stream> {
    let mut peer = client.ask(handshake()).await.expect_upgraded();
    peer.send(Frame::new(1, "hello").masked()).await;
    assert_eq!(Frame::read(&mut peer).await.brief(), "1: \"hello\"");
    peer
}

/// Expects a close frame with 1001, answers it, and expects the end of the stream.
async fn expect_close(mut peer: Peer<h2::Stream>) {
    let close = Frame::read(&mut peer).await;
    assert_eq!((close.opcode(), &close.payload[..2]), (8, &[3, 233][..]));
    peer.send(Frame::close(1001, "").masked()).await;
    peer.finish().await;
    assert_eq!(peer.rest().await.expect("an orderly end"), b"");
}

#[tokio::test]
async fn a6_websocket_over_http2_echoes_and_is_listed() {
    let sessions = Sessions::new();
    let count = Count::default();
    let layer = UpgradeLayer::new().sessions(sessions.clone());
    let (_server, mut client) = start(layer, count.clone()).await;
    let first = open(&mut client).await;
    let id = sessions.list()[0].id();
    let mut second = open(&mut client).await;
    for session in sessions.list() {
        assert_eq!(session.kind(), UpgradeKind::ExtendedConnect);
        assert_eq!(session.protocol().expect("a protocol"), &"websocket");
    }
    assert_eq!((count.get(), sessions.len()), (2, 2));

    assert!(sessions.close(id, Duration::from_secs(20)));
    expect_close(first).await;
    until(|| sessions.len() == 1).await;
    second.send(Frame::new(1, "hello").masked()).await;
    assert_eq!(Frame::read(&mut second).await.brief(), "1: \"hello\"");
}

#[tokio::test]
async fn a6_replaced_upgrade_response_over_http2_starts_nothing() {
    let count = Count::default();
    let inner = axum_websocket(count.clone()).map_response(|mut response| {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    });
    let app = UpgradeLayer::new().govern().layer(inner);
    let server = Server::start_via(Via::Http2, app).await;
    let mut client = h2::Client::connect(server.connect().await).await;
    for _ in 0..2 {
        let refused = client.ask(handshake()).await.refused().await;
        assert_eq!(refused, (403, String::new()));
    }
    drop(client);
    server.connections_ended().await;
    assert_eq!(count.get(), 0);
}

#[tokio::test]
async fn a6_websocket_over_the_limit_over_http2_is_a_503() {
    let sessions = Sessions::builder().max(1).build();
    let count = Count::default();
    let layer = UpgradeLayer::new().sessions(sessions.clone());
    let (_server, mut client) = start(layer, count.clone()).await;
    let mut first = open(&mut client).await;
    let refused = client.ask(handshake()).await;
    assert_eq!(refused.head.status(), 503);
    assert!(refused.head.headers().contains_key("retry-after"));
    assert_eq!(count.get(), 1);
    first.finish().await;
    let _ = first.rest().await;
    until(|| sessions.is_empty()).await;
    open(&mut client).await;
}

#[tokio::test]
async fn a6_drain_closes_websocket_over_http2_with_1001() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone());
    let (_server, mut client) = start(layer, Count::default()).await;
    let peer = open(&mut client).await;
    let (report, ()) = tokio::join!(sessions.drain(Duration::from_secs(20)), expect_close(peer));
    assert_eq!((report.aborted, report.left), (0, 0), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a6_lifetime_closes_websocket_over_http2_with_1001() {
    let layer = UpgradeLayer::new().lifetime(Duration::from_secs(20));
    let (_server, mut client) = start(layer, Count::default()).await;
    expect_close(open(&mut client).await).await;
}

#[tokio::test(start_paused = true)]
async fn a6_idle_websocket_over_http2_ends() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .idle_timeout(Duration::from_secs(20));
    let (_server, mut client) = start(layer, Count::default()).await;
    let mut peer = open(&mut client).await;
    let _ = peer.rest().await;
    until(|| sessions.is_empty()).await;
}
