//! A reverse proxy: forwards WebSocket and all other upgrades, over `Upgrade` or extended CONNECT, to a backend, with
//! HTTP/1.1 or HTTP/2 on either side. Its inner service forwards plain requests, and rewrites their headers by the same
//! rules. The inner service sets no time limit.
//!
//! ```sh
//! cargo run --example echo -- --listen 127.0.0.1:4000
//! cargo run --features tunnel --example reverse_proxy -- --backend http://127.0.0.1:4000
//! curl -i http://127.0.0.1:3000/
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: echo' -H 'Content-Length: 0' -d hello \
//!     http://127.0.0.1:3000/
//! ```
//!
//! | option | meaning |
//! |---|---|
//! | `--listen ADDR` | the address to listen on, by default 127.0.0.1:3000 |
//! | `--backend URI` | the backend, with `http` or `https`; requests keep the path and the `Host` of the client |
//! | `--http2` | use HTTP/2 with an `http` backend; for `https`, ALPN selects the version |
//! | `--protocol NAME` | forward upgrades to this protocol only; repeat for more protocols |
//! | `--forwarded` | send the client's address to the backend in `Forwarded` |
//! | `--x-forwarded` | send the client's address in `X-Forwarded-For`, `-Host` and `-Proto` |
//! | `--tls` | use TLS with clients, with a self-signed certificate |
//!
//! On SIGINT and SIGTERM the proxy stops accepting connections, ends its sessions, and exits.

mod support;

use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version, header,
    uri::{PathAndQuery, Scheme},
};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use lexopt::ValueExt as _;
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use support::Server;
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    BoxError, BoxIo, Protocol, Rejection, Sessions, UpgradeLayer, client,
    tunnel::{Forwarding, ReverseProxy},
};

/// The time after which a session without traffic is closed.
const IDLE: Duration = Duration::from_secs(15 * 60);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    let backend = Backend::new(&args)?;
    let mut server = Server::bind(args.listen, args.tls).await?;
    server.http.http2().enable_connect_protocol();

    let scheme = match args.tls {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    };
    let proxy = backend.proxy(&args).scheme(scheme);
    let sessions = Sessions::new();
    let app = UpgradeLayer::new()
        .sessions(sessions.clone())
        .idle_timeout(IDLE)
        .any_protocol(proxy.clone())
        .layer(service_fn(move |request| {
            let (backend, proxy) = (backend.clone(), proxy.clone());
            async move {
                let response = backend.forward(&proxy, request).await;
                Ok::<_, Infallible>(response.unwrap_or_else(refuse))
            }
        }));
    server.run(app, sessions).await
}

// ---- The backend --------------------------------------------------------------------------------

/// Clients for the backend: `dial` opens a connection for each upgrade, `pool` reuses connections for plain requests.
#[derive(Clone)]
struct Backend {
    uri: Uri,
    is_http2: bool,
    dial: client::Dial<HttpsConnector<HttpConnector>>,
    pool: Client<HttpsConnector<HttpConnector>, Incoming>,
}

impl Backend {
    fn new(args: &Args) -> Result<Self, BoxError> {
        let https = |http1_only: bool| -> Result<_, BoxError> {
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            let https = HttpsConnectorBuilder::new();
            let https = match args.backend.scheme() == Some(&Scheme::HTTPS) {
                true => https.with_native_roots()?,
                // Without TLS no roots are needed, and the system may lack them.
                false => https.with_tls_config(
                    ClientConfig::builder()
                        .with_root_certificates(RootCertStore::empty())
                        .with_no_client_auth(),
                ),
            };
            let https = https.https_or_http();
            Ok(match http1_only {
                true => https.enable_http1().wrap_connector(tcp),
                false => https.enable_all_versions().wrap_connector(tcp),
            })
        };
        let mut dial = client::Dial::new(https(false)?)
            .destination(args.backend.clone())
            .map_io(box_io);
        dial = match args.http2 {
            true => dial.http2_only(),
            // For a backend without extended CONNECT over HTTP/2.
            false => dial.fallback(https(true)?),
        };
        let mut pool = Client::builder(TokioExecutor::new());
        Ok(Self {
            uri: args.backend.clone(),
            is_http2: args.http2,
            dial,
            pool: pool.http2_only(args.http2).build(https(false)?),
        })
    }

    fn proxy(&self, args: &Args) -> ReverseProxy {
        let forwarding = |is_enabled| match is_enabled {
            true => Forwarding::Replace,
            false => Forwarding::Remove,
        };
        let proxy = ReverseProxy::new(client::UpgradeLayer::new().layer(self.dial.clone()))
            .forwarded(forwarding(args.forwarded))
            .x_forwarded(forwarding(args.x_forwarded));
        match args.protocols.is_empty() {
            true => proxy,
            false => proxy.protocols(args.protocols.iter().map(Protocol::as_str)),
        }
    }

    /// Forwards a plain request, without its `Upgrade` header: this service cannot switch protocols.
    async fn forward(
        &self,
        proxy: &ReverseProxy,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Rejection> {
        let (mut head, body) = request.into_parts();
        let version = head.version;
        let takes_trailers = head.headers.get_all(header::TE).iter().any(takes_trailers);
        proxy.rewrite_request(&mut head)?;
        if self.is_http2 {
            // Both connections carry trailers, and gRPC servers reject requests without this field.
            if takes_trailers && version == Version::HTTP_2 {
                let trailers = HeaderValue::from_static("trailers");
                head.headers.insert(header::TE, trailers);
            }
            // The pool sends the host of the URI, which it connects to, as `:authority`.
            head.headers.remove(header::HOST);
        }
        let mut uri = self.uri.clone().into_parts();
        let path = head.uri.path_and_query().cloned();
        uri.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
        head.uri = Uri::from_parts(uri).expect("a URI from a scheme, a host and a path");
        head.version = Version::HTTP_11;

        let request = self.pool.request(Request::from_parts(head, body));
        let response = request.await.map_err(|error| {
            Rejection::new(StatusCode::BAD_GATEWAY, "the backend failed").with_source(error)
        })?;
        let (mut head, body) = response.into_parts();
        proxy.rewrite_response(version, &mut head)?;
        Ok(Response::from_parts(head, Either::Left(body)))
    }
}

/// Returns whether a line of `TE` lists `trailers` (RFC 9110 §10.1.4).
fn takes_trailers(line: &HeaderValue) -> bool {
    let mut members = line.as_bytes().split(|byte| *byte == b',');
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Returns a `BoxIo`, in which the relay finds the socket: to splice without TLS, and to reset the connection.
fn box_io(io: MaybeHttpsStream<TokioIo<TcpStream>>) -> BoxIo {
    match io {
        MaybeHttpsStream::Http(tcp) => BoxIo::new(tcp.into_inner()),
        MaybeHttpsStream::Https(tls) => {
            BoxIo::over(tls.into_inner(), |tls| tls.get_ref().0.inner().inner())
        }
    }
}

type Body = Either<Incoming, String>;

fn refuse(rejection: Rejection) -> Response<Body> {
    eprintln!("a plain request failed: {rejection:?}");
    let mut response = Response::new(Either::Right(String::new()));
    *response.status_mut() = rejection.status();
    response
}

// ---- The command line ---------------------------------------------------------------------------

struct Args {
    listen: SocketAddr,
    backend: Uri,
    http2: bool,
    protocols: Vec<Protocol>,
    forwarded: bool,
    x_forwarded: bool,
    tls: bool,
}

impl Args {
    fn parse() -> Result<Self, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            backend: Uri::default(),
            http2: false,
            protocols: Vec::new(),
            forwarded: false,
            x_forwarded: false,
            tls: false,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.string()?.parse()?,
                lexopt::Arg::Long("backend") => found.backend = args.value()?.string()?.parse()?,
                lexopt::Arg::Long("http2") => found.http2 = true,
                lexopt::Arg::Long("protocol") => {
                    found.protocols.push(args.value()?.string()?.parse()?);
                }
                lexopt::Arg::Long("forwarded") => found.forwarded = true,
                lexopt::Arg::Long("x-forwarded") => found.x_forwarded = true,
                lexopt::Arg::Long("tls") => found.tls = true,
                other => return Err(other.unexpected().into()),
            }
        }
        match found.backend.scheme_str() {
            Some("http" | "https") => Ok(found),
            _ => Err("`--backend` with an `http` or `https` URI is required".into()),
        }
    }
}
