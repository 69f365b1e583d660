//! CONNECT: curl goes through a proxy of ours, plain or in TLS.

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

/// Dials what it is asked for, but for one host.
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

/// The same proxy plain and in TLS, and what curl calls them.
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

/// What curl made of it.
struct Seen {
    text: String,
    /// The status of the last CONNECT, that of the last response, and curl's own verdict.
    connect: String,
    status: String,
    exit: Option<i32>,
}

async fn through(proxy: &str, args: &[&str]) -> Seen {
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
    let (text, statuses) = seen.rsplit_once('\n').expect("what is written out");
    let (connect, status) = statuses.split_once(' ').expect("two statuses");
    Seen {
        text: text.to_owned(),
        connect: connect.to_owned(),
        status: status.to_owned(),
        exit: output.status.code(),
    }
}

impl Seen {
    #[track_caller]
    fn assert_refused(&self, status: &str) {
        assert_eq!(self.connect, status, "{}", self.text);
        assert_eq!(self.status, "000", "nothing went through: {}", self.text);
        assert_eq!(self.exit, Some(56), "{}", self.text);
    }

    #[track_caller]
    fn assert_went_through(&self) {
        assert_eq!(self.connect, "200", "{}", self.text);
        assert_eq!(self.status, "200", "{}", self.text);
        assert_eq!(self.exit, Some(0), "{}", self.text);
    }
}

/// More than any buffer on the way holds.
fn much() -> String {
    "0123456789abcdef".repeat(100_000)
}

async fn serve_much(_request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(much()))
}

#[tokio::test]
async fn curl_goes_through_a_tunnel() {
    let target = Server::start(service_fn(serve_much)).await;
    let url = format!("http://{}/", target.address);
    for proxy in &Proxies::of_dial().await.urls {
        let seen = through(proxy, &[&url]).await;
        seen.assert_went_through();
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
        assert!(rest.ends_with(&format!("\r\n\r\n{}", much())));
    }
}

#[tokio::test]
async fn curl_speaks_tls_in_a_tunnel() {
    let target = over_tls(service_fn(serve_much)).await;
    let url = format!("https://{}/", target.address);
    for proxy in &Proxies::of_dial().await.urls {
        let seen = through(proxy, &[&url]).await;
        seen.assert_went_through();
        assert!(seen.text.ends_with(&format!("\r\n\r\n{}", much())));
    }
}

#[tokio::test]
async fn curl_sees_why_there_is_no_tunnel() {
    // It has a port, and does not listen there.
    let refuses = TcpSocket::new_v4().expect("a socket");
    refuses
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .expect("loopback");
    let away = format!("http://{}/", refuses.local_addr().expect("bound"));
    for proxy in &Proxies::of_dial().await.urls {
        for (url, status) in [
            ("http://forbidden.test/", "403"),
            ("http://127.0.0.1:0/", "400"),
            (&away, "502"),
        ] {
            let seen = through(proxy, &[url]).await;
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
async fn curl_says_who_it_is() {
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
            let seen = through(proxy, args).await;
            seen.assert_refused("407");
            let challenge = "\r\nproxy-authenticate: Basic realm=\"tunnels\"\r\n";
            assert!(seen.text.contains(challenge), "{}", seen.text);
        }

        let seen = through(proxy, &["--proxy-user", "ann:secret", &url]).await;
        seen.assert_went_through();
        assert!(seen.text.ends_with("plain GET /"), "{}", seen.text);

        // It waits to be asked, and has to come back on a new connection.
        let asked = ["--proxy-anyauth", "--proxy-user", "ann:secret", &url];
        let seen = through(proxy, &asked).await;
        seen.assert_went_through();
        assert!(seen.text.starts_with("HTTP/1.1 407 "), "{}", seen.text);
        assert!(seen.text.ends_with("plain GET /"), "{}", seen.text);
    }
}
