//! CONNECT through a custom handler, over TCP and over TLS.

use super::curl;
use crate::support::{Server, Via, plain, soon, text, tls::Tls};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
};
use tokio::net::{TcpSocket, TcpStream};
use tower::{Layer as _, Service, ServiceBuilder, service_fn};
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest};

/// Connects to every target but `forbidden.test`.
struct Dial;

impl ProtocolHandler for Dial {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let target = request.authority()?;
        if target.host() == "forbidden.test" {
            return Err(Rejection::new(StatusCode::FORBIDDEN, "not there"));
        }
        let mut upstream = TcpStream::connect(target.as_str()).await.map_err(|error| {
            Rejection::new(StatusCode::BAD_GATEWAY, "cannot connect").with_source(error)
        })?;
        Ok(Accept::new(|session| async move {
            let mut client = session.into_io();
            tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
            Ok(())
        }))
    }
}

/// The same proxy over TCP and over TLS, with their URLs.
struct Proxies {
    _servers: [Server; 2],
    urls: [String; 2],
}

impl Proxies {
    async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<tower_upgrade::BoxError>,
    {
        let plain = Server::start(service.clone()).await;
        let in_tls = over_tls(service).await;
        let urls = [
            format!("http://{}", plain.address),
            format!("https://localhost:{}", in_tls.address.port()),
        ];
        Self {
            _servers: [plain, in_tls],
            urls,
        }
    }

    async fn of_dial() -> Self {
        let layer = UpgradeLayer::new().connect(Dial);
        Self::start(layer.layer(service_fn(plain))).await
    }
}

async fn over_tls<S, B>(service: S) -> Server
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<tower_upgrade::BoxError>,
{
    let tls = Tls::new();
    Server::start_with(Via::Http1, service, move |io| {
        let acceptor = tls.acceptor.clone();
        async move { acceptor.accept(io).await }
    })
    .await
}

/// The output of curl.
struct Fetched {
    text: String,
    /// The status of the last CONNECT.
    connect: String,
    /// The status of the last response.
    status: String,
    exit: Option<i32>,
}

async fn fetch(proxy: &str, args: &[&str]) -> Fetched {
    let options = [
        "--noproxy",
        "",
        "--proxytunnel",
        "--proxy",
        proxy,
        "--proxy-insecure",
        "--insecure",
        "--write-out",
        "\n%{http_connect} %{http_code}",
    ];
    let mut curl = curl(&[&options, args].concat());
    let output = soon(curl.output()).await.expect("curl runs");
    let seen = text(&output.stdout);
    let (text, statuses) = seen.rsplit_once('\n').expect("the written-out values");
    let (connect, status) = statuses.split_once(' ').expect("two statuses");
    Fetched {
        text: text.to_owned(),
        connect: connect.to_owned(),
        status: status.to_owned(),
        exit: output.status.code(),
    }
}

impl Fetched {
    #[track_caller]
    fn assert_refused(&self, status: &str) {
        assert_eq!(self.connect, status, "{}", self.text);
        assert_eq!(self.status, "000", "no response: {}", self.text);
        assert_eq!(self.exit, Some(56), "{}", self.text);
    }

    #[track_caller]
    fn assert_fetched(&self) {
        assert_eq!(self.connect, "200", "{}", self.text);
        assert_eq!(self.status, "200", "{}", self.text);
        assert_eq!(self.exit, Some(0), "{}", self.text);
    }
}

/// Returns more bytes than the buffers on the path hold.
fn large_body() -> String {
    "0123456789abcdef".repeat(100_000)
}

async fn serve_large_body(_request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(large_body()))
}

#[tokio::test]
async fn curl_fetches_through_a_tunnel() {
    let target = Server::start(service_fn(serve_large_body)).await;
    let url = format!("http://{}/", target.address);
    for proxy in &Proxies::of_dial().await.urls {
        let seen = fetch(proxy, &[&url]).await;
        seen.assert_fetched();
        let (head, rest) = seen.text.split_once("\r\n\r\n").expect("a head");
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        for field in [
            "upgrade",
            "connection",
            "content-length",
            "transfer-encoding",
        ] {
            assert!(!head.contains(&format!("\r\n{field}:")), "{head}");
        }
        assert!(rest.ends_with(&format!("\r\n\r\n{}", large_body())));
    }
}

#[tokio::test]
async fn curl_uses_tls_in_a_tunnel() {
    let target = over_tls(service_fn(serve_large_body)).await;
    let url = format!("https://{}/", target.address);
    for proxy in &Proxies::of_dial().await.urls {
        let seen = fetch(proxy, &[&url]).await;
        seen.assert_fetched();
        assert!(seen.text.ends_with(&format!("\r\n\r\n{}", large_body())));
    }
}

#[tokio::test]
async fn curl_receives_the_status_of_a_refused_connect() {
    // A bound port without a listener.
    let refuses = TcpSocket::new_v4().expect("a socket");
    refuses
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .expect("loopback");
    let unused = format!("http://{}/", refuses.local_addr().expect("bound"));
    for proxy in &Proxies::of_dial().await.urls {
        for (url, status) in [
            ("http://forbidden.test/", "403"),
            ("http://127.0.0.1:0/", "400"),
            (&unused, "502"),
        ] {
            let seen = fetch(proxy, &[url]).await;
            seen.assert_refused(status);
            assert!(
                seen.text.contains("\r\nconnection: close\r\n"),
                "{}",
                seen.text
            );
        }
    }
}

#[tokio::test]
async fn curl_authenticates_with_proxy_credentials() {
    /// `ann`, with the password `secret`.
    const ANN: &str = "Basic YW5uOnNlY3JldA==";

    fn check<B, R: Default>(request: &mut Request<B>) -> Result<(), Response<R>> {
        let credentials = request.headers().get(header::PROXY_AUTHORIZATION);
        if credentials.is_some_and(|credentials| credentials == ANN) {
            return Ok(());
        }
        let mut response = Response::new(R::default());
        *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let challenge = HeaderValue::from_static("Basic realm=\"tunnels\"");
        response
            .headers_mut()
            .insert(header::PROXY_AUTHENTICATE, challenge);
        Err(response)
    }

    let proxies = Proxies::start(
        ServiceBuilder::new()
            .layer(UpgradeLayer::new())
            .layer(ValidateRequestHeaderLayer::custom(check))
            .layer(UpgradeLayer::new().connect(Dial))
            .service(service_fn(plain)),
    );
    let target = Server::start(service_fn(plain)).await;
    let url = format!("http://{}/", target.address);
    for proxy in &proxies.await.urls {
        for args in [&[&*url][..], &["--proxy-user", "ann:wrong", &url]] {
            let seen = fetch(proxy, args).await;
            seen.assert_refused("407");
            let challenge = "\r\nproxy-authenticate: Basic realm=\"tunnels\"\r\n";
            assert!(seen.text.contains(challenge), "{}", seen.text);
        }

        let seen = fetch(proxy, &["--proxy-user", "ann:secret", &url]).await;
        seen.assert_fetched();
        assert!(seen.text.ends_with("plain GET /"), "{}", seen.text);

        // curl sends credentials only after the challenge, on a new connection.
        let any_auth = ["--proxy-anyauth", "--proxy-user", "ann:secret", &url];
        let seen = fetch(proxy, &any_auth).await;
        seen.assert_fetched();
        assert!(seen.text.starts_with("HTTP/1.1 407 "), "{}", seen.text);
        assert!(seen.text.ends_with("plain GET /"), "{}", seen.text);
    }
}
