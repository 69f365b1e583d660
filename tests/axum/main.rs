//! Extractors: routes that decide for themselves, over a real server.

#[path = "../support/mod.rs"]
mod support;

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, Version},
    response::{IntoResponse as _, Response},
    routing::{any, post},
};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{
    Head, Peer, Server, Via,
    h2::{self, Client},
    handlers::speak_echo,
    head, offer, soon, text, until,
    websocket::{Frame, TEXT},
};
use tokio::{net::TcpStream, sync::Notify};
use tower_http::timeout::TimeoutLayer;
use tower_upgrade::{
    Accept, Identity, Rejection, Sessions, UpgradeLayer,
    extract::{MaybeUpgrade, UpgradeRequest, WebSocketUpgrade},
    websocket::{Message, RateLimit, WebSocket, WebSocketConfig},
};

async fn echo(upgrade: UpgradeRequest) -> Response {
    upgrade.accept("echo", Accept::new(speak_echo)).await
}

async fn speak(mut socket: WebSocket) -> Result<(), tower_upgrade::BoxError> {
    while let Some(message) = socket.recv().await {
        if let message @ Message::Text(_) = message? {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// An opening handshake, with more lines.
fn opening(more: &[&str]) -> String {
    let mut lines = vec![
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    lines.extend(more);
    offer("websocket", &lines)
}

async fn ask(server: &Server, request: impl AsRef<[u8]>) -> (Head, Peer<TcpStream>) {
    let mut peer = server.connect().await;
    peer.send(request).await;
    let head = peer.head().await;
    (head, peer)
}

#[tokio::test]
async fn extractor_accepts_in_a_route() {
    let app = Router::new()
        .route("/", any(echo))
        .layer(UpgradeLayer::new());
    let server = Server::start_via(Via::Auto, app).await;
    let (head, mut peer) = ask(&server, offer("chess, ECHO", &[]) + "early").await;
    head.assert_switched("ECHO");
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
    peer.head().await.assert_switched("echo");

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
                upgrade.accept("echo", Accept::new(speak_echo)).await
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
    peer.head().await.assert_switched("echo");
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
async fn without_a_layer_the_answer_is_500_and_names_the_fix() {
    let (log, _guard) = support::log::Log::start();
    let server = Server::start(Router::new().route("/", any(echo))).await;
    let (head, _) = ask(&server, offer("echo", &[])).await;
    assert_eq!(head.status, 500);
    head.assert_no_handshake();
    let lines = log.lines("UpgradeLayer::new()");
    // The log reports it to the operator.
    assert!(lines.len() == 1 && lines[0].contains("ERROR"), "{lines:?}");
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
    head.assert_switched("tcp");
    assert_eq!(peer.rest().await.expect("an orderly end"), b"body");
    let (head, mut peer) = ask(&server, request("/drop", "echo") + "early").await;
    head.assert_switched("echo");
    assert_eq!(text(&peer.exactly(5).await), "early");
}

#[tokio::test]
async fn extractor_accepts_connect() {
    async fn proxy(upgrade: UpgradeRequest) -> Response {
        upgrade.connect(Accept::new(speak_echo)).await
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
async fn extraction_admits_the_request() {
    let sessions = Sessions::builder().max(1).build();
    let decide = Arc::new(Notify::new());
    let route = {
        let decide = Arc::clone(&decide);
        move |upgrade: UpgradeRequest| {
            let decide = Arc::clone(&decide);
            async move {
                decide.notified().await;
                upgrade.accept("echo", Accept::new(speak_echo)).await
            }
        }
    };
    let layer = UpgradeLayer::new().sessions(sessions.clone());
    let server = Server::start(Router::new().route("/", any(route)).layer(layer)).await;
    let mut first = server.connect().await;
    first.send(offer("echo", &[])).await;
    until(|| sessions.len() == 1).await;
    let (head, _) = ask(&server, offer("echo", &[])).await;
    assert_eq!(head.status, 503);
    assert!(head.get("retry-after").is_some());
    decide.notify_one();
    first.head().await.assert_switched("echo");
    assert_eq!(sessions.list().len(), 1);
    drop(first);
    until(|| sessions.is_empty()).await;
}

#[tokio::test]
async fn dropped_extractor_releases_its_permit() {
    let sessions = Sessions::new();
    async fn ignore(_upgrade: UpgradeRequest) -> &'static str {
        "no"
    }
    let layer = UpgradeLayer::new().sessions(sessions.clone());
    let server = Server::start(Router::new().route("/", any(ignore)).layer(layer)).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let (head, body) = peer.response().await;
    assert_eq!((head.status, &*body), (200, "no"));
    assert!(sessions.is_empty());
}

#[tokio::test]
async fn session_does_not_start_if_a_layer_replaces_the_response() {
    let started = Arc::new(AtomicUsize::new(0));
    let failed = Arc::new(AtomicUsize::new(0));
    let route = {
        let (started, failed) = (Arc::clone(&started), Arc::clone(&failed));
        move |upgrade: WebSocketUpgrade| {
            let (started, failed) = (Arc::clone(&started), Arc::clone(&failed));
            async move {
                upgrade
                    .on_failed_upgrade(move || {
                        failed.fetch_add(1, Ordering::SeqCst);
                    })
                    .on_upgrade(move |socket| async move {
                        started.fetch_add(1, Ordering::SeqCst);
                        speak(socket).await
                    })
            }
        }
    };
    let app = Router::new()
        .route("/", any(route.clone()))
        .layer(axum::middleware::map_response(
            |mut response: Response| async move {
                *response.status_mut() = StatusCode::FORBIDDEN;
                response
            },
        ))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let (head, _) = ask(&server, opening(&[])).await;
    assert_eq!(head.status, 403);
    head.assert_no_handshake();
    assert_eq!(head.get("sec-websocket-accept"), None);
    until(|| failed.load(Ordering::SeqCst) == 1).await;
    assert_eq!(started.load(Ordering::SeqCst), 0);

    let app = Router::new()
        .route("/", any(route))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let (head, mut peer) = ask(&server, opening(&[])).await;
    head.assert_switched("websocket");
    peer.send(Frame::new(TEXT, "hello").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "hello"));
    assert_eq!(failed.load(Ordering::SeqCst), 1);
    assert_eq!(started.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn other_extractors_and_layers_go_with_them() {
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
async fn websocket_extractor_has_the_features_of_axums() {
    async fn chat(upgrade: WebSocketUpgrade) -> Response {
        let upgrade = upgrade.config(
            WebSocketConfig::new()
                .subprotocols(["b", "a"])
                .max_message_size(10),
        );
        let offered: Vec<_> = upgrade.requested_protocols().collect();
        let seen = format!("{offered:?} {:?}", upgrade.selected_protocol());
        upgrade.on_upgrade(move |mut socket| async move {
            socket
                .send(format!("{seen} {:?}", socket.subprotocol()))
                .await?;
            speak(socket).await
        })
    }
    let app = Router::new()
        .route("/", any(chat))
        .layer(UpgradeLayer::new());
    let server = Server::start_via(Via::Auto, app).await;
    let request = opening(&["Sec-WebSocket-Protocol: x, a, b"]);
    let (head, mut peer) = ask(&server, request).await;
    head.assert_switched("websocket");
    assert_eq!(head.get("sec-websocket-protocol").as_deref(), Some("a"));
    let seen = r#"["x", "a", "b"] Some("a") Some("a")"#;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, seen));
    peer.send(Frame::new(TEXT, "0123456789a").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1009, ""));

    let own = any(|upgrade: WebSocketUpgrade| async {
        let upgrade = upgrade.config(
            WebSocketConfig::new()
                .subprotocols(["b", "a"])
                .prefer_own_subprotocols(),
        );
        assert_eq!(upgrade.selected_protocol(), Some("b"));
        upgrade.on_upgrade(speak)
    });
    let app = Router::new().route("/", own).layer(UpgradeLayer::new());
    let by_server = Server::start(app).await;
    let (head, _) = ask(&by_server, opening(&["Sec-WebSocket-Protocol: x, a, b"])).await;
    assert_eq!(head.get("sec-websocket-protocol").as_deref(), Some("b"));

    let mut client = Client::connect(server.connect().await).await;
    let request = h2::extended_connect("websocket")
        .uri("http://test/")
        .header("sec-websocket-version", HeaderValue::from_static("13"));
    let answer = client.ask(request.body(()).expect("a request")).await;
    let mut peer = answer.expect_upgraded();
    let seen = r#"[] None None"#;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, seen));
}

#[tokio::test]
async fn invalid_handshake_is_rejected_before_the_route() {
    async fn chat(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .config(WebSocketConfig::new().origins(["https://app.example"]))
            .on_upgrade(speak)
    }
    let app = Router::new()
        .route("/", any(chat))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    for (request, status) in [
        (offer("websocket", &[]), 426),
        (offer("websocket", &["Sec-WebSocket-Version: 13"]), 400),
        (offer("chess", &[]), 426),
        (opening(&["Origin: http://test"]), 403),
        (opening(&["Origin: https://app.example"]), 101),
    ] {
        let (head, _) = ask(&server, &request).await;
        assert_eq!(head.status, status, "{request}");
        if status != 101 && status != 426 {
            head.assert_no_handshake();
        }
    }
}

#[tokio::test]
async fn drain_ends_sessions_of_extractors() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone());
    let route = any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(speak) });
    let server = Server::start(Router::new().route("/", route).layer(layer)).await;
    let (_, mut peer) = ask(&server, opening(&[])).await;
    until(|| sessions.list().len() == 1).await;
    let drain = tokio::spawn(sessions.drain(Duration::from_secs(60)));
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1001, ""));
    peer.send(Frame::close(1001, "").masked()).await;
    peer.expect_end().await;
    drop(peer);
    assert_eq!(soon(drain).await.expect("no panic").ended, 1);
    let (head, _) = ask(&server, opening(&[])).await;
    assert_eq!(head.status, 503);
}

#[tokio::test]
async fn panic_in_on_failed_upgrade_leaves_the_connection_open() {
    async fn chat(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .on_failed_upgrade(|| panic!("what now?"))
            .on_upgrade(speak)
    }
    async fn refuse(mut response: Response) -> Response {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    }
    let app = Router::new()
        .route("/", any(chat))
        .layer(axum::middleware::map_response(refuse))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let (head, _) = ask(&server, opening(&[])).await;
    assert_eq!(head.status, 403);
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
    peer.head().await.assert_switched("websocket");
    let (head, _) = ask(&server, offer("h2c, websocket", &[])).await;
    assert_eq!(head.status, 426);
    // A 200 would accept the CONNECT.
    let mut client = Client::connect(server.connect().await).await;
    let request = h2::extended_connect("chess").uri("http://test/").body(());
    let answer = client.ask(request.expect("a request")).await;
    assert_eq!(answer.head.status(), 501);
}

#[tokio::test]
async fn plain_request_of_a_route_for_both_can_still_be_upgraded_by_others() {
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
    head.assert_switched("chess");
    assert_eq!(peer.exactly(5).await, b"early");
    peer.expect_echo(b"hello").await;
}

/// With a limit of one, a leaked permit would reject all later requests.
#[tokio::test]
async fn each_way_out_gives_the_permit_back() {
    use tower_http::catch_panic::CatchPanicLayer;

    async fn panics(_upgrade: WebSocketUpgrade) -> Response {
        panic!("the route panics")
    }
    async fn hangs(_upgrade: WebSocketUpgrade) -> Response {
        std::future::pending().await
    }
    async fn drops_the_response(upgrade: WebSocketUpgrade) -> &'static str {
        drop(upgrade.on_upgrade(speak));
        "no"
    }
    async fn drops_the_accepted(upgrade: UpgradeRequest) -> &'static str {
        drop(upgrade.accept("websocket", Accept::new(speak_echo)).await);
        "no"
    }
    async fn rejects(upgrade: UpgradeRequest) -> Response {
        upgrade
            .reject(Rejection::new(StatusCode::GONE, "gone"))
            .await
    }
    async fn connects(upgrade: UpgradeRequest) -> Response {
        upgrade.connect(Accept::new(speak_echo)).await
    }
    async fn other(upgrade: UpgradeRequest) -> Response {
        upgrade.accept("chess", Accept::new(speak_echo)).await
    }
    async fn chat(upgrade: WebSocketUpgrade) -> Response {
        upgrade.on_upgrade(speak)
    }
    async fn replace(response: Response) -> Response {
        (StatusCode::IM_A_TEAPOT, response.into_body()).into_response()
    }
    let sessions = Sessions::builder().max(1).build();
    let timeout = TimeoutLayer::with_status_code(
        StatusCode::GATEWAY_TIMEOUT,
        // Over a socket: the clock cannot be paused.
        Duration::from_millis(1),
    );
    let app = Router::new()
        .route("/panics", any(panics).layer(CatchPanicLayer::new()))
        .route("/late", any(hangs).layer(timeout))
        .route("/hangs", any(hangs))
        .route("/drops", any(drops_the_response))
        .route("/drops-accepted", any(drops_the_accepted))
        .route("/rejects", any(rejects))
        .route("/connects", any(connects))
        .route("/other", any(other))
        .route("/chat", any(chat))
        .route(
            "/replaced",
            any(chat).layer(axum::middleware::map_response(replace)),
        )
        .layer(UpgradeLayer::new().sessions(sessions.clone()));
    let server = Server::start(app).await;
    for (path, more, status) in [
        ("panics", "X-None: x", 500),
        ("late", "X-None: x", 504),
        ("drops", "X-None: x", 200),
        ("drops-accepted", "X-None: x", 200),
        ("rejects", "X-None: x", 410),
        ("connects", "X-None: x", 501),
        ("other", "X-None: x", 426),
        ("replaced", "X-None: x", 418),
        ("chat", "Origin: http://evil", 403),
        ("chat", "Sec-WebSocket-Protocol: a b", 400),
        ("chat", "Sec-WebSocket-Version: 12", 426),
        ("chat", "Content-Length: 70000", 413),
    ] {
        let request = opening(&[more]).replace("GET / ", &format!("GET /{path} "));
        let (head, _peer) = ask(&server, request).await;
        assert_eq!(head.status, status, "{path} {more}");
        assert!(sessions.is_empty(), "{path} {more}");
    }
    // The client leaves.
    let mut peer = server.connect().await;
    peer.send(opening(&[]).replace("GET / ", "GET /hangs "))
        .await;
    until(|| sessions.len() == 1).await;
    drop(peer);
    until(|| sessions.is_empty()).await;
    let (head, _peer) = ask(&server, opening(&[]).replace("GET / ", "GET /chat ")).await;
    head.assert_switched("websocket");
}

#[tokio::test]
async fn websocket_settings_of_a_route_apply() {
    async fn any_page(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .config(WebSocketConfig::new().any_origin().max_message_size(10))
            .on_upgrade(speak)
    }
    async fn pinged(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .config(WebSocketConfig::new().keep_alive(Duration::from_millis(1)))
            .on_upgrade(speak)
    }
    async fn limited(upgrade: WebSocketUpgrade) -> Response {
        let limit = RateLimit::new(1).burst(Duration::ZERO).close();
        upgrade
            .config(WebSocketConfig::new().rate_limit(limit))
            .on_upgrade(speak)
    }
    let app = Router::new()
        .route("/", any(any_page))
        .route("/pinged", any(pinged))
        .route("/limited", any(limited))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let (head, mut peer) = ask(&server, opening(&["Origin: null"])).await;
    head.assert_switched("websocket");
    peer.send(Frame::new(TEXT, "0123456789a").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1009, ""));
    let request = opening(&[]).replace("GET / ", "GET /pinged ");
    let (_, mut peer) = ask(&server, request).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(9, ""));
    let request = opening(&[]).replace("GET / ", "GET /limited ");
    let (_, mut peer) = ask(&server, request).await;
    peer.send(Frame::new(TEXT, "hello").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1008, ""));
}

#[tokio::test]
async fn websocket_session_has_the_identity_and_lifetime_of_its_route() {
    async fn ann(upgrade: WebSocketUpgrade) -> Response {
        upgrade.identity(Identity::new("ann")).on_upgrade(speak)
    }
    async fn short(upgrade: WebSocketUpgrade) -> Response {
        upgrade.lifetime(Duration::from_millis(1)).on_upgrade(speak)
    }
    let sessions = Sessions::new();
    let app = Router::new()
        .route("/", any(ann))
        .route("/short", any(short))
        .layer(UpgradeLayer::new().sessions(sessions.clone()));
    let server = Server::start(app).await;
    let (_, _peer) = ask(&server, opening(&[])).await;
    until(|| sessions.count_of(&Identity::new("ann")) == 1).await;
    let request = opening(&[]).replace("GET / ", "GET /short ");
    let (_, mut peer) = ask(&server, request).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1001, ""));
}

#[tokio::test]
async fn server_without_upgrades_and_missing_layer_differ_in_status() {
    use tower::ServiceExt as _;
    let router = Router::new().route("/", any(echo));
    for app in [router.clone(), router.layer(UpgradeLayer::new())] {
        let request = axum::http::Request::get("/")
            .header("connection", "upgrade")
            .header("upgrade", "echo")
            .body(axum::body::Body::empty())
            .expect("a request");
        let response = app.oneshot(request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
    }
}

#[tokio::test]
async fn handshake_with_a_long_body_closes_the_connection() {
    let route = any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(speak) });
    let layer = UpgradeLayer::new().body_limit(10);
    let server = Server::start(Router::new().route("/", route).layer(layer)).await;
    let mut peer = server.connect().await;
    peer.send(opening(&["Content-Length: 11"]) + "0123456789a" + &opening(&[]))
        .await;
    let (head, _) = peer.response().await;
    assert_eq!(head.status, 413);
    assert_eq!(head.get("connection").as_deref(), Some("close"));
    peer.expect_end().await;
}
