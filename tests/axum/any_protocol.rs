//! The extractors for any protocol: `UpgradeRequest` and `MaybeUpgrade`.

use super::{ask, echo, opening, speak};
use crate::support::{
    Server, Via,
    h2::{self, Client},
    handlers::run_echo,
    head, offer, text,
    websocket::{Frame, TEXT},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, Version},
    response::{IntoResponse as _, Response},
    routing::{any, post},
};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tower_http::timeout::TimeoutLayer;
use tower_upgrade::{
    Accept, Rejection, UpgradeLayer,
    extract::{MaybeUpgrade, UpgradeRequest, WebSocketUpgrade},
};

#[tokio::test]
async fn extractor_accepts_in_a_route() {
    let app = Router::new()
        .route("/", any(echo))
        .layer(UpgradeLayer::new());
    let server = Server::start_via(Via::Auto, app).await;
    let (head, mut peer) = ask(&server, offer("chess, ECHO", &[]) + "early").await;
    head.assert_upgraded("ECHO");
    assert_eq!(peer.exactly(5).await, b"early");
    peer.expect_echo(b"hello").await;

    let mut client = Client::connect(server.connect().await).await;
    let request = h2::extended_connect("echo").uri("http://test/").body(());
    let answer = client.ask(request.expect("a request")).await;
    answer.expect_upgraded().expect_echo(b"hello").await;
}

#[tokio::test]
async fn extractor_rejects_a_protocol_that_was_not_offered() {
    let app = Router::new()
        .route("/", any(echo))
        .layer(UpgradeLayer::new());
    let server = Server::start_via(Via::Auto, app).await;
    let mut peer = server.connect().await;
    peer.send(offer("chess", &[])).await;
    let (head, _) = peer.response().await;
    assert_eq!(head.status, 426);
    assert_eq!(head.get("upgrade").as_deref(), Some("echo"));
    // The connection goes on.
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");

    let mut client = Client::connect(server.connect().await).await;
    let request = h2::extended_connect("chess").uri("http://test/").body(());
    let answer = client.ask(request.expect("a request")).await;
    assert_eq!(answer.head.status(), 501);
}

#[tokio::test]
async fn route_for_both_reads_the_body_with_and_without_an_upgrade() {
    #[derive(Clone)]
    struct OfALayer;

    async fn both(upgrade: MaybeUpgrade) -> Response {
        match upgrade {
            MaybeUpgrade::Upgrade(mut upgrade) => {
                let body = upgrade.read_body(100).await.expect("a short body");
                assert_eq!(body, "{\"Detach\":false}");
                upgrade.accept("echo", Accept::new(run_echo)).await
            }
            MaybeUpgrade::Plain(request) => {
                assert!(request.extensions().get::<OfALayer>().is_some());
                let body = axum::body::to_bytes(request.into_body(), 100).await;
                body.expect("a short body").into_response()
            }
        }
    }
    let app = Router::new()
        .route("/", any(both))
        .layer(axum::Extension(OfALayer))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let mut peer = server.connect().await;
    let plain = ["POST / HTTP/1.1", "Host: test", "Content-Length: 15"];
    peer.send(head(&plain) + "{\"Detach\":true}").await;
    assert_eq!(peer.response().await.1, "{\"Detach\":true}");
    let upgrade = [
        "POST / HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: echo",
        "Content-Length: 16",
    ];
    peer.send(head(&upgrade) + "{\"Detach\":false}early").await;
    peer.head().await.assert_upgraded("echo");
    assert_eq!(peer.exactly(5).await, b"early");
}

#[tokio::test]
async fn extractor_rejects_a_plain_request() {
    let app = Router::new()
        .route("/", any(echo))
        .route(
            "/ws",
            any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(speak) }),
        )
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    for path in ["/", "/ws"] {
        let mut peer = server.connect().await;
        peer.send(head(&[&format!("GET {path} HTTP/1.1"), "Host: test"]))
            .await;
        let (head, body) = peer.response().await;
        assert_eq!(head.status, 400);
        assert_eq!(body, "the request does not ask for an upgrade");
    }
}

#[tokio::test]
async fn request_body_is_read_or_discarded_before_the_101() {
    async fn docker(mut upgrade: UpgradeRequest) -> Result<Response, Rejection> {
        let body = upgrade.read_body(1024).await?;
        let accept = Accept::new(move |mut session| async move {
            tokio::io::AsyncWriteExt::write_all(session.io_mut(), &body).await?;
            Ok(())
        });
        Ok(upgrade.accept("tcp", accept).await)
    }
    let app = Router::new()
        .route("/", post(docker))
        .route("/drop", post(echo))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let request = |path: &str, protocol: &str| {
        let start = format!("POST {path} HTTP/1.1");
        let upgrade = format!("Upgrade: {protocol}");
        head(&[
            &start,
            "Host: test",
            "Connection: upgrade",
            &upgrade,
            "Content-Length: 4",
        ]) + "body"
    };
    let (head, mut peer) = ask(&server, request("/", "tcp")).await;
    head.assert_upgraded("tcp");
    assert_eq!(peer.rest().await.expect("an orderly end"), b"body");
    let (head, mut peer) = ask(&server, request("/drop", "echo") + "early").await;
    head.assert_upgraded("echo");
    assert_eq!(text(&peer.exactly(5).await), "early");
}

#[tokio::test]
async fn extractor_accepts_connect() {
    async fn proxy(upgrade: UpgradeRequest) -> Response {
        upgrade.connect(Accept::new(run_echo)).await
    }
    let router = Router::new().fallback(proxy);
    let app = tower::ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .service(router);
    let server = Server::start(app).await;
    let (head, mut peer) = ask(&server, "CONNECT test:1 HTTP/1.1\r\nHost: test:1\r\n\r\n").await;
    assert_eq!(head.status, 200);
    peer.expect_echo(b"hello").await;
    let (head, _) = ask(&server, offer("echo", &[])).await;
    assert_eq!(head.status, 501);
}

#[tokio::test]
async fn rejection_of_a_route_reaches_the_client() {
    async fn strict(upgrade: UpgradeRequest, status: StatusCode) -> Response {
        upgrade.reject(Rejection::new(status, "not you")).await
    }
    let app = Router::new()
        .route("/", any(|upgrade| strict(upgrade, StatusCode::FORBIDDEN)))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let mut peer = server.connect().await;
    for _ in 0..2 {
        peer.send(offer("echo", &[])).await;
        let (head, body) = peer.response().await;
        assert_eq!((head.status, &*body), (403, "not you"));
        head.assert_no_handshake();
    }
}

#[tokio::test]
async fn upgrade_extractors_combine_with_others_and_layers() {
    async fn room(
        Path(room): Path<String>,
        State(greeting): State<&'static str>,
        upgrade: WebSocketUpgrade,
    ) -> Response {
        upgrade.on_upgrade(move |mut socket| async move {
            socket.send(format!("{greeting} {room}")).await?;
            Ok(())
        })
    }
    let app = Router::new()
        .route("/rooms/{room}", any(room))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            Duration::from_secs(60),
        ))
        .layer(UpgradeLayer::new())
        .with_state("welcome to");
    let server = Server::start(app).await;
    let request = opening(&[]).replace("GET / ", "GET /rooms/blue ");
    let (_, mut peer) = ask(&server, request).await;
    assert_eq!(
        Frame::read(&mut peer).await,
        Frame::new(TEXT, "welcome to blue")
    );
}

#[tokio::test]
async fn route_for_both_ignores_an_upgrade_to_another_protocol() {
    async fn both(upgrade: MaybeUpgrade<WebSocketUpgrade>) -> Response {
        match upgrade {
            MaybeUpgrade::Upgrade(upgrade) => upgrade.on_upgrade(speak),
            MaybeUpgrade::Plain(_request) => "plain".into_response(),
        }
    }
    let app = Router::new()
        .route("/", any(both))
        .layer(UpgradeLayer::new());
    let server = Server::start_via(Via::Auto, app).await;
    let mut peer = server.connect().await;
    // Some clients offer HTTP/2 with each first request.
    peer.send(offer("h2c", &["HTTP2-Settings: AAMAAABkAAQAAP__"]))
        .await;
    let (head, body) = peer.response().await;
    assert_eq!((head.status, &*body), (200, "plain"));
    peer.send(opening(&[])).await;
    peer.head().await.assert_upgraded("websocket");
    let (head, _) = ask(&server, offer("h2c, websocket", &[])).await;
    assert_eq!(head.status, 426);
    // A 200 would accept the CONNECT.
    let mut client = Client::connect(server.connect().await).await;
    let request = h2::extended_connect("chess").uri("http://test/").body(());
    let answer = client.ask(request.expect("a request")).await;
    assert_eq!(answer.head.status(), 501);
}

#[tokio::test]
async fn maybe_upgrade_leaves_other_protocols_to_hyper() {
    async fn both(upgrade: MaybeUpgrade<WebSocketUpgrade>) -> Response {
        let MaybeUpgrade::Plain(mut request) = upgrade else {
            return StatusCode::NOT_FOUND.into_response();
        };
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.headers()["upgrade"], "chess");
        let upgrade = hyper::upgrade::on(&mut request);
        let body = axum::body::to_bytes(request.into_body(), 100).await;
        assert_eq!(body.expect("a short body"), "body");
        tokio::spawn(async move {
            let io = upgrade.await.expect("an upgrade");
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(io));
            tokio::io::copy(&mut reader, &mut writer).await
        });
        let headers = [("connection", "upgrade"), ("upgrade", "chess")];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }
    let app = Router::new()
        .route("/", any(both))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let request = offer("chess", &["Content-Length: 4"]) + "bodyearly";
    let (head, mut peer) = ask(&server, request).await;
    head.assert_upgraded("chess");
    assert_eq!(peer.exactly(5).await, b"early");
    peer.expect_echo(b"hello").await;
}
