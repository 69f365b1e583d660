//! S6: the end of a connection.

use crate::support::{Peer, Server, Via, handlers::echo, head, offer, plain, tls::Tls};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, Unsupported, UpgradeLayer, UpgradeRequest,
    handler_fn,
};

/// Sends an upgrade request that declares a body over the limit, keeps sending, and asserts that the 413 arrives.
async fn assert_response_survives<Io: AsyncRead + AsyncWrite + Unpin>(mut peer: Peer<Io>) {
    peer.send(offer("echo", &["Content-Length: 1000000"])).await;
    peer.send(vec![b'x'; 500_000]).await;
    let (refusal, body) = peer.response().await;
    assert_eq!(refusal.status, 413);
    assert!(body.contains("exceeds 65536 bytes"), "{body}");
    // EOF instead of a reset; on TLS with a close_notify.
    peer.expect_end().await;
}

#[tokio::test]
async fn s6_closing_refusal_reaches_a_client_that_still_sends() {
    for via in [Via::Http1, Via::Auto] {
        let layer = UpgradeLayer::new().protocol("echo", echo());
        let server = Server::start_via(via, layer.layer(service_fn(plain))).await;
        for _ in 0..10 {
            assert_response_survives(server.connect().await).await;
        }
    }
}

/// The outermost layer closes the connection even if it has no handler and an inner layer refused.
#[tokio::test]
async fn s6_refusal_of_an_inner_layer_reaches_a_client_that_still_sends() {
    let refuses = UpgradeLayer::new()
        .protocol("echo", echo())
        .unsupported(Unsupported::Refuse);
    let service = UpgradeLayer::new().layer(refuses.layer(service_fn(plain)));
    let server = Server::start(service).await;
    for _ in 0..10 {
        let mut peer = server.connect().await;
        peer.send(offer("other", &["Content-Length: 1000000"]))
            .await;
        peer.send(vec![b'x'; 500_000]).await;
        assert_eq!(peer.response().await.0.status, 426);
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn s6_long_closing_refusal_is_complete() {
    /// More than the send buffer of any socket.
    const LENGTH: usize = 20_000_000;
    struct Refuse;
    impl ProtocolHandler for Refuse {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Err(Rejection::new(StatusCode::FORBIDDEN, "x".repeat(LENGTH)))
        }
    }
    let layer = UpgradeLayer::new().protocol("echo", Refuse);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    for (unread, sent) in [
        (&["Content-Length: 1000000"][..], 0),
        (&["Content-Length: 100000"], 100_000),
        (&["Content-Length: 100000"], 50_000),
        (&["Content-Length: 10", "Expect: 100-continue"], 0),
        (&["Content-Length: 10", "Expect: 100-continue"], 10),
    ] {
        let mut peer = server.connect().await;
        peer.send(offer("echo", unread)).await;
        peer.send(vec![b'y'; sent]).await;
        let (refusal, body) = peer.response().await;
        assert_eq!(
            (refusal.status, body.len()),
            (403, LENGTH),
            "{unread:?}, {sent}"
        );
        assert_eq!(refusal.get("connection").as_deref(), Some("close"));
    }
}

pub(crate) async fn tls_server(via: Via, layer: UpgradeLayer) -> (Server, Tls) {
    let tls = Tls::new();
    let acceptor = tls.acceptor.clone();
    let service = layer.layer(service_fn(plain));
    let server = Server::start_with(via, service, move |io| acceptor.accept(io)).await;
    (server, tls)
}

#[tokio::test]
async fn s6_closing_refusal_sends_close_notify() {
    for via in [Via::Http1, Via::Auto] {
        let (server, tls) = tls_server(via, UpgradeLayer::new().protocol("echo", echo())).await;
        assert_response_survives(tls.connect(server.connect().await).await).await;
    }
}

#[tokio::test]
async fn s6_later_end_after_a_refusal_sends_close_notify() {
    struct Refuse;
    impl ProtocolHandler for Refuse {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Err(StatusCode::FORBIDDEN.into())
        }
    }
    let layer = UpgradeLayer::new()
        .protocol("no", Refuse)
        .unsupported(Unsupported::Refuse);
    let (server, tls) = tls_server(Via::Http1, layer).await;
    for (offered, status, next) in [
        ("no", 403, ""),
        ("no", 403, "Connection: close"),
        ("other", 426, ""),
        ("other", 426, "Connection: close"),
    ] {
        let mut peer = tls.connect(server.connect().await).await;
        for _ in 0..3 {
            peer.send(offer(offered, &[])).await;
            assert_eq!(peer.response().await.0.status, status);
        }
        if next.is_empty() {
            peer.finish().await;
        } else {
            peer.send(head(&["GET /last HTTP/1.1", "Host: test", next]))
                .await;
            assert_eq!(peer.response().await.1, "plain GET /last");
        }
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn s6_session_end_sends_all_written_bytes_and_close_notify() {
    let brief = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(&[b'x'; 100_000]).await?;
        Err("the handler fails without reading".into())
    });
    let (server, tls) = tls_server(
        Via::Auto,
        UpgradeLayer::new().protocol("brief", brief.clone()),
    )
    .await;
    let mut peer = tls.connect(server.connect().await).await;
    peer.send(offer("brief", &[]) + "unread bytes, which would cause a reset")
        .await;
    peer.head().await.assert_upgraded("brief");
    assert_eq!(peer.rest().await.expect("a close_notify").len(), 100_000);

    let layer = UpgradeLayer::new().protocol("brief", brief);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("brief", &[])).await;
    peer.send(&[b'y'; 100_000]).await;
    peer.head().await.assert_upgraded("brief");
    assert_eq!(peer.rest().await.expect("no reset").len(), 100_000);
}
