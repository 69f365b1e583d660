//! Limits of the number of sessions, and the list.

use crate::support::{
    Head, Peer, Server, Via,
    h2::{Client, connect, extended_connect},
    handlers::{Counted, echo},
    offer, plain, until,
};
use std::time::Duration;
use tokio::net::TcpStream;
use tower::{Layer as _, service_fn};
use tower_upgrade::{Sessions, UpgradeKind, UpgradeLayer};

async fn ask(server: &Server, more: &[&str]) -> (Peer<TcpStream>, Head) {
    let mut peer = server.connect().await;
    peer.send(offer("echo", more)).await;
    let head = peer.head().await;
    (peer, head)
}

#[tokio::test]
async fn s4_request_over_the_limit_is_rejected_before_its_handler_runs() {
    let handler = Counted::default();
    let sessions = Sessions::builder().max(2).build();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("echo", handler.clone());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let (mut first, _) = ask(&server, &[]).await;
    let (_second, head) = ask(&server, &[]).await;
    head.assert_upgraded("echo");
    assert_eq!(sessions.len(), 2);

    let mut third = server.connect().await;
    for _ in 0..2 {
        third.send(offer("echo", &[])).await;
        let (refusal, body) = third.response().await;
        refusal.assert_no_handshake();
        assert_eq!((refusal.status, body.as_str()), (503, "too many sessions"));
        assert_eq!(refusal.get("retry-after").as_deref(), Some("5"));
    }
    assert_eq!((handler.accepted(), sessions.len()), (2, 2));

    first.finish().await;
    first.expect_end().await;
    until(|| sessions.len() == 1).await;
    third.send(offer("echo", &[])).await;
    third.head().await.assert_upgraded("echo");
}

#[tokio::test]
async fn s4_limit_applies_across_layers_kinds_and_versions() {
    let sessions = Sessions::builder().max(3).build();
    let layer = || UpgradeLayer::new().sessions(sessions.clone());
    let first = Server::start(layer().protocol("echo", echo()).layer(service_fn(plain))).await;
    let both = layer().protocol("echo", echo()).connect(echo());
    let second = Server::start_via(Via::Http2, both.layer(service_fn(plain))).await;

    let (mut http1, _) = ask(&first, &[]).await;
    let mut client = Client::connect(second.connect().await).await;
    let extended = || extended_connect("echo").body(()).expect("a request");
    let plain_connect = || connect("test:1").body(()).expect("a request");
    let mut http2 = client.ask(extended()).await.expect_upgraded();
    let _tunnel = client.ask(plain_connect()).await.expect_upgraded();
    assert_eq!(sessions.len(), 3);
    for request in [extended(), plain_connect()] {
        let answer = client.ask(request).await;
        assert_eq!(answer.head.headers()["retry-after"], "5");
        assert_eq!(answer.refused().await.0, 503);
    }
    assert_eq!(ask(&first, &[]).await.1.status, 503);

    let kinds: Vec<_> = sessions
        .list()
        .iter()
        .map(|session| session.kind())
        .collect();
    use UpgradeKind::{Connect, ExtendedConnect, Upgrade};
    assert_eq!(kinds, [Upgrade, ExtendedConnect, Connect]);
    http1.finish().await;
    http2.finish().await;
    until(|| sessions.len() == 1).await;
    client.ask(extended()).await.expect_upgraded();
}

#[tokio::test]
async fn s4_limit_per_key_rejects_only_that_key() {
    let user = |request: &http::request::Parts| request.headers.get("user").cloned();
    let sessions = Sessions::builder().max_per_key(1, user).build();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("echo", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let (mut ann, head) = ask(&server, &["User: ann"]).await;
    head.assert_upgraded("echo");
    let (_second, refusal) = ask(&server, &["User: ann"]).await;
    assert_eq!(
        (refusal.status, refusal.get("retry-after").as_deref()),
        (503, Some("5"))
    );
    ask(&server, &["User: bob"]).await.1.assert_upgraded("echo");
    // Requests without a key are not limited.
    for _ in 0..3 {
        ask(&server, &[]).await.1.assert_upgraded("echo");
    }
    ann.finish().await;
    ann.expect_end().await;
    until(|| sessions.list().len() < 2).await;
    ask(&server, &["User: ann"]).await.1.assert_upgraded("echo");
}

#[tokio::test]
async fn open_session_is_listed() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("echo", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    assert!(sessions.is_empty() && sessions.list().is_empty());
    let (mut first, _) = ask(&server, &[]).await;
    let (mut second, _) = ask(&server, &[]).await;
    first.expect_echo(b"hello").await;
    let list = sessions.list();
    assert!(list[0].id() < list[1].id());
    assert_eq!(
        list[0].protocol().map(ToString::to_string).as_deref(),
        Some("echo")
    );
    assert_eq!((list[0].bytes_read(), list[0].bytes_written()), (5, 5));
    assert_eq!((list[1].bytes_read(), list[1].bytes_written()), (0, 0));
    assert!(list[0].age() >= list[1].age());
    assert_eq!(list[0].peer(), None);

    // `close` aborts this session: its handler ignores the stop signal.
    assert!(sessions.close(list[1].id(), Duration::ZERO));
    second.expect_end().await;
    until(|| sessions.len() == 1).await;
    assert!(!sessions.close(list[1].id(), Duration::ZERO));
    assert!(!sessions.close(0.into(), Duration::ZERO));
    first.expect_echo(b"still here").await;
    assert_eq!(sessions.list()[0].id(), list[0].id());
}
