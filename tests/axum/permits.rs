//! Extractors and the layer around them: the gate, permits, drain.

use super::{ask, echo, opening, speak};
use crate::support::{
    Server,
    handlers::run_echo,
    offer, soon, until,
    websocket::{Frame, TEXT},
};
use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::any,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;
use tower_http::timeout::TimeoutLayer;
use tower_upgrade::{
    Accept, Rejection, Sessions, UpgradeLayer,
    extract::{UpgradeRequest, WebSocketUpgrade},
};

#[tokio::test]
async fn missing_layer_is_answered_500_with_the_fix() {
    let (log, _guard) = crate::support::log::Log::start();
    let server = Server::start(Router::new().route("/", any(echo))).await;
    let (head, _) = ask(&server, offer("echo", &[])).await;
    assert_eq!(head.status, 500);
    head.assert_no_handshake();
    let lines = log.lines("UpgradeLayer::new()");
    // The log reports it to the operator.
    assert!(lines.len() == 1 && lines[0].contains("ERROR"), "{lines:?}");
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
                upgrade.accept("echo", Accept::new(run_echo)).await
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
    first.head().await.assert_upgraded("echo");
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
    head.assert_upgraded("websocket");
    peer.send(Frame::new(TEXT, "hello").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "hello"));
    assert_eq!(failed.load(Ordering::SeqCst), 1);
    assert_eq!(started.load(Ordering::SeqCst), 1);
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

/// With a limit of one, a leaked permit would reject all later requests.
#[tokio::test]
async fn every_outcome_releases_the_permit() {
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
        drop(upgrade.accept("websocket", Accept::new(run_echo)).await);
        "no"
    }
    async fn rejects(upgrade: UpgradeRequest) -> Response {
        upgrade
            .reject(Rejection::new(StatusCode::GONE, "gone"))
            .await
    }
    async fn connects(upgrade: UpgradeRequest) -> Response {
        upgrade.connect(Accept::new(run_echo)).await
    }
    async fn other(upgrade: UpgradeRequest) -> Response {
        upgrade.accept("chess", Accept::new(run_echo)).await
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
    head.assert_upgraded("websocket");
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
