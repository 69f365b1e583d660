//! Decisions, rejections, and the start of sessions.

use crate::support::{
    Peer, Server, Via,
    handlers::{Counted, echo},
    log::Log,
    offer, plain, soon, until,
};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::StreamBody;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::{error::Error as _, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_upgrade::{
    Accept, BoxError, PendingUpgrade, ProtocolHandler, Rejection, RejectionReason, Session,
    UpgradeKind, UpgradeLayer, UpgradeRequest, Upgraded, UpgradedParts, testing,
};

/// Returns an upgrade request with a pending upgrade that resolves to the IO from the channel.
pub(crate) fn request_with(io: oneshot::Receiver<Upgraded>) -> Request<String> {
    let mut request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    request
        .extensions_mut()
        .insert(PendingUpgrade::new(async move { Ok(io.await?) }));
    request
}

#[tokio::test(start_paused = true)]
async fn handshake_timeout_drops_pending_session() {
    for (layer, seconds) in [
        (UpgradeLayer::new(), 10),
        (
            UpgradeLayer::new().handshake_timeout(Duration::from_secs(60)),
            60,
        ),
    ] {
        let (log, _guard) = Log::start();
        let handler = Counted::default();
        let layer = layer.protocol("echo", handler.clone());
        let (_never_sent, io) = oneshot::channel();
        let response = tower::ServiceExt::oneshot(layer.layer(service_fn(plain)), request_with(io));
        assert_eq!(response.await.expect("infallible").status(), 101);
        tokio::time::sleep(Duration::from_secs(seconds - 1)).await;
        assert_eq!(handler.held(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((handler.held(), handler.started()), (0, 0));
        assert_eq!(
            log.lines("did not hand over the connection in time").len(),
            1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn disabled_handshake_timeout_waits_without_limit() {
    let handler = Counted::default();
    let layer = UpgradeLayer::new()
        .handshake_timeout(None)
        .protocol("echo", handler.clone());
    let (send, io) = oneshot::channel();
    let response = tower::ServiceExt::oneshot(layer.layer(service_fn(plain)), request_with(io));
    assert_eq!(response.await.expect("infallible").status(), 101);
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    let (io, mut peer) = tokio::io::duplex(64);
    send.send(Upgraded::from_parts(UpgradedParts::new(io, "early")))
        .expect("the session waits");
    let mut early = [0; 5];
    peer.read_exact(&mut early).await.expect("an echo");
    assert_eq!((&early, handler.started()), (b"early", 1));
}

#[tokio::test(start_paused = true)]
async fn rejection_drops_the_pending_upgrade() {
    let refuse = RefuseAll;
    let layer = UpgradeLayer::new().protocol("echo", refuse);
    let (send, io) = oneshot::channel();
    let response = tower::ServiceExt::oneshot(layer.layer(service_fn(plain)), request_with(io));
    assert_eq!(response.await.expect("infallible").status(), 403);
    assert!(send.is_closed(), "the pending upgrade is still held");
}

#[derive(Clone)]
pub(crate) struct RefuseAll;

impl ProtocolHandler for RefuseAll {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you").with_source("a bad day"))
    }
}

#[tokio::test]
async fn outer_layers_see_the_rejection_reason() {
    let (log, _guard) = Log::start();
    let service = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| {
            let reason = response
                .extensions()
                .get::<RejectionReason>()
                .expect("a reason");
            assert_eq!(reason.message(), "not you");
            assert_eq!(reason.source().expect("a source").to_string(), "a bad day");
            assert_eq!(reason.to_string(), "not you");
            response
        })
        .layer(UpgradeLayer::new().protocol("echo", RefuseAll))
        .service(service_fn(plain));
    let request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(service, request)
        .await
        .expect("a response");
    let response = exchange.expect_rejected(StatusCode::FORBIDDEN);
    assert_eq!(response.body(), "not you");
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    let refused = log.lines("upgrade rejected");
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].contains("status=403") && refused[0].contains("a bad day"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn handler_rejects_with_a_whole_response() {
    struct Redirect;
    impl ProtocolHandler for Redirect {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let response = http::Response::builder()
                .status(StatusCode::SEE_OTHER)
                .header("location", "/login")
                .body(String::from("over there"))
                .expect("a response");
            Err(response.into())
        }
    }
    let service = UpgradeLayer::new()
        .protocol("echo", Redirect)
        .into_service();
    let request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(service, request)
        .await
        .expect("a response");
    let response = exchange.expect_rejected(StatusCode::SEE_OTHER);
    assert_eq!(
        (&response.headers()["location"], response.body().as_ref()),
        (
            &"/login".parse::<http::HeaderValue>().expect("a value"),
            &b"over there"[..],
        )
    );
}

/// Checks the request and its extensions in `accept`, and the same values in the session.
struct ChecksAll {
    keep: bool,
}

impl ProtocolHandler for ChecksAll {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        assert_eq!(request.kind(), UpgradeKind::Upgrade);
        assert!(
            request
                .protocol()
                .is_some_and(|protocol| *protocol == "chat/2")
        );
        let offered: Vec<String> = request.offered().map(|offer| offer.to_string()).collect();
        assert_eq!(offered, ["other", "chat/2"]);
        assert_eq!(request.uri().path(), "/room");
        assert_eq!(request.headers()["x-user"], "ann");
        request.parts_mut().extensions.insert(7_u32);
        let keep = self.keep;
        let accept = Accept::new(move |session: Session| async move {
            let protocol = session.protocol().expect("an `Upgrade` has one");
            assert_eq!(protocol, &"chat/2");
            assert_eq!(protocol.version(), Some("2"));
            assert_eq!(session.kind(), UpgradeKind::Upgrade);
            assert_eq!(session.extensions().get::<&str>(), Some(&"left by a layer"));
            assert_eq!(session.extensions().get::<u32>(), Some(&7));
            match session.request() {
                Some(parts) => {
                    assert!(keep && parts.headers["x-user"] == "ann");
                    assert!(parts.extensions.is_empty(), "not moved to the session");
                }
                None => assert!(!keep),
            }
            session.into_io().write_all(b"as expected").await?;
            Ok(())
        });
        Ok(if keep { accept.keep_request() } else { accept })
    }
}

#[tokio::test]
async fn session_has_extensions_of_the_request_and_head_if_kept() {
    for keep in [false, true] {
        let service = ServiceBuilder::new()
            .map_request(|mut request: Request<hyper::body::Incoming>| {
                request.extensions_mut().insert("left by a layer");
                request
            })
            .layer(UpgradeLayer::new().protocol("chat/2", ChecksAll { keep }))
            .service(service_fn(plain));
        let request = testing::request("other, chat/2")
            .uri("/room")
            .header("x-user", "ann");
        let request = request.body(String::new()).expect("a request");
        let exchange = testing::upgrade(service, request)
            .await
            .expect("a response");
        let mut said = String::new();
        let mut peer = exchange.expect_upgraded("chat/2");
        peer.read_to_string(&mut said)
            .await
            .expect("an orderly end");
        assert_eq!(said, "as expected");
    }
}

#[tokio::test]
async fn missing_with_upgrades_is_reported() {
    let (log, _guard) = Log::start();
    let handler = Counted::default();
    let layer = UpgradeLayer::new().protocol("echo", handler.clone());
    let server = Server::start_via(Via::NoUpgrades, layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    peer.expect_end().await;
    until(|| handler.held() == 0).await;
    assert_eq!(handler.started(), 0);
    let reported = log.lines("no session can start");
    assert!(
        reported.len() == 1 && reported[0].contains("with_upgrades"),
        "{reported:?}"
    );
}

#[tokio::test]
async fn broken_connection_is_not_reported_as_missing_with_upgrades() {
    let (log, _guard) = Log::start();
    let handler = Counted::default();
    let layer = UpgradeLayer::new().protocol("echo", handler.clone());
    // The head of the 101 does not fit into 64 bytes, so hyper never sends all of it.
    let (mut peer, io) = tokio::io::duplex(64);
    let service = TowerToHyperService::new(layer.layer(service_fn(plain)));
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let connection = tokio::spawn(connection);
    peer.write_all(offer("echo", &[]).as_bytes())
        .await
        .expect("memory");
    peer.read_exact(&mut [0]).await.expect("a head");
    assert_eq!(handler.held(), 1);
    connection.abort();
    until(|| handler.held() == 0).await;
    assert_eq!(handler.started(), 0);
    let reported = log.lines("session did not start");
    assert_eq!(reported.len(), 1, "{reported:?}");
    let reported = log.lines("with_upgrades");
    assert!(reported.is_empty(), "{reported:?}");
}

#[tokio::test(start_paused = true)]
async fn body_timeout_covers_handler_and_layer_together() {
    struct Reads {
        refuses: bool,
    }
    impl ProtocolHandler for Reads {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let body = request.read_body(1024).await;
            if self.refuses {
                body?;
            }
            Ok(Accept::new(|_session| async { Ok(()) }))
        }
    }
    for refuses in [false, true] {
        let service = UpgradeLayer::new()
            .protocol("echo", Reads { refuses })
            .into_service();
        let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BoxError>>();
        let request = testing::request("echo")
            .method("POST")
            .body(StreamBody::new(never));
        let request = request.expect("a request");
        let before = tokio::time::Instant::now();
        let exchange = testing::upgrade(service, request)
            .await
            .expect("a response");
        exchange.expect_rejected(StatusCode::REQUEST_TIMEOUT);
        assert_eq!(before.elapsed().as_secs(), 10);
    }
}

/// Pins a behaviour of hyper that the crate's documentation describes.
#[tokio::test]
async fn hyper_graceful_shutdown_does_not_wait_for_sessions() {
    let service = UpgradeLayer::new().protocol("echo", echo()).into_service();
    let service = TowerToHyperService::new(service);
    let (peer, io) = tokio::io::duplex(1024);
    let server = auto::Builder::new(TokioExecutor::new());
    let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service);
    let connections = GracefulShutdown::new();
    tokio::spawn(connections.watch(connection.into_owned()));

    let mut peer = Peer::new(peer);
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    soon(connections.shutdown()).await;
    peer.expect_echo(b"still here").await;
}
