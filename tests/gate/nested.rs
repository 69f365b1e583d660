//! Nested layers: the inner ones decide, the outermost one commits, and its settings hold.

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
async fn each_layer_decides_on_what_it_has() {
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
        peer.head().await.assert_switched(protocol);
        peer.expect_echo(b"hello").await;
    }
    for handler in [outer, middle, leaf] {
        assert_eq!((handler.accepted(), handler.started()), (1, 1));
    }
}

#[tokio::test]
async fn the_outer_layer_is_asked_first() {
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
        .expect_switched("echo");
    assert_eq!((outer.accepted(), inner.accepted()), (1, 0));
}

/// Never decides.
#[derive(Clone)]
struct Undecided;

impl tower_upgrade::ProtocolHandler for Undecided {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        std::future::pending().await
    }
}

async fn seconds_until_refused(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
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
    exchange.expect_refused(StatusCode::GATEWAY_TIMEOUT);
    before.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn the_outermost_settings_hold_unless_the_inner_layer_has_its_own() {
    let layer = UpgradeLayer::new;
    let secs = Duration::from_secs;
    assert_eq!(
        seconds_until_refused(layer(), layer()).await,
        30,
        "the default"
    );
    assert_eq!(
        seconds_until_refused(layer().accept_timeout(secs(7)), layer()).await,
        7
    );
    let (outer, inner) = (
        layer().accept_timeout(secs(7)),
        layer().accept_timeout(secs(90)),
    );
    assert_eq!(seconds_until_refused(outer, inner).await, 90);
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_a_layer_in_between_hold_for_all_inside_it() {
    let in_between = UpgradeLayer::new()
        .protocol("other", Undecided)
        .accept_timeout(Duration::from_secs(7));
    for protocol in ["other", "echo"] {
        let service = ServiceBuilder::new()
            .layer(UpgradeLayer::new().accept_timeout(Duration::from_secs(90)))
            .layer(in_between.clone())
            .layer(UpgradeLayer::new().protocol("echo", Undecided))
            .service(service_fn(plain));
        let before = tokio::time::Instant::now();
        let request = testing::request(protocol).body(String::new());
        let exchange = testing::upgrade(service, request.expect("a request")).await;
        let exchange = exchange.expect("a response");
        exchange.expect_refused(StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(before.elapsed().as_secs(), 7, "{protocol}");
    }
}

/// The registry of a part of an application, between the gate around all of it and the layer that decides.
#[tokio::test]
async fn a_session_is_in_the_innermost_registry_around_its_handler() {
    let (around, in_between) = (Sessions::new(), Sessions::new());
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new().sessions(around.clone()))
        .layer(UpgradeLayer::new().sessions(in_between.clone()))
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_switched("echo");
    assert_eq!((around.len(), in_between.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn no_accept_timeout_leaves_it_to_the_layers_around() {
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
async fn a_request_that_is_sent_twice_through_the_inner_layers_commits_once() {
    // A layer that asks twice, with a clone of the request, as a retry does.
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
    peer.head().await.assert_switched("echo");
    peer.expect_echo(b"hello").await;
    assert_eq!(
        (handler.accepted(), handler.started(), handler.held()),
        (2, 1, 1)
    );
}

#[tokio::test]
async fn a_gate_around_axum_holds_for_what_its_routes_decide() {
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
    peer.head().await.assert_switched("chat");
    peer.expect_echo(b"hello").await;

    let mut peer = server.connect().await;
    peer.send(offer("leaf", &[]).replacen("GET /", "GET /leaf", 1))
        .await;
    peer.head().await.assert_switched("leaf");
    peer.expect_echo(b"hello").await;

    let mut peer = server.connect().await;
    peer.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
    assert_eq!(peer.response().await.1, "index");
    assert_eq!((chat.started(), leaf.started()), (1, 1));
}

#[tokio::test]
async fn handlers_of_one_protocol_are_asked_in_order() {
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
            Some(protocol) => drop(exchange.expect_switched(protocol)),
            // Supported, and unwanted: neither refused nor switched.
            None => drop(exchange.expect_passed()),
        }
    }
    assert_eq!((private.accepted(), public.accepted()), (1, 1));
}

/// However often a client offers its protocol.
#[tokio::test]
async fn a_handler_is_asked_once_whether_it_wants_a_request() {
    for preference in [Preference::Client, Preference::Server] {
        let asked = Arc::new(AtomicUsize::new(0));
        let unwilling = {
            let asked = Arc::clone(&asked);
            echo().when(move |_| {
                asked.fetch_add(1, Ordering::SeqCst);
                false
            })
        };
        let service = UpgradeLayer::new()
            .protocol("echo", unwilling)
            .preference(preference)
            .layer(service_fn(plain));
        let request = testing::request(&["echo, echo/1"; 1000].join(", ")).body(String::new());
        let exchange = testing::upgrade(service, request.expect("a request")).await;
        exchange.expect("a response").expect_passed();
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{preference:?}");
    }
}

#[tokio::test]
async fn a_handler_behind_an_arc_is_a_handler() {
    let handler = std::sync::Arc::new(handler_fn(|_session| async { Ok(()) }));
    let service = UpgradeLayer::new()
        .protocol("a", handler.clone())
        .protocol("b", handler);
    let request = testing::request("b")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(service.into_service(), request).await;
    let _peer = exchange.expect("a response").expect_switched("b");

    let unwilling = std::sync::Arc::new(echo().when(|_parts| false));
    let layer = UpgradeLayer::new().protocol("c", unwilling);
    let request = testing::request("c").body(String::new());
    let exchange = testing::upgrade(layer.layer(service_fn(plain)), request.expect("a request"));
    exchange.await.expect("a response").expect_passed();
}

#[tokio::test]
async fn a_decision_after_the_outermost_layer_has_given_up_starts_nothing() {
    // An inner layer that hands its requests to a worker, which can outlive their response future.
    let (worker, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let handing_over = service_fn(move |request: Request<String>| {
        worker.send(request).expect("a worker");
        std::future::pending::<Result<http::Response<String>, std::convert::Infallible>>()
    });
    let mut outermost = UpgradeLayer::new().layer(handing_over);
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
    // The client never receives this response, so the handler is not called.
    assert_eq!((response.status().as_u16(), handler.accepted()), (501, 0));
    assert!(hand_over.is_closed(), "nobody waits for the connection");
    drop(response);
    assert_eq!((handler.started(), handler.held()), (0, 0));
}

#[tokio::test]
async fn a_leaf_refuses_what_it_does_not_support_with_a_reason() {
    let leaf = UpgradeLayer::new().protocol("a", echo()).into_service();
    let request = testing::request("b").body(String::new());
    let exchange = testing::upgrade(leaf, request.expect("a request")).await;
    let exchange = exchange.expect("a response");
    exchange.expect_refused(StatusCode::UPGRADE_REQUIRED);
}
