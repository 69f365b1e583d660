//! TLS started on a plain HTTP connection (RFC 2817), with HTTP inside it.

use crate::support::{
    AnyIo, Peer, Server, Via, handlers::echo, head, offer, plain, soon, tls::Tls, until,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy_bidirectional};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Session, Sessions, UpgradeLayer, Upgraded, handler_fn};

#[tokio::test]
async fn http_and_upgrades_work_over_tls_started_in_a_session() {
    for via in [Via::Http1, Via::Auto] {
        // The bytes of the ClientHello that arrive together with the request head.
        for early in [0, 5, usize::MAX] {
            let tls = Tls::new();
            let [outer, inner] = [Sessions::new(), Sessions::new()];
            let server = start(via, &tls, &outer, &inner).await;

            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(start_tls(server.connect().await.boxed(), far, early));
            let mut peer = soon(tls.connect(Peer::new(near))).await;
            peer.send(head(&["GET /within HTTP/1.1", "Host: test"]))
                .await;
            let (answer, body) = peer.response().await;
            assert_eq!((answer.status, &*body), (200, "plain GET /within"));

            peer.send(offer("echo", &[])).await;
            peer.head().await.assert_upgraded("echo");
            peer.expect_echo(b"twice upgraded").await;
            // The outer session ends when HTTP inside it ends, and the inner session stays open.
            until(|| outer.is_empty()).await;
            assert_eq!(inner.len(), 1);
            peer.expect_echo(b"still here").await;
            peer.finish().await;
            // Without a close_notify this would be an error.
            peer.expect_end().await;
            until(|| inner.is_empty()).await;
        }
    }
}

/// Starts a plain server that offers TLS by `Upgrade`, and an echo inside it.
async fn start(via: Via, tls: &Tls, outer: &Sessions, inner: &Sessions) -> Server {
    let acceptor = tls.acceptor.clone();
    let within = UpgradeLayer::new()
        .sessions(inner.clone())
        .protocol("echo", echo())
        .layer(service_fn(plain));
    let handler = handler_fn(move |session: Session| {
        let (acceptor, within) = (acceptor.clone(), within.clone());
        async move {
            let io = Upgraded::from_parts(session.into_io().into_parts());
            let io = TokioIo::new(acceptor.accept(io).await?);
            auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(io, TowerToHyperService::new(within))
                .await
        }
    });
    let layer = UpgradeLayer::new()
        .sessions(outer.clone())
        .protocol("TLS/1.0", handler);
    Server::start_via(via, layer.layer(service_fn(plain))).await
}

/// Sends a plain upgrade request for TLS and relays the TLS client at `tls`.
///
/// `early` bytes of the ClientHello go out in one write with the request, and the rest after the 101.
async fn start_tls(mut clear: Peer<Box<dyn AnyIo>>, mut tls: DuplexStream, early: usize) {
    let mut hello = vec![0; 16 * 1024];
    let length = tls.read(&mut hello).await.expect("a message");
    let (early, late) = hello[..length].split_at(early.min(length));
    clear
        .send([offer("TLS/1.0", &[]).as_bytes(), early].concat())
        .await;
    clear.head().await.assert_upgraded("TLS/1.0");
    clear.send(late).await;
    tls.write_all(clear.unread()).await.expect("room");
    copy_bidirectional(&mut tls, &mut clear.io)
        .await
        .expect("no error");
}
