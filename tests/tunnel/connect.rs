//! `ConnectProxy`: timeouts, limits, disconnects and the end of tunnels.

use crate::support::{
    Server, Via,
    h2::{Client, connect},
    head, offer, plain, soon,
    tunnel::{Pending, Refuses, Resolver, Target, loopback},
    until,
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use std::time::Duration;
use tokio::{io::AsyncReadExt as _, time::Instant};
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_upgrade::{
    Sessions, Upgrade, UpgradeLayer, UpgradeRequired,
    testing::{self, Exchange},
    tunnel::{ConnectProxy, Policy},
};

pub(crate) fn proxy(handler: ConnectProxy) -> Upgrade<UpgradeRequired> {
    UpgradeLayer::new().connect(handler).into_service()
}

/// Sends a CONNECT to the proxy in memory.
pub(crate) async fn send_connect(proxy: Upgrade<UpgradeRequired>, target: &str) -> Exchange {
    let request = testing::connect(target).body(String::new());
    let exchange = testing::upgrade(proxy, request.expect("a request"));
    exchange.await.expect("a response")
}

#[tokio::test(start_paused = true)]
async fn connect_times_out_after_ten_seconds() {
    let (start, waiting) = (Instant::now(), Pending::default());
    let handler = ConnectProxy::new(Policy::new()).resolver(waiting.clone());
    let exchange = send_connect(proxy(handler), "any.test:443").await;
    exchange.expect_rejected(StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(waiting.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_is_configurable() {
    let handler = ConnectProxy::new(Policy::new()).resolver(Pending::default());
    for (limit, seconds) in [
        (Some(Duration::from_secs(3)), 3),
        // The `accept_timeout` of the layer still applies.
        (None, 30),
    ] {
        let start = Instant::now();
        let handler = handler.clone().connect_timeout(limit);
        let exchange = send_connect(proxy(handler), "any.test:443").await;
        exchange.expect_rejected(StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(start.elapsed(), Duration::from_secs(seconds));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn silent_target_uses_the_whole_connect_timeout() {
    let silent = crate::support::tunnel::Silent::start().await;
    let start = Instant::now();
    let handler = ConnectProxy::new(loopback(silent.address.port()));
    let exchange = send_connect(proxy(handler), &silent.address.to_string()).await;
    exchange.expect_rejected(StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn silent_address_is_followed_by_the_next_after_250_ms() {
    let silent = crate::support::tunnel::Silent::start().await;
    let port = silent.address.port();
    let target = Target::start_at(([127, 0, 0, 2], port).into()).await;
    let resolver = Resolver::of(&["127.0.0.1", "127.0.0.2"]);
    let handler = ConnectProxy::new(loopback(port)).resolver(resolver);
    let start = Instant::now();
    let exchange = send_connect(proxy(handler), &format!("any.test:{port}")).await;
    assert_eq!(start.elapsed(), Duration::from_millis(250));
    let mut tunnel = crate::support::Peer::new(exchange.expect_connected());
    tunnel.expect_echo(b"hello").await;
    assert_eq!(target.accepted(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn refusing_address_is_followed_by_the_next_at_once() {
    let refuses = Refuses::new();
    let port = refuses.address.port();
    let target = Target::start_at(([127, 0, 0, 2], port).into()).await;
    let resolver = Resolver::of(&["127.0.0.1", "127.0.0.3", "127.0.0.2"]);
    let handler = ConnectProxy::new(loopback(port)).resolver(resolver);
    let start = Instant::now();
    let exchange = send_connect(proxy(handler), &format!("any.test:{port}")).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    let mut tunnel = crate::support::Peer::new(exchange.expect_connected());
    tunnel.expect_echo(b"hello").await;
    assert_eq!(target.accepted(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn refusal_by_all_addresses_becomes_502() {
    let refuses = Refuses::new();
    let port = refuses.address.port();
    let resolver = Resolver::of(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let handler = ConnectProxy::new(loopback(port)).resolver(resolver);
    let start = Instant::now();
    let exchange = send_connect(proxy(handler), &format!("any.test:{port}")).await;
    exchange.expect_rejected(StatusCode::BAD_GATEWAY);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn client_disconnect_cancels_the_dial() {
    let waiting = Pending::default();
    let handler = ConnectProxy::new(Policy::new())
        .connect_timeout(None)
        .resolver(waiting.clone());
    let layer = UpgradeLayer::new().accept_timeout(None).connect(handler);

    let server = Server::start(layer.clone().into_service()).await;
    let mut peer = server.connect().await;
    peer.send(head(&["CONNECT any.test:443 HTTP/1.1", "Host: any.test"]))
        .await;
    until(|| waiting.waiting() == 1).await;
    drop(peer);
    until(|| waiting.waiting() == 0).await;

    let server = Server::start_via(Via::Http2, layer.into_service()).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = connect("any.test:443").body(()).expect("a request");
    let (response, mut send) = client.send(request).await;
    until(|| waiting.waiting() == 1).await;
    send.send_reset(h2::Reason::CANCEL);
    until(|| waiting.waiting() == 0).await;
    drop(response);
}

#[tokio::test]
async fn client_over_the_limit_is_refused_without_a_dial() {
    let target = Target::start().await;
    let sessions = Sessions::builder().max(1).build();
    let resolver = Resolver::of(&["127.0.0.1"]);
    let handler = ConnectProxy::new(target.policy()).resolver(resolver.clone());
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .connect(handler);
    let service = layer.into_service();
    let authority = format!("any.test:{}", target.port());
    let first = send_connect(service.clone(), &authority)
        .await
        .expect_connected();
    let refusal = send_connect(service.clone(), &authority).await;
    refusal.expect_rejected(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((target.accepted(), resolver.asked()), (1, 1));

    drop(first);
    until(|| sessions.is_empty()).await;
    let _ = send_connect(service, &authority).await.expect_connected();
}

#[tokio::test(start_paused = true)]
async fn drain_closes_both_sides_of_a_tunnel() {
    let target = Target::start().await;
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .connect(ConnectProxy::new(target.policy()));
    let service = layer.into_service();
    let mut tunnel = send_connect(service.clone(), &target.address.to_string())
        .await
        .expect_connected();
    until(|| target.open() == 1).await;

    let report = sessions.drain(Duration::from_secs(10)).await;
    assert_eq!((report.ended, report.aborted, report.left), (1, 0, 0));
    let mut rest = Vec::new();
    let read = soon(tunnel.read_to_end(&mut rest)).await;
    assert_eq!((read.expect("an orderly end"), rest), (0, vec![]));
    until(|| target.open() == 0).await;
    let late = send_connect(service, &target.address.to_string()).await;
    late.expect_rejected(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(target.accepted(), 1);
}

#[tokio::test]
async fn half_close_by_client_and_target_ends_the_tunnel() {
    let target = Target::start().await;
    let handler = ConnectProxy::new(target.policy());
    let mut tunnel = send_connect(proxy(handler), &target.address.to_string())
        .await
        .expect_connected();
    tokio::io::AsyncWriteExt::shutdown(&mut tunnel)
        .await
        .expect("an open tunnel");
    let mut rest = Vec::new();
    let read = soon(tunnel.read_to_end(&mut rest)).await;
    assert_eq!(read.expect("an orderly end"), 0);
    until(|| target.open() == 0).await;
}

#[tokio::test]
async fn upgrade_handled_by_connect_proxy_gets_501() {
    let handler = ConnectProxy::new(Policy::new().ports(0..=65535));
    let layer = UpgradeLayer::new().protocol("echo", handler);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let (head, body) = peer.response().await;
    assert_eq!(
        (head.status, &*body),
        (501, "this proxy only supports CONNECT")
    );

    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = crate::support::h2::extended_connect("echo").body(());
    let answer = client.ask(request.expect("a request")).await;
    assert_eq!(answer.refused().await.0, 501);
}

#[tokio::test]
async fn c5_outer_layer_can_require_proxy_authentication() {
    fn check<B, R: Default>(request: &mut Request<B>) -> Result<(), Response<R>> {
        if request.headers().contains_key(header::PROXY_AUTHORIZATION) {
            return Ok(());
        }
        let mut response = Response::new(R::default());
        *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let challenge = HeaderValue::from_static("Basic realm=\"proxy\"");
        let headers = response.headers_mut();
        headers.insert(header::PROXY_AUTHENTICATE, challenge);
        Err(response)
    }
    let target = Target::start().await;
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .layer(ValidateRequestHeaderLayer::custom(check))
        .layer(UpgradeLayer::new().connect(ConnectProxy::new(target.policy())))
        .service(service_fn(plain));
    let line = format!("CONNECT {} HTTP/1.1", target.address);

    let server = Server::start(service.clone()).await;
    let mut peer = server.connect().await;
    let smuggled = head(&["GET /smuggled HTTP/1.1", "Host: test"]);
    peer.send(head(&[&line, "Host: test"]) + &smuggled).await;
    let refusal = peer.head().await;
    assert_eq!(refusal.status, 407);
    let challenge = refusal.get("proxy-authenticate");
    assert_eq!(challenge.as_deref(), Some("Basic realm=\"proxy\""));
    assert_eq!(refusal.get("connection").as_deref(), Some("close"));
    peer.expect_end().await;
    assert_eq!(target.accepted(), 0);

    let mut peer = server.connect().await;
    let credentials = "Proxy-Authorization: Basic YW5uOg==";
    peer.send(head(&[&line, "Host: test", credentials])).await;
    assert_eq!(peer.head().await.status, 200);
    peer.expect_echo(b"hello").await;

    let server = Server::start_via(Via::Http2, service).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = connect(&target.address.to_string()).body(());
    let answer = client.ask(request.expect("a request")).await;
    assert_eq!(answer.head.status(), 407);
    assert!(answer.head.headers().contains_key("proxy-authenticate"));
    let request = connect(&target.address.to_string()).header("proxy-authorization", "Basic x");
    let answer = client.ask(request.body(()).expect("a request")).await;
    answer.expect_upgraded().expect_echo(b"hello").await;
}
