//! A reverse proxy: WebSocket, and whatever else is offered with `Upgrade` or extended CONNECT, is passed on to a
//! backend, over HTTP/1.1 and HTTP/2 on either side. Its inner service passes plain requests on, with their headers
//! rewritten by the same rules. That service sets no time limit.
//!
//! ```sh
//! cargo run --example echo -- --listen 127.0.0.1:4000
//! cargo run --features tunnel --example reverse_proxy -- --backend http://127.0.0.1:4000
//! curl -i http://127.0.0.1:3000/
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: echo' -H 'Content-Length: 0' -d hello \
//!     http://127.0.0.1:3000/
//! ```
//!
//! | | |
//! |---|---|
//! | `--listen ADDR` | where clients come to, by default 127.0.0.1:3000 |
//! | `--backend URI` | `http` or `https`; it is asked with the path and the `Host` of the client |
//! | `--http2` | the backend speaks HTTP/2, which `https` finds out by itself |
//! | `--protocol NAME` | passes on this protocol and no other; may be given several times |
//! | `--forwarded` | tells the backend of the client with `Forwarded` |
//! | `--x-forwarded` | tells it with `X-Forwarded-For`, `-Host` and `-Proto` |
//! | `--tls` | speaks TLS to clients, with a certificate that it makes for itself |
//!
//! On SIGINT and SIGTERM it takes no more connections, ends its sessions, and exits.

use http::{
    Request, Response, StatusCode, Uri, Version, header,
    uri::{PathAndQuery, Scheme},
};
use http_body_util::Either as EitherBody;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use lexopt::ValueExt as _;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer},
};
use tokio_util::sync::CancellationToken;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    BoxError, BoxIo, Protocol, Rejection, Sessions, UpgradeLayer, client,
    tunnel::{Forwarding, ReverseProxy},
};

/// How long a session may go without a byte either way.
const IDLE: Duration = Duration::from_secs(15 * 60);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    let backend = Backend::new(&args)?;
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let tls = args.tls.then(|| tls_acceptor(address)).transpose()?;
    let scheme = if args.tls {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    println!("listening on {scheme}://{address}");

    let proxy = backend.proxy(&args).scheme(scheme);
    let sessions = Sessions::new();
    let app = UpgradeLayer::new()
        .sessions(sessions.clone())
        .idle_timeout(IDLE)
        .any_protocol(proxy.clone())
        .layer(service_fn(move |request| {
            let (backend, proxy) = (backend.clone(), proxy.clone());
            async move {
                let response = backend.pass_on(&proxy, request).await;
                Ok::<_, Infallible>(response.unwrap_or_else(refuse))
            }
        }));

    let server = server();
    let connections = GracefulShutdown::new();
    let handshakes = CancellationToken::new();
    let mut signal = std::pin::pin!(shutdown_signal());
    loop {
        let (io, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut signal => break,
        };
        let (tls, handshakes) = (tls.clone(), handshakes.clone());
        let (server, watcher) = (server.clone(), connections.watcher());
        // Where the proxy looks for it.
        let service = app.clone().map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(peer);
            request
        });
        let service = TowerToHyperService::new(service);
        tokio::spawn(async move {
            let connection = async {
                let Some(io) = handshakes.run_until_cancelled(handshake(tls, io)).await else {
                    return Ok(());
                };
                let connection = server.serve_connection_with_upgrades(TokioIo::new(io?), service);
                watcher.watch(connection).await
            };
            if let Err(error) = connection.await {
                eprintln!("the connection of {peer} failed: {error:?}");
            }
        });
    }

    drop(listener);
    handshakes.cancel();
    let limit = Duration::from_secs(10);
    let (report, closed) = tokio::join!(
        sessions.drain(limit),
        tokio::time::timeout(limit, connections.shutdown()),
    );
    if report.aborted > 0 || report.left > 0 || closed.is_err() {
        eprintln!("some connections did not end in time");
    }
    println!("stopped");
    Ok(())
}

// ---- The backend --------------------------------------------------------------------------------

/// Where requests go: upgrades over connections of their own, all others through a pool.
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
                // Without TLS it does not matter, and the system's roots may be missing.
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
            // Where its HTTP/2 does not allow extended CONNECT.
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
        let forwarding = |wanted| match wanted {
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

    /// Passes a plain request on, body and all. `Upgrade` is not passed on with it: this service cannot switch
    /// protocols.
    async fn pass_on(
        &self,
        proxy: &ReverseProxy,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Rejection> {
        let (mut head, body) = request.into_parts();
        let version = head.version;
        proxy.rewrite_request(&mut head)?;
        if self.is_http2 {
            // The pool dials the host of the URI, and over HTTP/2 that is also the host that the backend is asked for.
            head.headers.remove(header::HOST);
        }
        let mut uri = self.uri.clone().into_parts();
        let path = head.uri.path_and_query().cloned();
        uri.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
        head.uri = Uri::from_parts(uri).expect("a scheme, a host and a path are a URI");
        head.version = Version::HTTP_11;

        let request = self.pool.request(Request::from_parts(head, body));
        let response = request.await.map_err(|error| {
            Rejection::new(StatusCode::BAD_GATEWAY, "the backend failed").with_source(error)
        })?;
        let (mut head, body) = response.into_parts();
        proxy.rewrite_response(version, &mut head)?;
        Ok(Response::from_parts(head, EitherBody::Left(body)))
    }
}

/// Shows the relay the socket, as [`handshake`] does for clients.
fn box_io(io: MaybeHttpsStream<TokioIo<TcpStream>>) -> BoxIo {
    match io {
        MaybeHttpsStream::Http(tcp) => BoxIo::new(tcp.into_inner()),
        MaybeHttpsStream::Https(tls) => {
            BoxIo::over(tls.into_inner(), |tls| tls.get_ref().0.inner().inner())
        }
    }
}

type Body = EitherBody<Incoming, String>;

fn refuse(rejection: Rejection) -> Response<Body> {
    eprintln!("a plain request was refused: {rejection:?}");
    let mut response = Response::new(EitherBody::Right(String::new()));
    *response.status_mut() = rejection.status();
    response
}

// ---- The server ---------------------------------------------------------------------------------

/// HTTP/1.1 and HTTP/2, whichever the client begins with.
///
/// Without `half_close`, so that a client that has left is not asked for at the backend any longer.
fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer a head need never come to its end.
    server.http1().timer(TokioTimer::new());
    server
        .http2()
        .enable_connect_protocol()
        // By default the windows of a stream and of its connection are equal, so one session that
        // reads no more takes all of the connection's, and the others stall with it. Here there is
        // room for each of the 200 streams that a connection may have at a time.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    server
}

/// The next connection. A failure is that connection's, or passes when others end: of too many open
/// files, for example.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((io, peer)) => {
                // Small writes leave at once: without it each message, and each HTTP/2 frame, may wait
                // 40 ms for the acknowledgement of the one before.
                match io.set_nodelay(true) {
                    Ok(()) => return (io, peer),
                    Err(error) => eprintln!("cannot set up the connection of {peer}: {error}"),
                }
            }
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// In the box the relay finds the socket: without TLS it can splice, and with TLS it can still reset.
async fn handshake(tls: Option<TlsAcceptor>, io: TcpStream) -> io::Result<BoxIo> {
    match tls {
        Some(tls) => {
            let handshake = tokio::time::timeout(Duration::from_secs(10), tls.accept(io));
            Ok(BoxIo::over(handshake.await??, |tls| tls.get_ref().0))
        }
        None => Ok(BoxIo::new(io)),
    }
}

/// TLS with a certificate that is made here, and that nobody else has reason to trust.
fn tls_acceptor(address: SocketAddr) -> Result<TlsAcceptor, BoxError> {
    let address = address.ip().to_string();
    let names = ["localhost", "127.0.0.1", "::1", &address].map(String::from);
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = ["h2", "http/1.1"].map(Vec::from).to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

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
            _ => Err("`--backend` is missing: a URI of `http` or `https`".into()),
        }
    }
}

async fn shutdown_signal() {
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
