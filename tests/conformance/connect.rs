//! C on HTTP/1: CONNECT (RFC 9110 §9.3.6, RFC 9931).

use crate::server::{Refuse, echo_server};
use crate::support::{
    Head, Peer, Server, Via,
    handlers::{Counted, echo},
    head, plain,
};
use http::{HeaderValue, Method, Response, StatusCode, header};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::net::TcpStream;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Unsupported, UpgradeKind, UpgradeLayer, UpgradeRequest,
};

pub(crate) fn connect_to(target: &str, more: &[&str]) -> String {
    let line = format!("CONNECT {target} HTTP/1.1");
    let host = format!("Host: {target}");
    head(&[&[line.as_str(), host.as_str()], more].concat())
}

/// Asserts a 200 without headers.
#[track_caller]
fn assert_connected(head: &Head) {
    assert_eq!(head.status, 200, "{head:?}");
    assert_eq!(head.names(), [] as [&str; 0], "{head:?}");
}

/// Expects a rejection, then EOF without a response to later requests on the connection.
pub(crate) async fn expect_refusal(peer: &mut Peer<TcpStream>, status: u16) -> (Head, String) {
    let (head, body) = peer.response().await;
    head.assert_no_handshake();
    assert_eq!(head.status, status, "{head:?}");
    assert_eq!(head.get("connection").as_deref(), Some("close"), "{head:?}");
    peer.expect_end().await;
    (head, body)
}

pub(crate) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

#[tokio::test]
async fn u13_connect_with_an_upgrade_header_is_a_connect() {
    let tunnel = Counted::default();
    let upgrade = Counted::default();
    let layer = UpgradeLayer::new()
        .protocol("echo", upgrade.clone())
        .connect(tunnel.clone());
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(connect_to(
        "test:1",
        &["Connection: upgrade", "Upgrade: echo"],
    ))
    .await;
    let head = peer.head().await;
    assert_eq!((head.status, head.names()), (200, vec!["added"]));
    peer.expect_echo(b"hello").await;
    assert_eq!((tunnel.started(), upgrade.accepted()), (1, 0));

    // The protocols in its `Upgrade` header are not offers.
    let server = echo_server(UpgradeLayer::new().connect(DescribeTarget)).await;
    let mut peer = server.connect().await;
    let upgrade = ["Connection: upgrade", "Upgrade: echo"];
    peer.send(connect_to("test:1", &upgrade)).await;
    expect_refusal(&mut peer, 418).await;
}

/// Rejects with a description of the target.
struct DescribeTarget;

impl ProtocolHandler for DescribeTarget {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        assert_eq!(request.kind(), UpgradeKind::Connect);
        assert_eq!((request.protocol(), request.offered().count()), (None, 0));
        let (authority, port) = (request.authority()?, request.port().expect("a port"));
        let text = format!("{authority} is {} at {port}", authority.host());
        Err(Rejection::new(StatusCode::IM_A_TEAPOT, text))
    }
}

#[tokio::test]
async fn c1_valid_target_reaches_the_handler() {
    let server = echo_server(UpgradeLayer::new().connect(DescribeTarget)).await;
    for (target, told) in [
        ("example.com:443", "example.com:443 is example.com at 443"),
        ("127.0.0.1:1", "127.0.0.1:1 is 127.0.0.1 at 1"),
        ("[::1]:65535", "[::1]:65535 is [::1] at 65535"),
    ] {
        let mut peer = server.connect().await;
        // The `Host` header has no influence on the target.
        peer.send(head(&[
            &format!("CONNECT {target} HTTP/1.1"),
            "Host: other",
        ]))
        .await;
        assert_eq!(expect_refusal(&mut peer, 418).await.1, told);
    }
}

#[tokio::test]
async fn c1_invalid_target_is_a_bad_request() {
    let tunnel = Counted::default();
    let server = echo_server(UpgradeLayer::new().connect(tunnel.clone())).await;
    for target in [
        "/",
        "*",
        "example.com",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:+1",
        "example.com:https",
        ":443",
        "[::1]",
        "[::1]x:443",
        "[name]:443",
        "a[::1]:443",
        "ann@example.com:443",
        "ann:secret@example.com:443",
        "http://example.com:443/",
        "example.com:443/",
    ] {
        let mut peer = server.connect().await;
        peer.send(connect_to(target, &[]) + SMUGGLED).await;
        let refusal = peer.head().await;
        assert_eq!(refusal.status, 400, "{target}");
        let rest = peer.rest().await.expect("an orderly end");
        assert!(
            !crate::support::text(&rest).contains("smuggled"),
            "{target}"
        );
    }
    assert_eq!(tunnel.accepted(), 0);
}

/// Conditions of handlers may rely on a valid target.
#[tokio::test]
async fn c1_target_is_checked_before_wants() {
    let asked = echo().when(|parts| parts.uri.port_u16().expect("a port") > 0);
    let server = echo_server(UpgradeLayer::new().connect(asked)).await;
    for target in ["example.com", "example.com:0"] {
        let mut peer = server.connect().await;
        peer.send(connect_to(target, &[])).await;
        expect_refusal(&mut peer, 400).await;
    }
}

#[tokio::test]
async fn c1_connect_with_content_is_rejected() {
    let tunnel = Counted::default();
    let server = echo_server(UpgradeLayer::new().connect(tunnel.clone())).await;
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        // The rejection does not wait for the content.
        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[framing])).await;
        assert_eq!(peer.head().await.status, 400);

        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[framing]) + "5\r\nhello\r\n0\r\n\r\n")
            .await;
        let (_, body) = expect_refusal(&mut peer, 400).await;
        assert!(body.contains("no content"), "{body}");
    }
    assert_eq!(tunnel.accepted(), 0);

    let mut peer = server.connect().await;
    peer.send(connect_to("test:1", &["Content-Length: 0"]) + "early")
        .await;
    assert_eq!(peer.head().await.status, 200);
    assert_eq!(peer.exactly(5).await, b"early");
}

#[tokio::test]
async fn c2_success_is_200_without_framing() {
    for via in [Via::Http1, Via::Auto] {
        let layer = UpgradeLayer::new().connect(echo());
        let server = Server::start_via(via, layer.layer(service_fn(plain))).await;
        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[]) + "early").await;
        assert_connected(&peer.head().await);
        assert_eq!(peer.exactly(5).await, b"early");
        peer.expect_echo(b"late").await;
        peer.finish().await;
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn c2_layer_around_cannot_break_the_tunnel() {
    let service = tower::ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::OK;
            let headers = response.headers_mut();
            for (name, value) in [
                (header::CONTENT_LENGTH, "7"),
                (header::TRANSFER_ENCODING, "chunked"),
                (header::UPGRADE, "lie"),
                (header::CONNECTION, "close"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            headers.insert("x-kept", HeaderValue::from_static("yes"));
            response.map(|_| String::from("a body"))
        })
        .layer(UpgradeLayer::new().connect(echo()))
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(connect_to("test:1", &[])).await;
    let head = peer.head().await;
    assert_eq!((head.status, head.names()), (200, vec!["x-kept"]));
    peer.expect_echo(b"no byte of a body before this").await;
}

/// An inner service that counts its requests and refuses CONNECT with 404.
pub(crate) fn counting(
    asked: &Arc<AtomicUsize>,
) -> impl Clone
+ Send
+ tower::Service<
    http::Request<hyper::body::Incoming>,
    Response = Response<String>,
    Error = std::convert::Infallible,
    Future: Send,
> + use<> {
    let asked = Arc::clone(asked);
    service_fn(move |request: http::Request<hyper::body::Incoming>| {
        asked.fetch_add(1, Ordering::SeqCst);
        let mut response = Response::new("not here".to_owned());
        if request.method() == Method::CONNECT {
            *response.status_mut() = StatusCode::NOT_FOUND;
            let keep = HeaderValue::from_static("keep-alive");
            response.headers_mut().insert(header::CONNECTION, keep);
        }
        std::future::ready(Ok(response))
    })
}

#[tokio::test]
async fn c4_connect_without_a_handler_is_a_501() {
    let asked = Arc::new(AtomicUsize::new(0));
    let protocols_only = || UpgradeLayer::new().protocol("echo", echo());
    for layer in [
        protocols_only(),
        protocols_only().unsupported(Unsupported::Refuse),
    ] {
        let server = Server::start(layer.layer(counting(&asked))).await;
        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
        expect_refusal(&mut peer, 501).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);

    let leaf = UpgradeLayer::new()
        .connect(echo().when(|_parts| false))
        .into_service();
    let server = Server::start(leaf).await;
    let mut peer = server.connect().await;
    peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
    expect_refusal(&mut peer, 501).await;
}

#[tokio::test]
async fn c4_connect_leaf_answers_other_requests_with_405() {
    let server = Server::start(UpgradeLayer::new().connect(echo()).into_service()).await;
    let mut peer = server.connect().await;
    for request in [SMUGGLED.to_owned(), crate::support::offer("echo", &[])] {
        peer.send(request).await;
        let (head, _) = peer.response().await;
        assert_eq!(
            (head.status, head.get("allow").as_deref()),
            (405, Some("CONNECT"))
        );
    }
    peer.send(connect_to("test:1", &[])).await;
    assert_connected(&peer.head().await);
}

#[tokio::test]
async fn c4_s8_success_without_a_session_is_replaced() {
    let pass = UpgradeLayer::new()
        .protocol("echo", echo())
        .unsupported(Unsupported::Pass);
    for (layer, status) in [
        (UpgradeLayer::new(), StatusCode::OK),
        (UpgradeLayer::new(), StatusCode::NO_CONTENT),
        (UpgradeLayer::new(), StatusCode::SWITCHING_PROTOCOLS),
        (pass, StatusCode::OK),
    ] {
        let inner = service_fn(move |_: http::Request<hyper::body::Incoming>| {
            let mut response = Response::new("welcome".to_owned());
            *response.status_mut() = status;
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let server = Server::start(layer.layer(inner)).await;
        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
        let (_, body) = expect_refusal(&mut peer, 501).await;
        assert_eq!(body, "the upgrade is not supported");
    }
}

#[tokio::test]
async fn c8_connect_over_http_1_0_is_served_and_closed() {
    for via in [Via::Http1, Via::Auto] {
        let layer = UpgradeLayer::new()
            .connect(echo().when(|parts| parts.uri.port_u16() == Some(1)))
            .connect(Refuse);
        let server = Server::start_via(via, layer.layer(service_fn(plain))).await;
        for keep in [
            &["CONNECT test:1 HTTP/1.0"][..],
            &["CONNECT test:1 HTTP/1.0", "Connection: keep-alive"],
        ] {
            let mut peer = server.connect().await;
            peer.send(head(keep)).await;
            assert_connected(&peer.head().await);
        }
        let mut peer = server.connect().await;
        peer.send(head(&["CONNECT test:1 HTTP/1.0"]) + "early")
            .await;
        assert_connected(&peer.head().await);
        assert_eq!(peer.exactly(5).await, b"early");
        peer.finish().await;
        peer.expect_end().await;

        for keep in [
            &["CONNECT test:2 HTTP/1.0"][..],
            &["CONNECT test:2 HTTP/1.0", "Connection: keep-alive"],
        ] {
            let mut peer = server.connect().await;
            peer.send(head(keep) + SMUGGLED).await;
            expect_refusal(&mut peer, 403).await;
        }
    }
}

/// The client would take a rejection with a success status for the upgrade response.
#[tokio::test]
async fn c2_refusal_with_a_success_status_is_a_500() {
    struct RefusesWith(StatusCode);
    impl ProtocolHandler for RefusesWith {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Err(Rejection::new(self.0, "cached"))
        }
    }
    // hyper would take a 101 for the upgrade response.
    for status in [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS] {
        let server = echo_server(UpgradeLayer::new().connect(RefusesWith(status))).await;
        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[])).await;
        let (_, body) = expect_refusal(&mut peer, 500).await;
        assert_eq!(body, "Internal Server Error");
    }
}

/// The version decides how hyper announces that it closes the connection.
#[tokio::test]
async fn c8_refusal_has_the_version_of_its_request() {
    let server = echo_server(UpgradeLayer::new().connect(Refuse)).await;
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut peer = server.connect().await;
        peer.send(head(&[
            &format!("CONNECT test:1 {version}"),
            "Host: test:1",
        ]))
        .await;
        let line = format!("{version} 403 ");
        let sent = peer.exactly(line.len()).await;
        assert_eq!(crate::support::text(&sent), line);
    }
}
