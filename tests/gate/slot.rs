//! The slot of the outermost layer holds the upgrade: exclusively, and only until the layer returns its
//! response.

use crate::support::{
    Peer,
    handlers::{Counted, echo, run_echo},
    log::Log,
    plain,
};
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
};
use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, PendingUpgrade, ProtocolHandler, Rejection, ResponseBody, UpgradeLayer, UpgradeRequest,
    Upgraded, UpgradedParts, testing,
};

/// Returns a request and the sender for its connection. The sender is closed when the upgrade is dropped.
fn request() -> (Request<String>, oneshot::Sender<Upgraded>) {
    let (hand_over, io) = oneshot::channel();
    let mut request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    request
        .extensions_mut()
        .insert(PendingUpgrade::new(async move { Ok(io.await?) }));
    (request, hand_over)
}

/// A handler that never completes `accept`.
#[derive(Clone)]
struct Undecided;

impl ProtocolHandler for Undecided {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn handler_request_has_no_upgrade_in_its_extensions() {
    struct ChecksExtensions;
    impl ProtocolHandler for ChecksExtensions {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let left = request.extensions();
            assert!(left.get::<hyper::upgrade::OnUpgrade>().is_none());
            assert!(left.get::<PendingUpgrade>().is_none());
            assert!(left.is_empty(), "{} extensions are left", left.len());
            Ok(Accept::new(run_echo))
        }
    }
    let decides = UpgradeLayer::new().protocol("echo", ChecksExtensions);
    let over_hyper = testing::request("echo")
        .body(String::new())
        .expect("a request");
    let nested = UpgradeLayer::new().layer(decides.layer(service_fn(plain)));
    let exchange = testing::upgrade(nested, over_hyper).await;
    let _peer = exchange.expect("a response").expect_upgraded("echo");

    let (handed_in, _hand_over) = request();
    let nested = UpgradeLayer::new().layer(decides.layer(service_fn(plain)));
    let response = nested.oneshot(handed_in).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
}

#[tokio::test]
async fn pending_upgrade_takes_precedence_over_on_upgrade() {
    let (io, mut peer) = tokio::io::duplex(64);
    let io = Upgraded::from_parts(UpgradedParts::new(io, ""));
    let upgrade = PendingUpgrade::new(async move { Ok(io) });
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(upgrade.clone());
            request
        })
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(service_fn(plain));
    let request = testing::request("echo")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(service, request).await;
    let _of_hyper = exchange.expect("a response").expect_upgraded("echo");
    peer.write_all(b"hello").await.expect("a session");
    let mut back = [0; 5];
    peer.read_exact(&mut back).await.expect("an echo");
    assert_eq!(&back, b"hello");
}

#[tokio::test]
async fn request_kept_after_its_response_cannot_use_the_upgrade() {
    let (sender, mut kept) = mpsc::unbounded_channel();
    let keeps_request = service_fn(move |request: Request<String>| {
        let kept = sender.send(request).is_ok();
        async move { Ok::<_, Infallible>(Response::new(kept.to_string())) }
    });
    let (request, hand_over) = request();
    let response = UpgradeLayer::new()
        .layer(keeps_request)
        .oneshot(request)
        .await;
    assert_eq!(response.expect("infallible").status(), StatusCode::OK);
    assert!(
        !hand_over.is_closed(),
        "the kept request has lost the upgrade"
    );

    // The outermost layer has already returned its response.
    let request = kept.recv().await.expect("a request");
    let decides = UpgradeLayer::new().protocol("echo", Undecided);
    let _undecided = decides.layer(service_fn(plain)).call(request);
    assert!(
        hand_over.is_closed(),
        "the pending decision holds the upgrade"
    );
}

#[tokio::test]
async fn dropped_response_future_drops_upgrade_of_spawned_decision() {
    let mut decides = UpgradeLayer::new()
        .protocol("echo", Undecided)
        .layer(service_fn(plain));
    // Spawns the decision, as a layer does to protect it from cancellation.
    let spawns_decision = service_fn(move |request: Request<String>| {
        let task = tokio::spawn(decides.call(request));
        async move { task.await.expect("no panic") }
    });
    let (request, hand_over) = request();
    let mut response = Box::pin(UpgradeLayer::new().layer(spawns_decision).oneshot(request));
    assert!(futures_util::poll!(&mut response).is_pending());
    assert!(!hand_over.is_closed());
    drop(response);
    assert!(hand_over.is_closed());
}

#[tokio::test]
async fn late_clone_of_request_does_not_take_the_connection() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let (decides, mut late) = (
        layer.layer(service_fn(plain)),
        layer.layer(service_fn(plain)),
    );
    let clone = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&clone);
    // Sends the request twice and takes the first response, as a hedging layer does.
    let service = ServiceBuilder::new()
        .map_response(move |response| {
            let clone: Request<String> = clone.lock().expect("no panic").take().expect("a clone");
            drop(late.call(clone));
            response
        })
        .layer(UpgradeLayer::new())
        .map_request(move |request: Request<hyper::body::Incoming>| {
            let (head, body) = request.into_parts();
            let clone = Request::from_parts(head.clone(), String::new());
            *kept.lock().expect("no panic") = Some(clone);
            Request::from_parts(head, body)
        })
        .service(decides);
    // The 101 does not fit into 16 bytes, so both requests wait for the connection before hyper hands it over.
    let (peer, io) = tokio::io::duplex(16);
    let service = hyper_util::service::TowerToHyperService::new(service);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(hyper_util::rt::TokioIo::new(io), service)
        .with_upgrades();
    tokio::spawn(connection);
    let mut peer = Peer::new(peer);
    peer.send(crate::support::offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    peer.expect_echo(b"hello").await;
}

#[tokio::test]
async fn upgrade_response_to_another_request_becomes_500() {
    let handler = Counted::default();
    let decides = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .layer(service_fn(plain));
    let earlier = Arc::new(Mutex::new(None));
    // Returns the response to the previous request, as a broken cache would.
    let late = service_fn(move |request: Request<String>| {
        let (mut decides, earlier) = (decides.clone(), Arc::clone(&earlier));
        async move {
            let upgraded = decides.call(request).await?;
            let earlier = earlier.lock().expect("no panic").replace(upgraded);
            Ok::<_, Infallible>(earlier.unwrap_or_else(|| Response::new(ResponseBody::default())))
        }
    });
    let service = UpgradeLayer::new().layer(late);
    for status in [StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR] {
        let (request, hand_over) = request();
        let response = service.clone().oneshot(request).await;
        assert_eq!(response.expect("infallible").status(), status);
        assert!(hand_over.is_closed());
    }
    assert_eq!((handler.accepted(), handler.started()), (2, 0));
}

#[tokio::test]
async fn body_added_to_101_is_removed() {
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|response: Response<_>| response.map(|_| String::from("a body")))
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(service_fn(plain));
    let (request, _hand_over) = request();
    let response = service.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(response.body().is_end_stream());
    assert_eq!(response.body().size_hint().exact(), Some(0));
}

#[tokio::test]
async fn replaced_101_is_logged() {
    let (log, _guard) = Log::start();
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        })
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(service_fn(plain));
    let (request, _hand_over) = request();
    let response = service.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let reported = log.lines("upgrade response was replaced by a layer");
    assert!(
        reported.len() == 1 && reported[0].contains("status=403"),
        "{reported:?}"
    );
}

#[tokio::test]
async fn replacement_426_keeps_its_upgrade_header() {
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            let headers = response.headers_mut();
            headers.insert("upgrade", HeaderValue::from_static("tls/1.3"));
            headers.insert("connection", HeaderValue::from_static("upgrade"));
            response
        })
        .layer(UpgradeLayer::new().protocol("echo", Counted::default()))
        .service(service_fn(plain));
    let (request, _hand_over) = request();
    let response = service.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()["upgrade"], "tls/1.3");
    assert_eq!(response.headers()["connection"], "upgrade");
    assert!(!response.headers().contains_key("added"));
}

#[tokio::test]
async fn connection_header_of_refusal_is_kept_if_handler_added_the_same() {
    struct AddsConnectionClose;
    impl ProtocolHandler for AddsConnectionClose {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Ok(Accept::new(run_echo).header("connection", HeaderValue::from_static("close")))
        }
    }
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::FORBIDDEN;
            let headers = response.headers_mut();
            headers.insert("connection", HeaderValue::from_static("close"));
            response
        })
        .layer(UpgradeLayer::new().protocol("echo", AddsConnectionClose))
        .service(service_fn(plain));
    let (request, _hand_over) = request();
    let response = service.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()["connection"], "close");
}

#[test]
fn on_upgrade_can_be_dropped_outside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let request = runtime.block_on(async {
        let (mut peer, io) = tokio::io::duplex(1024);
        let (sender, mut requests) = mpsc::unbounded_channel();
        let keeps_request = hyper::service::service_fn(move |request| {
            let _ = sender.send(request);
            std::future::pending::<Result<Response<String>, Infallible>>()
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(io), keeps_request)
            .with_upgrades();
        tokio::spawn(connection);
        peer.write_all(crate::support::offer("echo", &[]).as_bytes())
            .await
            .expect("memory");
        requests.recv().await.expect("a request")
    });
    drop(runtime);
    let layer = UpgradeLayer::new().protocol("echo", echo());
    drop(layer.layer(service_fn(plain)).call(request));
}

/// The layer refuses at once, with time limits set and without.
#[test]
fn upgrade_without_runtime_or_timers_is_answered_500() {
    let limited = UpgradeLayer::new().protocol("echo", echo());
    let unlimited = limited.clone().accept_timeout(None).body_timeout(None);
    let without_timers = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    for layer in [limited, unlimited] {
        for (runtime, missing) in [
            (None, "Tokio 1.x runtime"),
            (Some(&without_timers), "timers are disabled"),
        ] {
            let (log, _guard) = Log::start();
            let _entered = runtime.map(tokio::runtime::Runtime::enter);
            let (request, _hand_over) = request();
            let response = layer.layer(service_fn(plain)).oneshot(request);
            let response = response.now_or_never().expect("nothing to wait for");
            let status = response.expect("infallible").status();
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            let reported = log.lines("handler panicked before accepting or rejecting");
            assert!(
                reported.len() == 1 && reported[0].contains(missing),
                "{reported:?}"
            );
        }
    }
}
