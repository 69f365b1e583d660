//! The slot of the outermost layer: whoever finds the upgrade, it is held once, by nobody else, and
//! no longer than its request is under way.

use crate::support::{
    Peer,
    handlers::{Counted, echo, speak_echo},
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
    Accept, Parts, PendingUpgrade, ProtocolHandler, Rejection, ResponseBody, UpgradeLayer,
    UpgradeRequest, Upgraded, testing,
};

/// A request, and a probe for waiters on its connection.
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

/// Never decides.
#[derive(Clone)]
struct Undecided;

impl ProtocolHandler for Undecided {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_handler_finds_nothing_of_the_upgrade_in_its_request() {
    struct Looks;
    impl ProtocolHandler for Looks {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let left = request.extensions();
            assert!(left.get::<hyper::upgrade::OnUpgrade>().is_none());
            assert!(left.get::<PendingUpgrade>().is_none());
            assert!(left.is_empty(), "of the {} nobody can use any", left.len());
            Ok(Accept::new(speak_echo))
        }
    }
    let decides = UpgradeLayer::new().protocol("echo", Looks);
    let over_hyper = testing::request("echo")
        .body(String::new())
        .expect("a request");
    let nested = UpgradeLayer::new().layer(decides.layer(service_fn(plain)));
    let exchange = testing::upgrade(nested, over_hyper).await;
    let _peer = exchange.expect("a response").expect_switched("echo");

    let (handed_in, _hand_over) = request();
    let nested = UpgradeLayer::new().layer(decides.layer(service_fn(plain)));
    let response = nested.oneshot(handed_in).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
}

#[tokio::test]
async fn an_upgrade_that_a_layer_puts_in_goes_before_hypers() {
    let (io, mut peer) = tokio::io::duplex(64);
    let io = Upgraded::from_parts(Parts {
        io,
        read_buf: "".into(),
    });
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
    let _of_hyper = exchange.expect("a response").expect_switched("echo");
    peer.write_all(b"hello").await.expect("a session");
    let mut back = [0; 5];
    peer.read_exact(&mut back).await.expect("an echo");
    assert_eq!(&back, b"hello");
}

#[tokio::test]
async fn a_request_that_outlives_its_response_holds_nothing() {
    let (sender, mut kept) = mpsc::unbounded_channel();
    let keeps = service_fn(move |request: Request<String>| {
        let kept = sender.send(request).is_ok();
        async move { Ok::<_, Infallible>(Response::new(kept.to_string())) }
    });
    let (request, hand_over) = request();
    let response = UpgradeLayer::new().layer(keeps).oneshot(request).await;
    assert_eq!(response.expect("infallible").status(), StatusCode::OK);
    assert!(!hand_over.is_closed(), "the request has it");

    // Too late: the outermost layer has answered.
    let request = kept.recv().await.expect("a request");
    let decides = UpgradeLayer::new().protocol("echo", Undecided);
    let _undecided = decides.layer(service_fn(plain)).call(request);
    assert!(hand_over.is_closed(), "dropped, though nothing is decided");
}

#[tokio::test]
async fn a_response_that_is_given_up_leaves_nothing_to_a_decision_that_goes_on() {
    let mut decides = UpgradeLayer::new()
        .protocol("echo", Undecided)
        .layer(service_fn(plain));
    // As a layer does that must not be cancelled.
    let spawns = service_fn(move |request: Request<String>| {
        let task = tokio::spawn(decides.call(request));
        async move { task.await.expect("no panic") }
    });
    let (request, hand_over) = request();
    let mut response = Box::pin(UpgradeLayer::new().layer(spawns).oneshot(request));
    assert!(futures_util::poll!(&mut response).is_pending());
    assert!(!hand_over.is_closed());
    drop(response);
    assert!(hand_over.is_closed());
}

#[tokio::test]
async fn a_clone_that_comes_late_leaves_the_session_its_connection() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let (decides, mut is_late) = (
        layer.layer(service_fn(plain)),
        layer.layer(service_fn(plain)),
    );
    let clone = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&clone);
    // As a layer does that asks twice, and takes the response that comes first.
    let service = ServiceBuilder::new()
        .map_response(move |response| {
            let clone: Request<String> = clone.lock().expect("no panic").take().expect("a clone");
            drop(is_late.call(clone));
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
    // So little of the switch fits in that both have asked for the connection before hyper hands it over.
    let (peer, io) = tokio::io::duplex(16);
    let service = hyper_util::service::TowerToHyperService::new(service);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(hyper_util::rt::TokioIo::new(io), service)
        .with_upgrades();
    tokio::spawn(connection);
    let mut peer = Peer::new(peer);
    peer.send(crate::support::offer("echo", &[])).await;
    peer.head().await.assert_switched("echo");
    peer.expect_echo(b"hello").await;
}

#[tokio::test]
async fn a_switch_of_another_request_does_not_leave() {
    let handler = Counted::default();
    let decides = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .layer(service_fn(plain));
    let earlier = Arc::new(Mutex::new(None));
    // Answers with the response to the request before, as a broken cache does.
    let late = service_fn(move |request: Request<String>| {
        let (mut decides, earlier) = (decides.clone(), Arc::clone(&earlier));
        async move {
            let switch = decides.call(request).await?;
            let earlier = earlier.lock().expect("no panic").replace(switch);
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
async fn a_switch_has_no_body_whatever_layers_make_of_it() {
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
async fn a_switch_that_was_replaced_is_reported() {
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
    let reported = log.lines("replaced the switch");
    assert!(
        reported.len() == 1 && reported[0].contains("status=403"),
        "{reported:?}"
    );
}

#[tokio::test]
async fn a_426_that_took_the_place_of_a_switch_keeps_its_own_list() {
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
async fn what_a_handler_may_not_add_is_not_taken_off_a_refusal() {
    struct Closes;
    impl ProtocolHandler for Closes {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Ok(Accept::new(speak_echo).header("connection", HeaderValue::from_static("close")))
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
        .layer(UpgradeLayer::new().protocol("echo", Closes))
        .service(service_fn(plain));
    let (request, _hand_over) = request();
    let response = service.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()["connection"], "close");
}

#[test]
fn an_upgrade_of_hypers_may_be_dropped_outside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let request = runtime.block_on(async {
        let (mut peer, io) = tokio::io::duplex(1024);
        let (sender, mut requests) = mpsc::unbounded_channel();
        let keeps = hyper::service::service_fn(move |request| {
            let _ = sender.send(request);
            std::future::pending::<Result<Response<String>, Infallible>>()
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(io), keeps)
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

/// For each pending step, also without time limits.
#[test]
fn where_no_session_can_run_an_upgrade_is_refused() {
    let limited = UpgradeLayer::new().protocol("echo", echo());
    let unlimited = limited.clone().accept_timeout(None).body_timeout(None);
    let timeless = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    for layer in [limited, unlimited] {
        for (runtime, missing) in [
            (None, "Tokio 1.x runtime"),
            (Some(&timeless), "timers are disabled"),
        ] {
            let (log, _guard) = Log::start();
            let _entered = runtime.map(tokio::runtime::Runtime::enter);
            let (request, _hand_over) = request();
            let response = layer.layer(service_fn(plain)).oneshot(request);
            let response = response.now_or_never().expect("nothing to wait for");
            let status = response.expect("infallible").status();
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            let reported = log.lines("handler panicked before it decided");
            assert!(
                reported.len() == 1 && reported[0].contains(missing),
                "{reported:?}"
            );
        }
    }
}
