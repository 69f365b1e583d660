//! A2, A4 and A6: the request that the upgrader sees, and the upgrade response that leaves.

use crate::{
    matrix::boxed,
    support::{Peer, Server, Via, h2, head, until},
    upgraders::{Count, raw},
};
use axum::{Router, body::Body, extract::Request, routing::any};
use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use std::convert::Infallible;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{PendingUpgrade, UpgradeLayer, Upgraded, UpgradedParts};

fn switching(upgrade: &str, more: &[(&str, &str)]) -> Response<String> {
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", upgrade);
    for (name, value) in more {
        response = response.header(*name, *value);
    }
    response.body(String::new()).expect("a response")
}

#[tokio::test]
async fn a2_upgrader_sees_the_request_as_it_was_sent() {
    let seen = |request: &http::Request<Incoming>| {
        let names: Vec<_> = request.headers().keys().map(|name| name.as_str()).collect();
        format!(
            "{} {} {:?} {names:?}",
            request.method(),
            request.uri(),
            request.version()
        )
    };
    let inner = service_fn(move |request| {
        let response = Response::new(seen(&request));
        async move { Ok::<_, Infallible>(response) }
    });
    let request = head(&[
        "POST /x?y HTTP/1.1",
        "Host: test",
        "Connection: keep-alive, Upgrade",
        "Upgrade: a, b/2",
        "Cookie: c",
    ]);
    let mut texts = Vec::new();
    for layer in [UpgradeLayer::new(), UpgradeLayer::new().govern()] {
        let server = Server::start(layer.layer(inner)).await;
        let mut peer = server.connect().await;
        peer.send(&request).await;
        texts.push(peer.response().await.1);
    }
    assert!(texts[0].starts_with("POST /x?y HTTP/1.1"), "{}", texts[0]);
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test]
async fn a4_invalid_upgrade_response_is_a_500() {
    for (upgrade, more) in [
        ("other", &[][..]),
        ("echo, echo/2", &[]),
        ("", &[]),
        ("echo/3", &[]),
    ] {
        let inner = service_fn(move |_request: http::Request<Incoming>| async move {
            Ok::<_, Infallible>(switching(upgrade, more))
        });
        let server = Server::start(UpgradeLayer::new().govern().layer(inner)).await;
        let mut peer = server.connect().await;
        peer.send(crate::support::offer("echo, echo/2", &[])).await;
        let (head, _) = peer.response().await;
        assert_eq!(head.status, 500, "{upgrade}");
        assert_eq!(head.get("upgrade"), None);
    }
}

#[tokio::test]
async fn a4_forbidden_fields_do_not_leave() {
    let fields = [
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("x", "kept"),
    ];
    let inner = service_fn(move |_request: http::Request<Incoming>| async move {
        Ok::<_, Infallible>(switching("echo", &fields))
    });
    let server = Server::start(UpgradeLayer::new().govern().layer(inner)).await;
    let mut peer = server.connect().await;
    peer.send(crate::support::offer("echo", &[])).await;
    let head = peer.head().await;
    head.assert_upgraded("echo");
    assert_eq!(head.get("x").as_deref(), Some("kept"));
    assert_eq!(
        (head.get("content-length"), head.get("transfer-encoding")),
        (None, None)
    );
}

/// Answers 101 without reading the body, and echoes.
fn unread() -> Router {
    Router::new().route(
        "/",
        any(|mut request: Request| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let Ok(io) = upgrade.await else { return };
                let (mut reader, mut writer) = tokio::io::split(hyper_util::rt::TokioIo::new(io));
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            switching("echo", &[]).map(Body::from)
        }),
    )
}

#[tokio::test]
async fn a4_unread_body_is_not_read_as_the_new_protocol() {
    let server = Server::start(boxed(unread().layer(UpgradeLayer::new().govern()))).await;
    let mut peer = server.connect().await;
    let request = head(&[
        "POST / HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: echo",
        "Content-Length: 10",
    ]);
    peer.send(format!("{request}body")).await;
    // No 101 within the body.
    peer.send("-of10").await;
    peer.send("!then").await;
    peer.head().await.assert_upgraded("echo");
    assert_eq!(peer.exactly(4).await, b"then");
}

#[tokio::test]
async fn a4_long_unread_body_is_a_413() {
    let layer = UpgradeLayer::new().govern().body_limit(5);
    let server = Server::start(boxed(unread().layer(layer))).await;
    let mut peer = server.connect().await;
    let request = head(&[
        "POST / HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: echo",
        "Content-Length: 10",
    ]);
    peer.send(format!("{request}body-of10!")).await;
    let (head, _) = peer.response().await;
    assert_eq!(head.status, 413);
    assert_eq!(head.get("connection").as_deref(), Some("close"));
}

/// The layer cannot read the rest of a body of hyper's own type, so the request has no upgrade.
#[tokio::test]
async fn a4_request_with_a_body_that_cannot_be_followed_does_not_upgrade() {
    let count = Count::default();
    let server = Server::start(UpgradeLayer::new().govern().layer(raw(count.clone()))).await;
    let mut peer = server.connect().await;
    let request = head(&[
        "POST / HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: echo",
        "Content-Length: 4",
    ]);
    peer.send(format!("{request}body")).await;
    assert_eq!(peer.response().await.0.status, 500);
    server.abort_connections();
    assert_eq!(count.get(), 0);
}

#[tokio::test]
async fn a6_connect_over_both_versions() {
    let count = Count::default();
    let app = UpgradeLayer::new().govern().layer(raw(count.clone()));
    let server = Server::start(app.clone()).await;
    let mut peer = server.connect().await;
    peer.send(head(&["CONNECT test:443 HTTP/1.1", "Host: test:443"]))
        .await;
    assert_eq!(peer.head().await.status, 200);
    peer.expect_echo(b"tunnel").await;

    let server = Server::start_via(Via::Http2, app).await;
    let mut client = h2::Client::connect(server.connect().await).await;
    let request = h2::connect("test:443").body(()).expect("a request");
    let mut peer = client.ask(request).await.expect_upgraded();
    peer.expect_echo(b"tunnel").await;
    until(|| count.get() == 2).await;
}

#[tokio::test]
async fn a6_upgrade_of_another_server() {
    let (io, peer) = tokio::io::duplex(1024);
    let mut request = http::Request::get("/")
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Body::empty())
        .expect("a request");
    let pending = PendingUpgrade::new(async {
        Ok(Upgraded::from_parts(UpgradedParts::new(io, Bytes::new())))
    });
    request.extensions_mut().insert(pending);
    let app = unread().layer(UpgradeLayer::new().govern());
    let response = app.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), 101);
    Peer::new(peer).expect_echo(b"over another server").await;
}
