//! The crate's own help for tests: it tells outcomes apart.

mod closed;
mod http2;

use crate::support::{handlers::echo, plain};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};
use tower::{Layer as _, Service, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest,
    testing::{self, Exchange},
};

struct Refuse;

impl ProtocolHandler for Refuse {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you"))
    }
}

async fn exchange(protocols: &str) -> Exchange {
    let layer = UpgradeLayer::new()
        .protocol("echo", echo())
        .protocol("no", Refuse);
    let request = testing::request(protocols)
        .body(String::new())
        .expect("a request");
    testing::upgrade(layer.layer(service_fn(plain)), request)
        .await
        .expect("a response")
}

#[tokio::test]
#[should_panic(expected = "expected a switch to other, got a switch to echo: ")]
async fn a_switch_to_another_protocol_is_not_the_expected_one() {
    let _peer = exchange("echo").await.expect_switched("other");
}

#[tokio::test]
#[should_panic(expected = "expected a switch to echo, got a response of the inner service: ")]
async fn a_passed_request_is_no_switch() {
    let _peer = exchange("other").await.expect_switched("echo");
}

#[tokio::test]
#[should_panic(expected = "expected a refusal with 409 Conflict, got a refusal (not you): ")]
async fn a_refusal_with_another_status_is_not_the_expected_one() {
    exchange("no").await.expect_refused(StatusCode::CONFLICT);
}

#[tokio::test]
#[should_panic(expected = "expected a refusal with 200 OK, got a response of the inner service: ")]
async fn a_passed_request_is_no_refusal() {
    exchange("other").await.expect_refused(StatusCode::OK);
}

#[tokio::test]
#[should_panic(expected = "expected a response of the inner service, got a refusal (not you): ")]
async fn a_refused_request_did_not_pass() {
    exchange("no").await.expect_passed();
}

#[tokio::test]
#[should_panic(expected = "expected a response of the inner service, got a switch to echo: ")]
async fn a_switched_request_did_not_pass() {
    exchange("echo").await.expect_passed();
}

/// Panics if it is called before it is ready, like the services of tower.
#[derive(Clone, Default)]
struct AsksFirst {
    is_ready: bool,
}

impl Service<Request<Incoming>> for AsksFirst {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Incoming>) -> Self::Future {
        assert!(self.is_ready, "nobody asked whether it is ready");
        ready(Ok(Response::new(String::new())))
    }
}

#[tokio::test]
async fn a_service_is_ready_when_it_is_called() {
    let request = testing::request("other").body(String::new());
    let service = UpgradeLayer::new().layer(AsksFirst::default());
    let exchange = testing::upgrade(service, request.expect("a request")).await;
    exchange.expect("a response").expect_passed();
}

async fn connect(layer: UpgradeLayer) -> Exchange {
    let request = testing::connect("test:1").body(String::new());
    let layer = layer.layer(service_fn(plain));
    let exchange = testing::upgrade(layer, request.expect("a request")).await;
    exchange.expect("a response")
}

#[tokio::test]
async fn a_connect_has_a_peer_as_well() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let exchange = connect(UpgradeLayer::new().connect(echo())).await;
    assert_eq!(exchange.response().status(), StatusCode::OK);
    let mut peer = exchange.expect_connected();
    peer.write_all(b"hello").await.expect("it is open");
    peer.shutdown().await.expect("it is open");
    let mut echo = String::new();
    peer.read_to_string(&mut echo).await.expect("it is open");
    assert_eq!(echo, "hello");

    let exchange = connect(UpgradeLayer::new().connect(Refuse)).await;
    exchange.expect_refused(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn any_success_connects() {
    let service = tower::ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        })
        .layer(UpgradeLayer::new().connect(echo()))
        .service(service_fn(plain));
    let request = testing::connect("test:1").body(String::new());
    let exchange = testing::upgrade(service, request.expect("a request")).await;
    let exchange = exchange.expect("a response");
    assert_eq!(exchange.response().status(), StatusCode::ACCEPTED);
    let _peer = exchange.expect_connected();
}

#[tokio::test]
#[should_panic(expected = "expected a tunnel, got a refusal (not you): ")]
async fn a_refused_connect_is_no_tunnel() {
    let _peer = connect(UpgradeLayer::new().connect(Refuse))
        .await
        .expect_connected();
}

#[tokio::test]
#[should_panic(expected = "expected a tunnel, got a switch to echo: ")]
async fn a_switch_is_no_tunnel() {
    let _peer = exchange("echo").await.expect_connected();
}
