//! K8 and K9: kinds of errors on the way to a server, and the URI of the server and of a proxy.

use crate::support::{
    Peer, Server, Via,
    clients::{AnyClient, Scripted, expect_error, expect_session},
    handlers::echo,
    plain, soon,
    tls::Tls,
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{
    error::Error as _,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier},
};
use tower::{
    Layer as _, Service as _, ServiceBuilder, ServiceExt as _, retry::Policy, service_fn,
    util::BoxCloneSyncService,
};
use tower_upgrade::client::{
    Dial, Error, ErrorKind, Request, Session, Tunnel, Upgrade, UpgradeLayer,
};

fn request(uri: &str) -> Request {
    Request::get(uri.parse().expect("a URI")).protocol("echo")
}

/// The connector inside the TLS connector.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp
}

fn https<C>(tls: &Tls, tcp: C) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new()
        .with_tls_config(tls.client_config())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp)
}

/// `Dial` and a pool over one connector.
fn over<C>(connector: C) -> [(&'static str, AnyClient); 2]
where
    C: tower::Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: hyper_util::client::legacy::connect::Connection
        + hyper::rt::Read
        + hyper::rt::Write
        + Send
        + Unpin
        + 'static,
    C::Future: Send + Unpin + 'static,
    C::Error: Into<tower_upgrade::BoxError>,
{
    let layer = UpgradeLayer::new();
    let pool = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector.clone());
    [
        (
            "dial",
            BoxCloneSyncService::new(layer.layer(Dial::new(connector))),
        ),
        ("pool", BoxCloneSyncService::new(layer.layer(pool))),
    ]
}

/// A server of TLS.
async fn secure(acceptor: TlsAcceptor) -> (Server, String) {
    let layer = tower_upgrade::UpgradeLayer::new()
        .protocol("echo", echo())
        .connect(echo());
    let server = Server::start_with(Via::Http1, layer.layer(service_fn(plain)), move |io| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(io).await }
    });
    let server = server.await;
    let uri = format!("https://localhost:{}/", server.address.port());
    (server, uri)
}

/// The messages of an error and of its sources.
fn in_full(error: &Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message = format!("{message}: {error}");
        source = error.source();
    }
    message
}

// ---- K8 ------------------------------------------------------------------------------------------

#[tokio::test]
async fn k8_untrusted_certificate_is_a_tls_error() {
    let (_server, uri) = secure(Tls::new().acceptor).await;
    for (name, client) in over(https(&Tls::new(), tcp())) {
        let error = expect_error(client.oneshot(request(&uri)).await, ErrorKind::Tls);
        assert!(error.response().is_none());
        let message = in_full(&error);
        assert!(message.starts_with("TLS failed"), "{name}: {message}");
        assert!(message.contains("certificate"), "{name}: {message}");
    }
}

#[tokio::test]
async fn k8_certificate_for_another_name_is_a_tls_error() {
    let tls = Tls::new();
    let (server, _) = secure(tls.acceptor.clone()).await;
    let uri = format!("https://127.0.0.1:{}/", server.address.port());
    for (_, client) in over(https(&tls, tcp())) {
        expect_error(client.oneshot(request(&uri)).await, ErrorKind::Tls);
    }
}

/// In TLS 1.3 the server sends the alert after the client's handshake has completed.
#[tokio::test]
async fn k8_missing_client_certificate_is_a_tls_error() {
    let certified = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a name");
    let mut roots = RootCertStore::empty();
    roots
        .add(certified.cert.der().clone())
        .expect("a certificate");
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots.clone())).build();
    let server = ServerConfig::builder()
        .with_client_cert_verifier(verifier.expect("roots"))
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("the key of the certificate");
    let (_server, uri) = secure(TlsAcceptor::from(Arc::new(server))).await;
    let client = tokio_rustls::rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(client)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp());
    for (name, client) in over(https) {
        let error = expect_error(client.oneshot(request(&uri)).await, ErrorKind::Tls);
        let message = in_full(&error);
        assert!(message.contains("CertificateRequired"), "{name}: {message}");
    }
}

#[tokio::test]
async fn k8_server_that_breaks_off_tls_is_unreachable() {
    let server = Scripted::start().await;
    let uri = format!("https://localhost:{}/", server.address.port());
    for (_, client) in over(https(&Tls::new(), tcp())) {
        let breaking = async { drop(server.accept().await) };
        let asking = client.oneshot(request(&uri));
        let (result, ()) = soon(async { tokio::join!(asking, breaking) }).await;
        expect_error(result, ErrorKind::Unreachable);
    }
}

#[tokio::test]
async fn k8_error_of_the_connector_has_its_kind() {
    for (_, client) in over(HttpConnector::new()) {
        expect_error(
            client.oneshot(request("https://localhost/")).await,
            ErrorKind::Connector,
        );
    }
    let https_only = HttpsConnectorBuilder::new()
        .with_tls_config(Tls::new().client_config())
        .https_only()
        .enable_http1()
        .wrap_connector(tcp());
    for (_, client) in over(https_only) {
        let result = client.oneshot(request("http://localhost/")).await;
        expect_error(result, ErrorKind::Connector);
    }
}

/// A proxy that rejects and counts its requests.
async fn refusing(refusal: &'static str) -> (Uri, Arc<AtomicUsize>) {
    let proxy = Scripted::start().await;
    let (uri, asked) = (proxy.uri(""), Arc::<AtomicUsize>::default());
    tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            loop {
                let mut peer = proxy.accept().await;
                peer.request_head().await;
                asked.fetch_add(1, Ordering::SeqCst);
                peer.send(refusal).await;
                peer.finish().await;
            }
        }
    });
    (uri, asked)
}

const DENIED: &str =
    "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nwho?";

fn through(proxy: Uri) -> Tunnel<Upgrade<Dial<HttpConnector>>> {
    Tunnel::new(UpgradeLayer::new().layer(Dial::new(HttpConnector::new()).destination(proxy)))
}

#[tokio::test]
async fn k8_rejection_of_a_proxy_has_its_kind_and_response() {
    let (proxy, _) = refusing(DENIED).await;
    let tunnel = through(proxy);
    let tls = Tls::new();
    let clients = over(tunnel.clone())
        .into_iter()
        .chain(over(https(&tls, tunnel)));
    for (name, client) in clients {
        for uri in ["http://origin.test/", "https://origin.test/"] {
            let error = expect_error(
                client.clone().oneshot(request(uri)).await,
                ErrorKind::ProxyRefused,
            );
            assert_eq!(
                error.to_string(),
                "the proxy refused with 407 Proxy Authentication Required",
                "{name}"
            );
            let response = error.response().expect("a response");
            assert_eq!(response.status(), StatusCode::PROXY_AUTHENTICATION_REQUIRED);
            assert_eq!(response.headers()["proxy-authenticate"], "Basic");
            let body = error.into_response().expect("a response").into_body();
            let body = soon(body.collect()).await.expect("a body").to_bytes();
            assert_eq!(body, "who?", "{name}");
        }
    }
}

#[tokio::test]
async fn k8_rejection_of_the_server_through_a_proxy_is_refused() {
    let proxy = Scripted::start().await;
    let [(_, dial), _] = over(through(proxy.uri("")));
    let answering = async {
        let mut peer = proxy.accept().await;
        peer.request_head().await;
        peer.send("HTTP/1.1 200 OK\r\n\r\n").await;
        peer.request_head().await;
        peer.send(DENIED).await;
        peer
    };
    let asking = dial.oneshot(request("http://origin.test/"));
    let (result, _peer) = soon(async { tokio::join!(asking, answering) }).await;
    expect_error(result, ErrorKind::Refused);
}

#[tokio::test]
async fn k8_other_failures_of_a_proxy_keep_their_kind_and_name_it() {
    let away = Scripted::start().await;
    let uri = away.uri("");
    drop(away);
    let (secure, untrusted) = secure(Tls::new().acceptor).await;
    let _secure = secure;
    let layer = UpgradeLayer::new();
    let tls = https(&Tls::new(), tcp());
    let dial = layer.layer(Dial::new(tls).destination(untrusted.parse().expect("a URI")));
    let (switching, _) = refusing("HTTP/1.1 101 S\r\n\r\n").await;
    let clients = [
        (ErrorKind::Unreachable, over(through(uri))),
        (ErrorKind::Tls, over(Tunnel::new(dial))),
        (ErrorKind::Protocol, over(through(switching))),
    ];
    for (kind, clients) in clients {
        for (name, client) in clients {
            let result = client.oneshot(request("http://origin.test/")).await;
            let message = in_full(&expect_error(result, kind));
            assert!(message.contains("through the proxy"), "{name}: {message}");
        }
    }
}

/// Retries the kinds that "may help" by the table of `ErrorKind`.
#[derive(Clone)]
struct Table(usize);

impl Policy<Request, Session, Error> for Table {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request, result: &mut Result<Session, Error>) -> Option<Ready<()>> {
        let may_help = matches!(
            result.as_ref().err()?.kind(),
            ErrorKind::Unreachable | ErrorKind::Transport | ErrorKind::Timeout
        );
        self.0 = self.0.checked_sub(1)?;
        may_help.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn k8_documented_retry_policy_does_not_retry_rejections_or_tls() {
    let (proxy, asked) = refusing(DENIED).await;
    for (_, client) in over(through(proxy)) {
        let client = ServiceBuilder::new().retry(Table(10)).service(client);
        let result = client.oneshot(request("http://origin.test/")).await;
        expect_error(result, ErrorKind::ProxyRefused);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    let calls = Arc::<AtomicUsize>::default();
    let (_server, uri) = secure(Tls::new().acceptor).await;
    let tcp = tcp().map_request({
        let calls = Arc::clone(&calls);
        move |uri| {
            calls.fetch_add(1, Ordering::SeqCst);
            uri
        }
    });
    for (_, client) in over(https(&Tls::new(), tcp)) {
        let client = ServiceBuilder::new().retry(Table(10)).service(client);
        expect_error(client.oneshot(request(&uri)).await, ErrorKind::Tls);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn k8_documented_retry_policy_retries_a_broken_connection() {
    let server = Scripted::start().await;
    let uri = format!("http://{}/", server.address);
    let [(_, dial), _] = over(HttpConnector::new());
    let client = ServiceBuilder::new().retry(Table(2)).service(dial);
    let answering = async {
        for _ in 0..2 {
            server.accept().await.request_head().await;
        }
        let mut peer = server.accept().await;
        peer.request_head().await;
        let switch = "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        peer.send(switch).await;
        peer
    };
    let (result, _peer) =
        soon(async { tokio::join!(client.oneshot(request(&uri)), answering) }).await;
    expect_session(result);
}

// ---- K9 ------------------------------------------------------------------------------------------

#[tokio::test]
async fn k9_proxy_authorization_ignores_the_case_of_the_scheme() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let tls = Tls::new();
    let (_secure, secure) = secure(tls.acceptor.clone()).await;
    let secure = secure.strip_prefix("https").expect("a scheme");
    for scheme in ["ws", "WS", "Ws", "http", "HTTP"] {
        let uri = format!("{scheme}://{}/", server.address);
        for (_, client) in over(HttpConnector::new()) {
            let session = expect_session(client.oneshot(request(&uri)).await);
            expect_echo(session).await;
        }
    }
    for scheme in ["wss", "WSS", "wSS", "https", "Https"] {
        for (_, client) in over(https(&tls, tcp())) {
            let result = client.oneshot(request(&format!("{scheme}{secure}"))).await;
            expect_echo(expect_session(result)).await;
        }
    }
}

async fn expect_echo(mut session: Peer<tower_upgrade::Upgraded>) {
    session.expect_echo(b"hello").await;
}

/// Sends a request through a proxy at `user@`, and returns the head that the proxy receives.
async fn connect_as(user: &str, headers: &[&'static str]) -> String {
    let proxy = Scripted::start().await;
    let uri = format!("http://{user}{}", proxy.address);
    let mut tunnel = through(uri.parse().expect("a URI"));
    for value in headers {
        tunnel = tunnel.header("proxy-authorization", HeaderValue::from_static(value));
    }
    let answering = async {
        let mut peer: Peer<TcpStream> = proxy.accept().await;
        let head = peer.request_head().await;
        peer.send(DENIED).await;
        head
    };
    let connecting = tunnel.oneshot("http://origin.test/".parse().expect("a URI"));
    soon(async { tokio::join!(connecting, answering) }).await.1
}

#[tokio::test]
async fn k9_user_of_a_proxy_uri_becomes_proxy_authorization() {
    for (user, credentials) in [
        // `u:p`, `u:p@/`, `u:`
        ("u:p@", "Basic dTpw"),
        ("u:p%40%2F@", "Basic dTpwQC8="),
        ("u@", "Basic dTo="),
    ] {
        assert_eq!(
            connect_as(user, &[]).await,
            format!(
                "CONNECT origin.test:80 HTTP/1.1\r\nproxy-authorization: {credentials}\r\nhost: origin.test:80\r\n\r\n"
            )
        );
    }
    assert!(!connect_as("", &[]).await.contains("proxy-authorization"));
    let head = connect_as("u:p@", &["Basic own"]).await;
    assert!(
        head.contains("\r\nproxy-authorization: Basic own\r\n"),
        "{head}"
    );
    assert_eq!(head.matches("proxy-authorization").count(), 1, "{head}");
}

#[tokio::test]
async fn k9_user_of_a_server_uri_is_an_error() {
    let connector = service_fn(|uri: Uri| async move {
        Err::<hyper_util::rt::TokioIo<TcpStream>, _>(std::io::Error::other(format!("dialed {uri}")))
    });
    let layer = UpgradeLayer::new();
    let with_user: Uri = "http://u:p@test/".parse().expect("a URI");
    let to = layer.layer(Dial::new(connector).destination(with_user.clone()));
    let dial = layer.layer(Dial::new(connector));
    let mut tunnel = Tunnel::new(to.clone());
    for result in [
        to.clone().oneshot(request("/")).await,
        to.oneshot(request("http://other/")).await,
        dial.oneshot(request("ws://u:p@test/")).await,
    ] {
        let error = expect_error(result, ErrorKind::Request);
        let message = error.to_string();
        assert!(message.contains("send `Authorization`"), "{message}");
    }
    let error = tunnel.call(with_user).await.expect_err("a user");
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.to_string().contains("user"), "{error}");
}
