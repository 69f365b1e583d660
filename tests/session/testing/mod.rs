//! The module `testing`: each `expect_` method accepts its outcome only.

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
#[should_panic(expected = "expected an upgrade to other, got an upgrade to echo: ")]
async fn expect_upgraded_panics_on_another_protocol() {
    let _peer = exchange("echo").await.expect_upgraded("other");
}

#[tokio::test]
#[should_panic(expected = "expected an upgrade to echo, got a response of the inner service: ")]
async fn expect_upgraded_panics_on_passed_request() {
    let _peer = exchange("other").await.expect_upgraded("echo");
}

#[tokio::test]
#[should_panic(expected = "expected a rejection with 409 Conflict, got a rejection (not you): ")]
async fn expect_rejected_panics_on_another_status() {
    exchange("no").await.expect_rejected(StatusCode::CONFLICT);
}

#[tokio::test]
#[should_panic(
    expected = "expected a rejection with 200 OK, got a response of the inner service: "
)]
async fn expect_rejected_panics_on_passed_request() {
    exchange("other").await.expect_rejected(StatusCode::OK);
}

#[tokio::test]
#[should_panic(expected = "expected a response of the inner service, got a rejection (not you): ")]
async fn expect_passed_panics_on_refusal() {
    exchange("no").await.expect_passed();
}

#[tokio::test]
#[should_panic(expected = "expected a response of the inner service, got an upgrade to echo: ")]
async fn expect_passed_panics_on_upgrade_response() {
    exchange("echo").await.expect_passed();
}

/// Panics if called before it is ready, as tower's services may.
#[derive(Clone, Default)]
struct ChecksReady {
    is_ready: bool,
}

impl Service<Request<Incoming>> for ChecksReady {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Incoming>) -> Self::Future {
        assert!(self.is_ready, "called before it is ready");
        ready(Ok(Response::new(String::new())))
    }
}

#[tokio::test]
async fn service_is_ready_before_it_is_called() {
    let request = testing::request("other").body(String::new());
    let service = UpgradeLayer::new().layer(ChecksReady::default());
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
async fn connect_returns_a_peer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let exchange = connect(UpgradeLayer::new().connect(echo())).await;
    assert_eq!(exchange.response().status(), StatusCode::OK);
    let mut peer = exchange.expect_connected();
    peer.write_all(b"hello").await.expect("an open session");
    peer.shutdown().await.expect("an open session");
    let mut echo = String::new();
    peer.read_to_string(&mut echo)
        .await
        .expect("an open session");
    assert_eq!(echo, "hello");

    let exchange = connect(UpgradeLayer::new().connect(Refuse)).await;
    exchange.expect_rejected(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn expect_connected_accepts_any_2xx() {
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
#[should_panic(expected = "expected a tunnel, got a rejection (not you): ")]
async fn expect_connected_panics_on_refusal() {
    let _peer = connect(UpgradeLayer::new().connect(Refuse))
        .await
        .expect_connected();
}

#[tokio::test]
#[should_panic(expected = "expected a tunnel, got an upgrade to echo: ")]
async fn expect_connected_panics_on_upgrade() {
    let _peer = exchange("echo").await.expect_connected();
}
