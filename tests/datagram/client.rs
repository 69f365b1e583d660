//! The client side: `UdpRequest` and `Udp`.

use crate::{
    proxy::{Echo, Proxy, VERSIONS, capsule, capsule_of},
    support::{
        Server, Via,
        clients::{AnyClient, Scripted},
        plain, soon,
        tunnel::loopback,
    },
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use hyper_util::client::legacy::connect::HttpConnector;
use std::{io::ErrorKind, net::SocketAddr};
use tower::{Layer as _, ServiceBuilder, service_fn, util::BoxCloneSyncService};
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_upgrade::{
    UpgradeLayer,
    client::{self, Dial},
    datagram::{ConnectUdp, Udp, UdpRequest},
};

fn client(via: Via) -> AnyClient {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    let mut dial = Dial::new(tcp);
    if via == Via::Http2 {
        dial = dial.http2_only();
    }
    BoxCloneSyncService::new(client::UpgradeLayer::new().layer(dial))
}

fn request(proxy: SocketAddr, target: &str) -> UdpRequest {
    let proxy: Uri = format!("http://{proxy}").parse().expect("a URI");
    UdpRequest::new(proxy, target.parse().expect("a target"))
}

async fn expect_echo(udp: &mut Udp, payload: &'static [u8]) {
    udp.send(Bytes::from_static(payload))
        .await
        .expect("an open flow");
    let received = soon(udp.recv()).await.expect("a payload");
    assert_eq!(received.expect("an open flow"), payload);
}

#[tokio::test]
async fn client_sends_and_receives_through_the_proxy() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        for target in [
            echo.address.to_string(),
            format!("[::ffff:127.0.0.1]:{}", echo.address.port()),
        ] {
            let request = request(proxy.address(), &target);
            let (mut udp, response) = soon(request.connect(client(via))).await.expect("a flow");
            assert_eq!(response.headers["capsule-protocol"], "?1");
            for payload in [&b"hello"[..], b"", &[7; 65_507]] {
                expect_echo(&mut udp, payload).await;
            }
            udp.close().await.expect("an open flow");
            assert!(soon(udp.recv()).await.is_none());
            assert_eq!(udp.dropped(), 0);
        }
    }
}

#[tokio::test]
async fn client_sends_many_payloads_at_once() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let request = request(proxy.address(), &echo.address.to_string());
        let (mut udp, _) = soon(request.connect(client(via))).await.expect("a flow");
        for number in 0..40_u8 {
            let payload = vec![number; 100].into();
            udp.send(payload).await.expect("an open flow");
        }
        udp.flush().await.expect("an open flow");
        for number in 0..40_u8 {
            let payload = soon(udp.recv()).await.expect("a payload");
            assert_eq!(payload.expect("an open flow"), [number; 100][..]);
        }
    }
}

#[tokio::test]
async fn client_uses_the_template_and_authenticates() {
    fn check<B, R: Default>(request: &mut Request<B>) -> Result<(), Response<R>> {
        let sent = request.headers().get(header::PROXY_AUTHORIZATION);
        if sent.is_some_and(|sent| sent == "Basic YW5uOnNlY3JldA==") {
            return Ok(());
        }
        let mut response = Response::new(R::default());
        *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        Err(response)
    }
    const TEMPLATE: &str = "/masque{?target_host,target_port}";
    for via in VERSIONS {
        let echo = Echo::start().await;
        let handler = ConnectUdp::new(loopback(echo.address.port())).template(TEMPLATE);
        let service = ServiceBuilder::new()
            .layer(UpgradeLayer::new())
            .layer(ValidateRequestHeaderLayer::custom(check))
            .layer(UpgradeLayer::new().protocol("connect-udp", handler))
            .service(service_fn(plain));
        let server = Server::start_via(via, service).await;
        let request = request(server.address, &echo.address.to_string()).template(TEMPLATE);

        let refused = soon(request.clone().connect(client(via))).await;
        let error = refused.expect_err("no credentials");
        assert_eq!(error.kind(), client::ErrorKind::Refused);
        assert_eq!(
            error.response().map(Response::status),
            Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        );

        let credentials = HeaderValue::from_static("Basic YW5uOnNlY3JldA==");
        let request = request.header(header::PROXY_AUTHORIZATION, credentials);
        assert!(!format!("{request:?}").contains("YW5u"));
        let (mut udp, _) = soon(request.connect(client(via))).await.expect("a flow");
        expect_echo(&mut udp, b"hello").await;
    }
}

#[tokio::test]
async fn invalid_target_is_an_error_of_the_request() {
    let address = ([127, 0, 0, 1], 1).into();
    for target in [
        "example.com",
        "example.com:0",
        "ann@example.com:443",
        "example.com:65536",
    ] {
        let error = request(address, target).connect(client(Via::Http1)).await;
        let error = error.expect_err(target);
        assert_eq!(error.kind(), client::ErrorKind::Request, "{target}");
    }
    let proxy = Uri::from_static("/proxy");
    let request = UdpRequest::new(proxy, "example.com:443".parse().expect("a target"));
    let error = request.connect(client(Via::Http1)).await;
    error.expect_err("no host");
}

/// Answers a request with these bytes, and returns the result.
async fn answer(answer: &[u8]) -> Result<Udp, client::Error> {
    let server = Scripted::start().await;
    let connecting = request(server.address, "[2001:db8::1]:53").connect(client(Via::Http1));
    let serve = async {
        let mut peer = server.accept().await;
        let head = peer.request_head().await;
        let line = "GET /.well-known/masque/udp/2001%3Adb8%3A%3A1/53/ HTTP/1.1\r\n";
        assert!(head.starts_with(line), "{head}");
        assert!(head.contains("\r\ncapsule-protocol: ?1\r\n"), "{head}");
        peer.send(answer).await;
        peer.finish().await;
        peer
    };
    let (udp, _peer) = soon(async { tokio::join!(connecting, serve) }).await;
    Ok(udp?.0)
}

const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: connect-udp\r\n";

#[tokio::test]
async fn d3_response_with_content_is_an_error() {
    for field in ["Content-Type: text/plain", "Content-Length: 0"] {
        let error = answer(&[UPGRADED, field.as_bytes(), b"\r\n\r\n"].concat()).await;
        let error = error.expect_err(field);
        assert_eq!(error.kind(), client::ErrorKind::Protocol, "{field}");
    }
}

#[tokio::test]
async fn d3_client_drops_other_contexts_and_rejects_long_payloads() {
    let stream = [
        UPGRADED,
        b"\r\n",
        &capsule_of(0x17, b"unknown"),
        &capsule_of(0, b"\x01other"),
        &capsule(b"payload"),
        &capsule(&[0; 65_528]),
        &capsule(b"after"),
    ];
    let mut udp = answer(&stream.concat()).await.expect("a flow");
    let payload = soon(udp.recv()).await.expect("a payload");
    assert_eq!(payload.expect("an open flow"), &b"payload"[..]);
    let error = soon(udp.recv()).await.expect("an error");
    assert_eq!(error.expect_err("too long").kind(), ErrorKind::InvalidData);
    assert!(soon(udp.recv()).await.is_none());
}

#[tokio::test]
async fn d1_client_reports_a_capsule_that_is_cut_off() {
    let stream = [UPGRADED, b"\r\n", &capsule(b"cut off")[..6]].concat();
    let mut udp = answer(&stream).await.expect("a flow");
    let error = soon(udp.recv()).await.expect("an error");
    assert_eq!(error.expect_err("cut off").kind(), ErrorKind::UnexpectedEof);
    assert!(soon(udp.recv()).await.is_none());
}

#[tokio::test]
async fn d3_client_does_not_send_a_payload_over_65527_bytes() {
    let mut udp = answer(&[UPGRADED, b"\r\n"].concat()).await.expect("a flow");
    let error = udp.send(vec![0; 65_528].into()).await;
    assert_eq!(error.expect_err("too long").kind(), ErrorKind::InvalidInput);
}
