//! A3: limits, time limits and reports hold for governed sessions as for those of handlers.

use crate::{
    support::{Peer, Server, until},
    upgraders::{Count, axum_websocket, handshake, raw, websocket},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpStream;
use tower::{Layer as _, ServiceExt as _};
use tower_upgrade::{Closed, Identity, Sessions, UpgradeKind, UpgradeLayer};

type Reports = Arc<Mutex<Vec<Closed>>>;

fn reporting() -> (UpgradeLayer, Reports) {
    let reports = Reports::default();
    let layer = UpgradeLayer::new().govern();
    let layer = layer.on_close({
        let reports = Arc::clone(&reports);
        move |closed: &Closed| reports.lock().expect("no panic").push(closed.clone())
    });
    (layer, reports)
}

async fn open(server: &Server) -> Peer<TcpStream> {
    let mut peer = server.connect().await;
    peer.send(crate::support::offer("raw", &[])).await;
    peer.head().await.assert_upgraded("raw");
    peer
}

async fn only(reports: &Reports) -> Closed {
    until(|| !reports.lock().expect("no panic").is_empty()).await;
    let mut reports = reports.lock().expect("no panic");
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

#[tokio::test]
async fn a3_session_is_listed_counted_and_reported() {
    let sessions = Sessions::builder().max(1).build();
    let (layer, reports) = reporting();
    let layer = layer.sessions(sessions.clone());
    let server = Server::start(layer.layer(raw(Count::default()))).await;
    let mut peer = open(&server).await;
    peer.expect_echo(b"four").await;
    let list = sessions.list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].kind(), UpgradeKind::Upgrade);
    assert_eq!(list[0].protocol().expect("a protocol"), &"raw");
    assert_eq!((list[0].bytes_read(), list[0].bytes_written()), (4, 4));

    let mut second = server.connect().await;
    second.send(crate::support::offer("raw", &[])).await;
    let (head, _) = second.response().await;
    assert_eq!(head.status, 503);
    assert!(head.get("retry-after").is_some());

    peer.finish().await;
    assert_eq!(peer.rest().await.expect("an orderly end"), b"");
    let closed = only(&reports).await;
    assert_eq!(closed.reason().as_str(), "finished");
    assert_eq!((closed.bytes_read(), closed.bytes_written()), (4, 4));
    until(|| sessions.is_empty()).await;
    open(&server).await;
}

#[tokio::test]
async fn a3_permit_is_released_when_the_upgrader_rejects() {
    let sessions = Sessions::builder().max(1).build();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(axum_websocket(Count::default()))).await;
    let mut peer = server.connect().await;
    for _ in 0..3 {
        peer.send(handshake(&[]).replace("Version: 13", "Version: 12"))
            .await;
        assert_eq!(peer.response().await.0.status, 400);
        assert_eq!(sessions.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a3_idle_session_ends() {
    let (layer, reports) = reporting();
    let layer = layer.idle_timeout(Duration::from_secs(20));
    let server = Server::start(layer.layer(raw(Count::default()))).await;
    let mut peer = open(&server).await;
    peer.expect_echo(b"four").await;
    assert_eq!(peer.rest().await.expect("an orderly end"), b"");
    assert_eq!(only(&reports).await.reason().as_str(), "idle");
}

#[tokio::test(start_paused = true)]
async fn a3_session_of_unknown_protocol_ends_in_a_quiet_second_of_a_drain() {
    let sessions = Sessions::new();
    let (layer, reports) = reporting();
    let layer = layer.sessions(sessions.clone());
    let server = Server::start(layer.layer(raw(Count::default()))).await;
    let mut peer = open(&server).await;
    peer.expect_echo(b"four").await;
    let report = sessions.drain(Duration::from_secs(60)).await;
    assert_eq!((report.aborted, report.left), (0, 0), "{report}");
    assert_eq!(peer.rest().await.expect("an orderly end"), b"");
    let closed = only(&reports).await;
    assert_eq!(closed.reason().as_str(), "drained");
    assert!(closed.duration() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a3_upgrader_that_does_not_end_is_aborted() {
    let sessions = Sessions::new();
    let (layer, reports) = reporting();
    let layer = layer.sessions(sessions.clone());
    // Keeps its IO, and never reads or writes.
    let inner = websocket(|io| async move {
        let _io = io;
        std::future::pending().await
    });
    let server = Server::start(layer.layer(inner)).await;
    let mut peer = server.connect().await;
    peer.send(handshake(&[])).await;
    peer.head().await.assert_upgraded("websocket");
    let report = sessions.drain(Duration::from_secs(5)).await;
    assert_eq!((report.aborted, report.left), (1, 0), "{report}");
    assert_eq!(only(&reports).await.reason().as_str(), "aborted");
}

#[tokio::test]
async fn a3_nested_layers_admit_a_session_once() {
    let sessions = Sessions::builder().max(1).build();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let own = UpgradeLayer::new().protocol("own", crate::support::handlers::echo());
    // The same layer twice, and handlers of this crate inside.
    let service = layer
        .clone()
        .layer(layer.layer(own.layer(raw(Count::default()))));
    let server = Server::start(service).await;
    for protocol in ["raw", "own", "raw"] {
        let mut peer = server.connect().await;
        peer.send(crate::support::offer(protocol, &[])).await;
        peer.head().await.assert_upgraded(protocol);
        peer.expect_echo(b"once").await;
        assert_eq!(
            (sessions.len(), sessions.list().len()),
            (1, 1),
            "{protocol}"
        );
        peer.finish().await;
        assert_eq!(peer.rest().await.expect("an orderly end"), b"");
        until(|| sessions.is_empty()).await;
    }
}

#[tokio::test]
async fn a3_session_has_the_identity_of_its_request_or_response() {
    for (of_response, expected) in [(false, "request"), (true, "response")] {
        let sessions = Sessions::new();
        let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
        let inner = raw(Count::default()).map_response(move |mut response| {
            if of_response {
                response
                    .extensions_mut()
                    .insert(Identity::new("response".to_owned()));
            }
            response
        });
        let service = layer
            .layer(inner)
            .map_request(|mut request: http::Request<_>| {
                request
                    .extensions_mut()
                    .insert(Identity::new("request".to_owned()));
                request
            });
        let server = Server::start(service).await;
        let _peer = open(&server).await;
        assert_eq!(sessions.count_of(&Identity::new(expected.to_owned())), 1);
    }
}

/// The upgrader keeps the extensions of a request that it rejects.
#[tokio::test]
async fn a3_permit_is_released_while_the_extensions_live_on() {
    let sessions = Sessions::builder().max(1).build();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let inner = tower::service_fn({
        let kept = Arc::clone(&kept);
        move |request: http::Request<hyper::body::Incoming>| {
            let (parts, _) = request.into_parts();
            kept.lock().expect("no panic").push(parts);
            async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
        }
    });
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(inner)).await;
    let mut peer = server.connect().await;
    for number in 1..4 {
        peer.send(crate::support::offer("raw", &[])).await;
        assert_eq!(peer.response().await.0.status, 200);
        assert_eq!(
            (kept.lock().expect("no panic").len(), sessions.len()),
            (number, 0)
        );
    }
}

/// Many clients send `Upgrade: h2c` with ordinary requests, which must not count as sessions.
#[tokio::test]
async fn a3_offer_of_http_only_is_not_governed() {
    let sessions = Sessions::builder().max(0).build();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(tower::service_fn(crate::support::plain))).await;
    let mut peer = server.connect().await;
    for (offer, status) in [("h2c", 200), ("TLS/1.0, HTTP/2.0", 200), ("h2c, raw", 503)] {
        peer.send(crate::support::offer(offer, &[])).await;
        assert_eq!(peer.response().await.0.status, status, "{offer}");
    }
}
