//! A reverse proxy: forwards WebSocket, all other upgrades and plain requests to a backend, with HTTP/1.1 or HTTP/2 on
//! either side.
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
//! | `--backend URI` | the backend, with `http` or `https`; repeat to balance requests among several |
//! | `--http2` | use HTTP/2 with an `http` backend; for `https`, ALPN selects the version |
//! | `--protocol NAME` | forward upgrades to this protocol only; repeat for more protocols |
//! | `--forwarded` | send the client's address to the backend in `Forwarded` |
//! | `--x-forwarded` | send the client's address in `X-Forwarded-For`, `-Host` and `-Proto` |
//! | `--tls` | use TLS with clients, with a self-signed certificate |
//!
//! On SIGINT and SIGTERM the proxy stops accepting connections, ends its sessions, and exits.

mod support;

use http::{Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use lexopt::{Arg, ValueExt as _};
use std::{net::SocketAddr, time::Duration};
use support::Server;
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower::{
    Layer as _,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
};
use tower_upgrade::{
    BoxError, BoxIo, Protocol, Sessions, UpgradeLayer,
    client::{Dial, Pool},
    tunnel::{Forwarding, ReverseProxy},
};

/// The time after which a session without traffic is closed.
const IDLE: Duration = Duration::from_secs(15 * 60);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 3000));
    let (mut backends, mut protocols) = (Vec::<Uri>::new(), Vec::<Protocol>::new());
    let (mut http2, mut tls) = (false, false);
    let (mut forwarded, mut x_forwarded) = (Forwarding::Remove, Forwarding::Remove);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("listen") => listen = args.value()?.parse()?,
            Arg::Long("backend") => backends.push(args.value()?.parse()?),
            Arg::Long("http2") => http2 = true,
            Arg::Long("protocol") => protocols.push(args.value()?.parse()?),
            Arg::Long("forwarded") => forwarded = Forwarding::Replace,
            Arg::Long("x-forwarded") => x_forwarded = Forwarding::Replace,
            Arg::Long("tls") => tls = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let is_http = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    if backends.is_empty() || !backends.iter().all(is_http) {
        return Err("`--backend` with an `http` or `https` URI is required".into());
    }

    let mut pools = Vec::new();
    for uri in backends {
        let pool = pool(uri, http2)?;
        pools.push(PendingRequests::new(pool, CompleteOnResponse::default()));
    }
    // Sends each request to the less loaded of two random backends.
    let balance = Balance::new(ServiceList::new(pools));
    let mut proxy = ReverseProxy::new(Buffer::new(balance, 1024))
        .forwarded(forwarded)
        .x_forwarded(x_forwarded)
        .scheme(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    if !protocols.is_empty() {
        proxy = proxy.protocols(protocols.iter().map(Protocol::as_str));
    }

    let mut server = Server::bind(listen, tls, false).await?;
    server.http.http2().enable_connect_protocol();
    let sessions = Sessions::new();
    let app = UpgradeLayer::new()
        .sessions(sessions.clone())
        .idle_timeout(IDLE)
        .any_protocol(proxy.clone())
        .layer(proxy);
    server.run(app, sessions).await
}

/// Returns a client of one backend: an upgrade gets a connection to itself, and plain requests reuse connections.
fn pool(backend: Uri, http2: bool) -> Result<Pool<HttpsConnector<HttpConnector>>, BoxError> {
    let https = |http1_only: bool| -> Result<_, BoxError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new();
        let https = match backend.scheme() == Some(&Scheme::HTTPS) {
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
    let dial = Dial::new(https(false)?)
        .destination(backend.clone())
        .map_io(box_io);
    Ok(Pool::new(match http2 {
        true => dial.http2_only(),
        // For a backend without extended CONNECT over HTTP/2.
        false => dial.fallback(https(true)?),
    }))
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
