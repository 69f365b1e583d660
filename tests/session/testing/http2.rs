//! `testing::upgrade` over HTTP/2.

use crate::support::{handlers::echo, plain};
use http::{Method, Request, StatusCode, Version, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest,
    testing::{self, Exchange},
};

/// Rejects every request with its version, its URI, and whether it has `Host`.
struct Tell;

impl ProtocolHandler for Tell {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let parts = request.parts();
        let host = parts.headers.contains_key(header::HOST);
        let told = format!("{:?} {}, host: {host}", parts.version, parts.uri);
        Err(Rejection::new(StatusCode::IM_A_TEAPOT, told))
    }
}

async fn send(request: http::request::Builder) -> Exchange {
    let layer = UpgradeLayer::new()
        .protocol("echo", echo())
        .protocol("tell", Tell)
        .connect(Tell);
    let request = request.body(String::new()).expect("a request");
    let exchange = testing::upgrade(layer.layer(service_fn(plain)), request).await;
    exchange.expect("a response")
}

async fn told(request: http::request::Builder) -> String {
    let exchange = send(request).await;
    let response = exchange.expect_rejected(StatusCode::IM_A_TEAPOT);
    String::from_utf8(response.into_body().into()).expect("text")
}

#[tokio::test]
async fn echo_test_runs_over_http1_and_http2() {
    for (request, status) in [
        (testing::request("echo"), StatusCode::SWITCHING_PROTOCOLS),
        (testing::extended_connect("echo"), StatusCode::OK),
    ] {
        let exchange = send(request.uri("/room/1")).await;
        assert_eq!(exchange.response().status(), status);
        let mut peer = exchange.expect_upgraded("echo");
        // Larger than the flow-control windows and buffers: the echo arrives while the rest is being sent.
        let text = vec![b'x'; 1 << 20];
        let (mut reader, mut writer) = tokio::io::split(&mut peer);
        let write = async {
            writer.write_all(&text).await?;
            writer.shutdown().await
        };
        let mut back = Vec::new();
        let (written, read) = tokio::join!(write, reader.read_to_end(&mut back));
        written.expect("an open session");
        read.expect("an open session");
        assert!(back == text);
    }
}

#[tokio::test]
async fn request_defaults_match_http1() {
    for (request, expected) in [
        (
            testing::extended_connect("tell"),
            "HTTP/2.0 http://localhost/, host: false",
        ),
        (
            testing::extended_connect("tell").uri("/room/1?x"),
            "HTTP/2.0 http://localhost/room/1?x, host: false",
        ),
        (
            testing::extended_connect("tell").header(header::HOST, "example.com:8080"),
            "HTTP/2.0 http://example.com:8080/, host: false",
        ),
        (
            testing::extended_connect("tell").uri("https://example.com/room"),
            "HTTP/2.0 https://example.com/room, host: false",
        ),
        (
            testing::connect("example.com:443").version(Version::HTTP_2),
            "HTTP/2.0 example.com:443, host: false",
        ),
        (
            testing::connect("example.com:443"),
            "HTTP/1.1 example.com:443, host: true",
        ),
    ] {
        assert_eq!(told(request).await, expected);
    }
}

#[tokio::test]
async fn request_with_protocol_extension_uses_http2() {
    let request = Request::builder()
        .method(Method::CONNECT)
        .extension(hyper::ext::Protocol::from_static("tell"));
    let told = told(request).await;
    assert!(told.starts_with("HTTP/2.0 "), "{told}");
}

#[tokio::test]
async fn unsupported_protocol_is_refused_and_plain_request_passes() {
    let exchange = send(testing::extended_connect("other")).await;
    exchange.expect_rejected(StatusCode::NOT_IMPLEMENTED);
    let exchange = send(Request::builder().version(Version::HTTP_2)).await;
    let response = exchange.expect_passed();
    assert_eq!(response.version(), Version::HTTP_2);
    // hyper's client removes `Upgrade` on HTTP/2.
    let exchange = send(testing::request("echo").version(Version::HTTP_2)).await;
    exchange.expect_passed();
}

#[tokio::test]
#[should_panic(expected = "expected an upgrade to other, got an upgrade to echo: ")]
async fn expect_upgraded_panics_on_another_protocol() {
    let exchange = send(testing::extended_connect("echo")).await;
    let _peer = exchange.expect_upgraded("other");
}

#[tokio::test]
#[should_panic(expected = "expected a tunnel, got an upgrade to echo: ")]
async fn expect_connected_panics_on_extended_connect() {
    let exchange = send(testing::extended_connect("echo")).await;
    let _peer = exchange.expect_connected();
}

#[tokio::test]
async fn service_error_or_panic_is_an_error() {
    async fn fail(_: Request<hyper::body::Incoming>) -> Result<http::Response<String>, String> {
        Err("broken".into())
    }
    async fn panic(_: Request<hyper::body::Incoming>) -> Result<http::Response<String>, String> {
        panic!("broken")
    }
    for request in [testing::request, testing::extended_connect] {
        let request = || request("echo").body(String::new()).expect("a request");
        testing::upgrade(service_fn(fail), request())
            .await
            .expect_err("the error of the service");
        testing::upgrade(service_fn(panic), request())
            .await
            .expect_err("the panic of the service");
    }
}

#[tokio::test]
async fn http3_request_is_an_error() {
    let request = testing::request("echo").version(Version::HTTP_3);
    let request = request.body(String::new()).expect("a request");
    let error = testing::upgrade(service_fn(plain), request).await;
    let error = error.expect_err("no such connection");
    assert_eq!(
        error.to_string(),
        "requests of version HTTP/3 cannot be sent"
    );
}
