//! `Tunnel`: connections through a proxy.

use crate::support::{
    Peer, Server, Via,
    clients::{Scripted, expect_error, expect_session},
    handlers::echo,
    plain, soon, text,
    tls::Tls,
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{error::Error as _, time::Duration};
use tokio::{net::TcpStream, time::Instant};
use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, UpgradeRequest,
    client::{self, Dial, ErrorKind, Http2, Request, Tunnel, UpgradeLayer},
};

/// A proxy that requires a password.
struct Proxy;

impl ProtocolHandler for Proxy {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let credentials = request.headers().get("proxy-authorization");
        if credentials.is_none_or(|credentials| credentials != "Basic secret") {
            return Err(
                Rejection::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "who?")
                    .header("proxy-authenticate", HeaderValue::from_static("Basic")),
            );
        }
        let target = request.authority()?.to_string();
        let mut target = TcpStream::connect(target.replace("localhost", "127.0.0.1"))
            .await
            .map_err(|error| Rejection::from(StatusCode::BAD_GATEWAY).with_source(error))?;
        Ok(Accept::new(|session: Session| async move {
            let mut client = session.into_io();
            tokio::io::copy_bidirectional(&mut client, &mut target).await?;
            Ok(())
        }))
    }
}

async fn proxy(via: Via) -> Server {
    let layer = tower_upgrade::UpgradeLayer::new().connect(Proxy);
    Server::start_via(via, layer.layer(service_fn(plain))).await
}

fn with_password<S>(tunnel: Tunnel<S>) -> Tunnel<S> {
    tunnel.header(
        "proxy-authorization",
        HeaderValue::from_static("Basic secret"),
    )
}

fn dial(proxy: &Server) -> client::Upgrade<Dial<HttpConnector>> {
    let uri = format!("http://{}", proxy.address).parse().expect("a URI");
    UpgradeLayer::new().layer(Dial::new(HttpConnector::new()).destination(uri))
}

/// A TLS server behind the proxy, and a request for it.
async fn origin() -> (Server, Tls, Uri) {
    let tls = Tls::with_alpn(&["http/1.1"]);
    let acceptor = tls.acceptor.clone();
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start_with(Via::Http1, layer.layer(service_fn(plain)), move |io| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(io).await }
    });
    let server = server.await;
    let uri = format!("https://localhost:{}/index", server.address.port());
    (server, tls, uri.parse().expect("a URI"))
}

#[tokio::test]
async fn hyper_util_client_connects_through_the_tunnel() {
    let (_origin, tls, uri) = origin().await;
    let proxy = proxy(Via::Auto).await;
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls.client_config())
        .https_only()
        .enable_http1()
        .wrap_connector(with_password(Tunnel::new(dial(&proxy))));
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(https);
    let response = soon(client.get(uri)).await.expect("a response");
    let body = response.collect().await.expect("a body").to_bytes();
    assert_eq!(body, "plain GET /index");
}

#[tokio::test]
async fn upgrade_passes_through_the_proxy_over_any_version() {
    let (_origin, tls, uri) = origin().await;
    for via in [Via::Http1, Via::Http2] {
        let proxy = proxy(via).await;
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls.client_config())
            .https_only()
            .enable_http1();
        let request = Request::get(uri.clone()).protocol("echo");
        let result = if via == Via::Http1 {
            let https = https.wrap_connector(with_password(Tunnel::new(dial(&proxy))));
            UpgradeLayer::new()
                .layer(Dial::new(https))
                .oneshot(request)
                .await
        } else {
            let connection = Http2::handshake(proxy.connect().await.io).await;
            let connection = UpgradeLayer::new().layer(connection.expect("a connection"));
            let https = https.wrap_connector(with_password(Tunnel::new(connection)));
            UpgradeLayer::new()
                .layer(Dial::new(https))
                .oneshot(request)
                .await
        };
        expect_session(result).expect_echo(b"hello").await;
    }
}

#[tokio::test]
async fn rejection_of_the_proxy_is_returned() {
    let (_origin, tls, uri) = origin().await;
    let proxy = proxy(Via::Http1).await;
    let result = Tunnel::new(dial(&proxy)).oneshot(uri.clone()).await;
    let error = result.expect_err("no password");
    assert_eq!(error.kind(), ErrorKind::ProxyRefused);
    let response = error.response().expect("a response");
    assert_eq!(response.headers()["proxy-authenticate"], "Basic");

    // The error is also found as the source of another client's error.
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls.client_config())
        .https_only()
        .enable_http1()
        .wrap_connector(Tunnel::new(dial(&proxy)));
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(https);
    let failed = soon(client.get(uri)).await.expect_err("no password");
    let mut source = failed.source();
    let refused = std::iter::from_fn(|| {
        let error = source?;
        source = error.source();
        Some(error)
    })
    .find_map(|error| error.downcast_ref::<client::Error>());
    assert_eq!(refused.expect("ours").kind(), ErrorKind::ProxyRefused);
}

/// The proxy is not trusted: it must not be able to respond in place of a TLS server.
#[tokio::test]
async fn rejections_of_proxy_and_server_differ_in_kind() {
    let request = Request::get("http://origin/".parse().expect("a URI")).protocol("echo");
    let server = Scripted::start().await;
    let proxy =
        UpgradeLayer::new().layer(Dial::new(HttpConnector::new()).destination(server.uri("")));
    let client = UpgradeLayer::new().layer(Dial::new(Tunnel::new(proxy)));
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        peer.send("HTTP/1.1 401 Who\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let (result, ()) = soon(async { tokio::join!(client.oneshot(request), answering) }).await;
    let error = expect_error(result, ErrorKind::ProxyRefused);
    assert_eq!(error.response().expect("a response").status(), 401);
}

#[tokio::test(start_paused = true)]
async fn silent_proxy_is_a_timeout() {
    let silent = service_fn(|_: http::Request<Full<Bytes>>| {
        std::future::pending::<Result<http::Response<String>, std::convert::Infallible>>()
    });
    let proxy = UpgradeLayer::new()
        .handshake_timeout(Duration::from_secs(1))
        .layer(silent);
    let client = UpgradeLayer::new().layer(Dial::new(Tunnel::new(proxy)));
    let start = Instant::now();
    let request = Request::get("http://origin/".parse().expect("a URI")).protocol("echo");
    let error = expect_error(client.oneshot(request).await, ErrorKind::Timeout);
    assert!(error.source().is_some());
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn tunnel_accepts_a_client_with_layers() {
    let proxy = proxy(Via::Http1).await;
    let client = ServiceBuilder::new()
        .timeout(Duration::from_secs(30))
        .concurrency_limit(1)
        .service(dial(&proxy));
    let uri = format!("http://{}", proxy.address).parse().expect("a URI");
    let error = Tunnel::new(client)
        .oneshot(uri)
        .await
        .expect_err("no password");
    assert_eq!(error.kind(), ErrorKind::ProxyRefused);
}

#[test]
fn credentials_are_not_shown() {
    let mut tunnel = Tunnel::new(());
    for credentials in ["Basic one", "Basic two"] {
        tunnel = tunnel.header("proxy-authorization", HeaderValue::from_static(credentials));
    }
    let shown = format!("{tunnel:?}");
    assert!(!shown.contains("Basic"), "{shown}");
    assert_eq!(shown.matches("Sensitive").count(), 2, "{shown}");
}

#[tokio::test]
async fn tunnel_target_has_the_port_of_the_scheme() {
    for (uri, target) in [
        ("http://example.com/a", "example.com:80"),
        ("https://example.com/a", "example.com:443"),
        ("https://example.com:8443/a", "example.com:8443"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("https://[::1]", "[::1]:443"),
        ("ws://example.com/a", "example.com:80"),
        ("wss://example.com/a", "example.com:443"),
    ] {
        let server = Scripted::start().await;
        let client =
            UpgradeLayer::new().layer(Dial::new(HttpConnector::new()).destination(server.uri("")));
        let tunnel = with_password(Tunnel::new(client));
        let answering = async {
            let head = server.accept().await.request_head().await;
            assert_eq!(
                head,
                format!(
                    "CONNECT {target} HTTP/1.1\r\nproxy-authorization: Basic secret\r\nhost: {target}\r\n\r\n"
                )
            );
        };
        let uri = uri.parse().expect("a URI");
        let (result, ()) = soon(async { tokio::join!(tunnel.oneshot(uri), answering) }).await;
        result.expect_err("the server has gone");
    }
    let client = UpgradeLayer::new().layer(Dial::new(HttpConnector::new()));
    let result = Tunnel::new(client)
        .oneshot("/a".parse().expect("a URI"))
        .await;
    assert_eq!(result.expect_err("no host").kind(), ErrorKind::Request);
}

#[tokio::test]
async fn k4_tls_does_not_begin_before_the_tunnel() {
    let tls = Tls::new();
    let server = Scripted::start().await;
    let client =
        UpgradeLayer::new().layer(Dial::new(HttpConnector::new()).destination(server.uri("")));
    let mut https = HttpsConnectorBuilder::new()
        .with_tls_config(tls.client_config())
        .https_only()
        .enable_http1()
        .wrap_connector(Tunnel::new(client));
    let connecting = https.call("https://localhost/".parse().expect("a URI"));
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let nothing = peer.io.try_read(&mut [0]).expect_err("bytes came");
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        peer.send("HTTP/1.1 200 OK\r\n\r\n").await;
        // A record that holds a handshake.
        assert_eq!(peer.exactly(1).await, [22]);
    };
    let (result, ()) = soon(async { tokio::join!(connecting, answering) }).await;
    drop(result);
}

#[tokio::test]
async fn k5_bytes_behind_the_response_are_read_first() {
    let server = Scripted::start().await;
    let client =
        UpgradeLayer::new().layer(Dial::new(HttpConnector::new()).destination(server.uri("")));
    let connecting = Tunnel::new(client).oneshot("http://test:22".parse().expect("a URI"));
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        peer.send("HTTP/1.1 200 OK\r\n\r\nSSH-2.0-early\r\n").await;
        peer.finish().await;
    };
    let (io, ()) = soon(async { tokio::join!(connecting, answering) }).await;
    let rest = Peer::new(io.expect("a tunnel")).rest().await;
    assert_eq!(text(&rest.expect("an orderly end")), "SSH-2.0-early\r\n");
}

#[tokio::test]
async fn request_bodies_of_other_types_work() {
    let proxy = proxy(Via::Http1).await;
    let http = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let request = Request::get(format!("http://{}/", proxy.address).parse().expect("a URI"))
        .protocol("echo")
        .body(Empty::new());
    let result = UpgradeLayer::new().layer(http).oneshot(request).await;
    expect_error(result, ErrorKind::Refused);
}

#[tokio::test]
async fn hyper_util_client_connected_to_proxy_opens_tunnel() {
    let layer = tower_upgrade::UpgradeLayer::new().connect(echo());
    let proxy = Server::start(layer.layer(service_fn(plain))).await;
    let uri: Uri = format!("http://{}", proxy.address).parse().expect("a URI");
    let connector = HttpConnector::new().map_request(move |_target: Uri| uri.clone());
    let http = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let target = Request::connect("example.com:443".parse().expect("a target"));
    let result = UpgradeLayer::new().layer(http).oneshot(target).await;
    expect_session(result).expect_echo(b"hello").await;
}
