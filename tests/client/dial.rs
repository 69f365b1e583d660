//! A connection for each request, of the version that TLS negotiates.

use crate::support::{
    Server, Via,
    clients::{expect_error, expect_session},
    handlers::echo,
    plain,
    tls::Tls,
};
use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, BoxIo, ProtocolHandler, Rejection, UpgradeKind, UpgradeRequest,
    client::{Dial, ErrorKind, Request, UpgradeLayer},
};

/// A TLS server that offers these HTTP versions.
async fn start(via: Via, alpn: &[&str]) -> (Server, Tls) {
    let tls = Tls::with_alpn(alpn);
    let acceptor = tls.acceptor.clone();
    let layer = tower_upgrade::UpgradeLayer::new()
        .protocol("echo", echo())
        .connect(echo());
    let server = Server::start_with(via, layer.layer(service_fn(plain)), move |io| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(io).await }
    });
    (server.await, tls)
}

fn https(
    tls: &Tls,
) -> hyper_rustls::HttpsConnectorBuilder<hyper_rustls::builderstates::WantsProtocols1> {
    HttpsConnectorBuilder::new()
        .with_tls_config(tls.client_config())
        .https_only()
}

fn any_version(tls: &Tls) -> HttpsConnector<HttpConnector> {
    https(tls).enable_all_versions().build()
}

fn http1(tls: &Tls) -> HttpsConnector<HttpConnector> {
    https(tls).enable_http1().build()
}

fn uri(server: &Server) -> Uri {
    let uri = format!("https://localhost:{}/", server.address.port());
    uri.parse().expect("a URI")
}

fn request(server: &Server) -> Request {
    Request::get(uri(server)).protocol("echo")
}

#[tokio::test]
async fn dial_uses_the_negotiated_version() {
    for (alpn, kind) in [
        (&["h2", "http/1.1"][..], UpgradeKind::ExtendedConnect),
        (&["http/1.1"], UpgradeKind::Upgrade),
        (&[], UpgradeKind::Upgrade),
    ] {
        let (server, tls) = start(Via::Auto, alpn).await;
        let client = UpgradeLayer::new().layer(Dial::new(any_version(&tls)));
        let session = client.clone().oneshot(request(&server)).await;
        let session = session.expect("a session");
        assert_eq!(session.kind(), kind, "{alpn:?}");
        expect_session(Ok(session)).expect_echo(b"hello").await;

        let dial = Dial::new(any_version(&tls)).destination(uri(&server));
        let client = UpgradeLayer::new().layer(dial);
        let tunnel = Request::connect("example.com:443".parse().expect("a target"));
        expect_session(client.oneshot(tunnel).await)
            .expect_echo(b"hello")
            .await;
    }
}

/// A `BoxIo` has no HTTP version, so `Dial` reads the version of the connector's connection before mapping it.
#[tokio::test]
async fn mapped_connection_keeps_the_negotiated_version() {
    let boxed = |io| BoxIo::new(TokioIo::new(io));
    for (alpn, kind) in [
        (&["h2", "http/1.1"][..], UpgradeKind::ExtendedConnect),
        (&["http/1.1"], UpgradeKind::Upgrade),
    ] {
        let (server, tls) = start(Via::Auto, alpn).await;
        let dial = Dial::new(any_version(&tls)).map_io(boxed);
        let session = UpgradeLayer::new().layer(dial).oneshot(request(&server));
        let session = session.await.expect("a session");
        assert_eq!(session.kind(), kind, "{alpn:?}");
        expect_session(Ok(session)).expect_echo(b"hello").await;
    }
    let (server, tls) = start(Via::AutoWithoutExtendedConnect, &["h2", "http/1.1"]).await;
    let dial = Dial::new(any_version(&tls)).fallback(http1(&tls));
    let client = UpgradeLayer::new().layer(dial.map_io(boxed));
    let session = client.oneshot(request(&server)).await.expect("a session");
    assert_eq!(session.kind(), UpgradeKind::Upgrade);
    expect_session(Ok(session)).expect_echo(b"hello").await;
}

#[tokio::test]
async fn dial_falls_back_to_http1_without_extended_connect() {
    // A server that has not enabled it.
    let (server, tls) = start(Via::AutoWithoutExtendedConnect, &["h2", "http/1.1"]).await;
    let dial = Dial::new(any_version(&tls));
    let client = UpgradeLayer::new().layer(dial.clone());
    let result = client.oneshot(request(&server)).await;
    let error = expect_error(result, ErrorKind::Unsupported);
    assert!(error.to_string().contains("extended CONNECT"), "{error}");

    let client = UpgradeLayer::new().layer(dial.fallback(http1(&tls)));
    let session = client
        .clone()
        .oneshot(request(&server))
        .await
        .expect("a session");
    assert_eq!(session.kind(), UpgradeKind::Upgrade);
    expect_session(Ok(session)).expect_echo(b"hello").await;
}

#[tokio::test]
async fn dial_falls_back_to_http1_for_unsupported_requests() {
    let (server, tls) = start(Via::Auto, &["h2", "http/1.1"]).await;
    let dial = Dial::new(any_version(&tls)).fallback(http1(&tls));
    let post = http::Request::post(uri(&server)).body(Full::<Bytes>::from("body"));
    let request = Request::from(post.expect("a request")).protocol("echo");
    let session = UpgradeLayer::new().layer(dial).oneshot(request).await;
    let session = session.expect("a session");
    assert_eq!(session.kind(), UpgradeKind::Upgrade);
    expect_session(Ok(session)).expect_echo(b"hello").await;
}

#[tokio::test]
async fn http_2_only_needs_no_tls() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    let client = UpgradeLayer::new().layer(Dial::new(tcp).http2_only());
    let uri = format!("http://{}/", server.address)
        .parse()
        .expect("a URI");
    let session = client
        .oneshot(Request::get(uri).protocol("echo"))
        .await
        .expect("a session");
    assert_eq!(session.kind(), UpgradeKind::ExtendedConnect);
    expect_session(Ok(session)).expect_echo(b"hello").await;
}

#[tokio::test]
async fn pooled_http2_connection_cannot_upgrade() {
    let (server, tls) = start(Via::Auto, &["h2", "http/1.1"]).await;
    let pool = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(any_version(&tls));
    let client = UpgradeLayer::new().layer(pool);
    let error = expect_error(
        client.oneshot(request(&server)).await,
        ErrorKind::Unsupported,
    );
    assert!(error.to_string().contains("HTTP/2"), "{error}");
    assert_eq!(error.response().expect("a response").status(), 200);
}

#[tokio::test]
async fn pool_limited_to_http1_upgrades_over_tls() {
    let (server, tls) = start(Via::Auto, &["h2", "http/1.1"]).await;
    let pool = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(http1(&tls));
    let client = UpgradeLayer::new().layer(pool);
    expect_session(client.oneshot(request(&server)).await)
        .expect_echo(b"hello")
        .await;
}

/// Responds with the authority of the request.
struct ForWhom;

impl ProtocolHandler for ForWhom {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let scheme = request.uri().scheme_str().unwrap_or("no scheme");
        let path = request
            .uri()
            .path_and_query()
            .map_or("", |path| path.as_str());
        let said = format!("{scheme} {} {path}", request.authority()?);
        let said = http::HeaderValue::try_from(said).expect("a value");
        Ok(Accept::new(|_| async { Ok(()) }).header("said", said))
    }
}

#[tokio::test]
async fn path_without_host_uses_the_destination() {
    for (alpn, scheme) in [("h2", "https"), ("http/1.1", "no scheme")] {
        let tls = Tls::with_alpn(&[alpn]);
        let acceptor = tls.acceptor.clone();
        let layer = tower_upgrade::UpgradeLayer::new().protocol("who", ForWhom);
        let service = layer.layer(service_fn(plain));
        let server = Server::start_with(Via::Auto, service, move |io| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(io).await }
        });
        let server = server.await;
        let destination = uri(&server);
        let dial = Dial::new(any_version(&tls)).destination(destination.clone());
        let client = UpgradeLayer::new().layer(dial);
        let ask = || Request::get("/a?b".parse().expect("a URI")).protocol("who");
        let authority = destination.authority().expect("a host").as_str();
        let other = http::HeaderValue::from_static("other");
        for (request, host) in [(ask(), authority), (ask().header("host", other), "other")] {
            let session = client.clone().oneshot(request).await.expect("a session");
            let said = &session.response().headers["said"];
            assert_eq!(said, &format!("{scheme} {host} /a?b"));
        }
    }
}
