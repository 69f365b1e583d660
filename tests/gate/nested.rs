//! Nested layers: inner layers decide, the outermost commits, and outer settings apply unless an inner layer
//! has its own.

use crate::support::{
    Server,
    handlers::{Counted, echo},
    head, offer, plain,
};
use axum::{Router, routing::get};
use http::{Request, StatusCode};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tower::{Layer as _, Service as _, ServiceBuilder, service_fn};
use tower_http::timeout::TimeoutLayer;
use tower_upgrade::{
    Accept, PendingUpgrade, Preference, ProtocolHandler as _, Rejection, Sessions, Unsupported,
    UpgradeLayer, UpgradeRequest, Upgraded, handler_fn, testing,
};

#[tokio::test]
async fn each_layer_decides_for_its_own_protocols() {
    let outer = Counted::default();
    let middle = Counted::default();
    let leaf = Counted::default();
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new().protocol("outer", outer.clone()))
        .layer(UpgradeLayer::new().protocol("middle", middle.clone()))
        .service(
            UpgradeLayer::new()
                .protocol("leaf", leaf.clone())
                .into_service(),
        );
    let server = Server::start(service).await;
    for protocol in ["outer", "middle", "leaf"] {
        let mut peer = server.connect().await;
        peer.send(offer(protocol, &[])).await;
        peer.head().await.assert_upgraded(protocol);
        peer.expect_echo(b"hello").await;
    }
    for handler in [outer, middle, leaf] {
        assert_eq!((handler.accepted(), handler.started()), (1, 1));
    }
}

#[tokio::test]
async fn outer_layer_decides_before_inner() {
    let outer = Counted::default();
    let inner = Counted::default();
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new().protocol("echo", outer.clone()))
        .layer(UpgradeLayer::new().protocol("echo", inner.clone()))
        .service(service_fn(plain));
    let request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    let _peer = testing::upgrade(service, request)
        .await
        .expect("a response")
        .expect_upgraded("echo");
    assert_eq!((outer.accepted(), inner.accepted()), (1, 0));
}

/// A handler that never completes `accept`.
#[derive(Clone)]
struct Undecided;

impl tower_upgrade::ProtocolHandler for Undecided {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        std::future::pending().await
    }
}

async fn accept_timeout_in_seconds(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    let service = ServiceBuilder::new()
        .layer(outer)
        .layer(inner.protocol("echo", Undecided))
        .service(service_fn(plain));
    let before = tokio::time::Instant::now();
    let request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(service, request)
        .await
        .expect("a response");
    exchange.expect_rejected(StatusCode::GATEWAY_TIMEOUT);
    before.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn accept_timeout_of_inner_layer_overrides_outermost() {
    let layer = UpgradeLayer::new;
    let secs = Duration::from_secs;
    assert_eq!(
        accept_timeout_in_seconds(layer(), layer()).await,
        30,
        "the default"
    );
    assert_eq!(
        accept_timeout_in_seconds(layer().accept_timeout(secs(7)), layer()).await,
        7
    );
    let (outer, inner) = (
        layer().accept_timeout(secs(7)),
        layer().accept_timeout(secs(90)),
    );
    assert_eq!(accept_timeout_in_seconds(outer, inner).await, 90);
}

#[tokio::test(start_paused = true)]
async fn accept_timeout_of_middle_layer_applies_to_inner_handlers() {
    let middle = UpgradeLayer::new()
        .protocol("other", Undecided)
        .accept_timeout(Duration::from_secs(7));
    for protocol in ["other", "echo"] {
        let service = ServiceBuilder::new()
            .layer(UpgradeLayer::new().accept_timeout(Duration::from_secs(90)))
            .layer(middle.clone())
            .layer(UpgradeLayer::new().protocol("echo", Undecided))
            .service(service_fn(plain));
        let before = tokio::time::Instant::now();
        let request = testing::request(protocol).body(String::new());
        let exchange = testing::upgrade(service, request.expect("a request")).await;
        let exchange = exchange.expect("a response");
        exchange.expect_rejected(StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(before.elapsed().as_secs(), 7, "{protocol}");
    }
}

/// One part of an application has its own registry, between the outermost layer and the layer that decides.
#[tokio::test]
async fn session_is_in_innermost_registry_around_its_handler() {
    let (around, middle) = (Sessions::new(), Sessions::new());
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new().sessions(around.clone()))
        .layer(UpgradeLayer::new().sessions(middle.clone()))
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    assert_eq!((around.len(), middle.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn disabled_accept_timeout_leaves_timeout_to_outer_layers() {
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new().accept_timeout(None))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(1_000_000),
        ))
        .layer(UpgradeLayer::new().protocol("echo", Undecided))
        .service(service_fn(plain));
    let request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(service, request)
        .await
        .expect("a response");
    assert_eq!(
        exchange.expect_passed().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn request_sent_twice_by_inner_layer_commits_once() {
    // Sends the request and its clone, as a retry layer does.
    let handler = Counted::default();
    let decides = UpgradeLayer::new().protocol("echo", handler.clone());
    let decides = decides.layer(service_fn(plain));
    let twice = service_fn(move |request: Request<hyper::body::Incoming>| {
        let decides = decides.clone();
        async move {
            let (parts, _) = request.into_parts();
            let first = Request::from_parts(parts.clone(), String::new());
            let again = Request::from_parts(parts, String::new());
            let _dropped = tower::ServiceExt::oneshot(decides.clone(), first).await?;
            tower::ServiceExt::oneshot(decides, again).await
        }
    });
    let server = Server::start(UpgradeLayer::new().layer(twice)).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    peer.expect_echo(b"hello").await;
    assert_eq!(
        (handler.accepted(), handler.started(), handler.held()),
        (2, 1, 1)
    );
}

#[tokio::test]
async fn outermost_layer_around_axum_commits_sessions_of_routes() {
    let chat = Counted::default();
    let leaf = Counted::default();
    let router = Router::new()
        .route("/", get(|| async { "index" }))
        .route_layer(UpgradeLayer::new().protocol("chat", chat.clone()))
        .route_service(
            "/leaf",
            UpgradeLayer::new()
                .protocol("leaf", leaf.clone())
                .into_service(),
        );
    let service = UpgradeLayer::new().layer(router);
    let server = Server::start(service).await;

    let mut peer = server.connect().await;
    peer.send(offer("chat", &[])).await;
    peer.head().await.assert_upgraded("chat");
    peer.expect_echo(b"hello").await;

    let mut peer = server.connect().await;
    peer.send(offer("leaf", &[]).replacen("GET /", "GET /leaf", 1))
        .await;
    peer.head().await.assert_upgraded("leaf");
    peer.expect_echo(b"hello").await;

    let mut peer = server.connect().await;
    peer.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
    assert_eq!(peer.response().await.1, "index");
    assert_eq!((chat.started(), leaf.started()), (1, 1));
}

#[tokio::test]
async fn handlers_of_one_protocol_are_tried_in_order_of_registration() {
    let public = Counted::default();
    let private = Counted::default();
    let layer = UpgradeLayer::new()
        .protocol(
            "chat",
            private
                .clone()
                .when(|parts| parts.uri.path().starts_with("/private")),
        )
        .protocol(
            "chat",
            public
                .clone()
                .when(|parts| parts.uri.path().starts_with("/public")),
        )
        .protocol("echo", echo())
        .unsupported(Unsupported::Refuse);
    let service = layer.layer(service_fn(plain));
    for (path, protocols, outcome) in [
        ("/private/1", "chat", Some("chat")),
        ("/public/1", "chat", Some("chat")),
        ("/other", "chat, echo", Some("echo")),
        ("/other", "chat", None),
    ] {
        let request = testing::request(protocols).uri(path).body(String::new());
        let exchange = testing::upgrade(service.clone(), request.expect("a request")).await;
        let exchange = exchange.expect("a response");
        match outcome {
            Some(protocol) => drop(exchange.expect_upgraded(protocol)),
            // The protocol is supported, but no handler matches: the inner service answers.
            None => drop(exchange.expect_passed()),
        }
    }
    assert_eq!((private.accepted(), public.accepted()), (1, 1));
}

/// The condition runs once even if the client offers the protocol many times.
#[tokio::test]
async fn handler_condition_runs_once_per_request() {
    for preference in [Preference::Client, Preference::Server] {
        let asked = Arc::new(AtomicUsize::new(0));
        let declines = {
            let asked = Arc::clone(&asked);
            echo().when(move |_| {
                asked.fetch_add(1, Ordering::SeqCst);
                false
            })
        };
        let service = UpgradeLayer::new()
            .protocol("echo", declines)
            .preference(preference)
            .layer(service_fn(plain));
        let request = testing::request(&["echo, echo/1"; 1000].join(", ")).body(String::new());
        let exchange = testing::upgrade(service, request.expect("a request")).await;
        exchange.expect("a response").expect_passed();
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{preference:?}");
    }
}

#[tokio::test]
async fn arc_of_handler_is_a_handler() {
    let handler = std::sync::Arc::new(handler_fn(|_session| async { Ok(()) }));
    let service = UpgradeLayer::new()
        .protocol("a", handler.clone())
        .protocol("b", handler);
    let request = testing::request("b")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(service.into_service(), request).await;
    let _peer = exchange.expect("a response").expect_upgraded("b");

    let declines = std::sync::Arc::new(echo().when(|_parts| false));
    let layer = UpgradeLayer::new().protocol("c", declines);
    let request = testing::request("c").body(String::new());
    let exchange = testing::upgrade(layer.layer(service_fn(plain)), request.expect("a request"));
    exchange.await.expect("a response").expect_passed();
}

#[tokio::test]
async fn decision_after_outermost_layer_is_cancelled_starts_no_session() {
    // The worker keeps a request after its response future is dropped.
    let (worker, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let sends_to_worker = service_fn(move |request: Request<String>| {
        worker.send(request).expect("a worker");
        std::future::pending::<Result<http::Response<String>, std::convert::Infallible>>()
    });
    let mut outermost = UpgradeLayer::new().layer(sends_to_worker);
    let (hand_over, io) = tokio::sync::oneshot::channel::<Upgraded>();
    let mut request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    request
        .extensions_mut()
        .insert(PendingUpgrade::new(async move { Ok(io.await?) }));
    drop(outermost.call(request));

    let handler = Counted::default();
    let decides = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .layer(service_fn(plain));
    let request = requests.recv().await.expect("a request");
    let response = tower::ServiceExt::oneshot(decides.clone(), request)
        .await
        .expect("infallible");
    // The response cannot reach the client any more, so the handler is not called.
    assert_eq!((response.status().as_u16(), handler.accepted()), (501, 0));
    assert!(hand_over.is_closed(), "the pending upgrade is still held");
    drop(response);
    assert_eq!((handler.started(), handler.held()), (0, 0));
}

#[tokio::test]
async fn leaf_refuses_unsupported_protocol_with_426() {
    let leaf = UpgradeLayer::new().protocol("a", echo()).into_service();
    let request = testing::request("b").body(String::new());
    let exchange = testing::upgrade(leaf, request.expect("a request")).await;
    let exchange = exchange.expect("a response");
    exchange.expect_rejected(StatusCode::UPGRADE_REQUIRED);
}
