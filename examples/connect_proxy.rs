//! A forward proxy: CONNECT over HTTP/1.1 and HTTP/2, to port 443 of whatever is on the internet, or to
//! what it is told to allow.
//!
//! ```sh
//! cargo run --features tunnel --example connect_proxy
//! curl --proxy http://127.0.0.1:3128 https://example.com/
//! ```
//!
//! With `--tls` clients speak TLS with the proxy itself, with a certificate that it makes for itself, and
//! ALPN chooses between HTTP/2 and HTTP/1.1. With `--basic-auth` they say who they are:
//!
//! ```sh
//! cargo run --features tunnel --example connect_proxy -- --tls --basic-auth ann:secret
//! curl --proxy https://127.0.0.1:3128 --proxy-insecure --proxy-user ann:secret https://example.com/
//! chromium --proxy-server=https://127.0.0.1:3128 --ignore-certificate-errors
//! ```
//!
//! Nothing of this machine and its own network is reached, whatever a name resolves to, unless it is
//! allowed: `--allow git.internal:22 --allow 10.1.0.0/16`. `connect_proxy --help` explains.
//!
//! On SIGINT and SIGTERM it takes no more connections, gives tunnels some time to end, and exits.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use ipnet::IpNet;
use lexopt::ValueExt as _;
use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};
use subtle::ConstantTimeEq as _;
use tokio::{
    io,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_upgrade::{
    BoxError, BoxIo, Sessions, UpgradeLayer,
    tunnel::{ConnectProxy, Policy},
};

const USAGE: &str = "\
Usage: connect_proxy [OPTIONS]

A proxy for CONNECT. By default it connects to port 443 of every host on the internet, and to no
loopback, private or other address that is not globally reachable.

  --listen ADDR           where to listen, by default 127.0.0.1:3128; port 0 is any free one
  --tls                   speak TLS with clients, with a certificate made on the spot
  --allow HOST[:PORT]     connect to this host, at this port or at 443, and to no other but those
                          that are allowed too; HOST is a name, an address, or *.DOMAIN for all
                          names below a domain
  --allow NETWORK/LENGTH  let addresses of this network through, though they are not globally
                          reachable: hosts have to be allowed all the same, if any is
  --basic-auth USER:PASSWORD
                          serve this user only
  --max N                 how many tunnels there may be, by default 1000
  --idle SECONDS          how long one may be silent, by default 600

Exit codes: 0 it was told to stop, 1 it broke, 2 wrong usage";

/// How long tunnels may go on when the proxy is told to stop.
const DRAIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = match Args::parse() {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("connect_proxy: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connect_proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: Args) -> Result<(), BoxError> {
    // Each tunnel is two open files. If there may be no more of them, it does with what it has.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    let address = listener.local_addr()?;
    let tls = args.tls.then(|| tls_acceptor(address)).transpose()?;
    let scheme = if args.tls { "https" } else { "http" };
    println!("listening on {scheme}://{address}");

    let sessions = Sessions::builder().max(args.max).build();
    let proxy = UpgradeLayer::new()
        .sessions(sessions.clone())
        .idle_timeout(args.idle)
        .connect(ConnectProxy::new(args.policy))
        // All but CONNECT is answered with 405.
        .into_service();
    let app = ServiceBuilder::new()
        // Sees the 407 as well: after it a connection of HTTP/1.1 ends.
        .layer(UpgradeLayer::new())
        .layer(ValidateRequestHeaderLayer::custom(authenticate(
            args.credentials,
        )))
        .service(proxy);

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
        let watcher = connections.watcher();
        let (server, service) = (server.clone(), TowerToHyperService::new(app.clone()));
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
    // The connections of HTTP/2 end after the tunnels in them, which take a moment more at the deadline.
    let limit = DRAIN + Duration::from_secs(2);
    let (report, closed) = tokio::join!(
        sessions.drain(DRAIN),
        tokio::time::timeout(limit, connections.shutdown()),
    );
    if report.left > 0 || closed.is_err() {
        eprintln!("some connections did not end in time");
    }
    println!("{report}");
    Ok(())
}

/// Serves those who send these credentials, and everybody if there are none.
fn authenticate<B, R: Default>(
    credentials: Option<HeaderValue>,
) -> impl FnMut(&mut Request<B>) -> Result<(), Response<R>> + Clone {
    move |request| {
        let sent = request.headers().get(header::PROXY_AUTHORIZATION);
        let is_right = match (&credentials, sent) {
            // In a time that does not tell how much of it was right.
            (Some(expected), Some(sent)) => expected.as_bytes().ct_eq(sent.as_bytes()).into(),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if is_right {
            return Ok(());
        }
        let mut response = Response::new(R::default());
        *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let challenge = HeaderValue::from_static("Basic realm=\"connect_proxy\"");
        let headers = response.headers_mut();
        headers.insert(header::PROXY_AUTHENTICATE, challenge);
        Err(response)
    }
}

/// HTTP/1.1 and HTTP/2, whichever the client begins with.
fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer a head need never come to its end.
    server.http1().timer(TokioTimer::new());
    // Without `half_close`: for a client that hangs up before it is answered nobody is dialed any more.
    server
        .http2()
        // By default the windows of a stream and of its connection are equal, so one tunnel that
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

// ---- The command line ---------------------------------------------------------------------------

struct Args {
    listen: SocketAddr,
    tls: bool,
    policy: Policy,
    credentials: Option<HeaderValue>,
    max: usize,
    idle: Duration,
}

impl Args {
    /// `None`: help is wanted.
    fn parse() -> Result<Option<Self>, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3128)),
            tls: false,
            policy: Policy::new(),
            credentials: None,
            max: 1000,
            idle: Duration::from_secs(600),
        };
        let mut hosts = Vec::new();
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.parse()?,
                lexopt::Arg::Long("tls") => found.tls = true,
                lexopt::Arg::Long("allow") => {
                    let allowed = args.value()?.string()?;
                    match allowed.contains('/') {
                        true => found.policy = found.policy.allow_network(network(&allowed)?),
                        false => hosts.push(allowed),
                    }
                }
                lexopt::Arg::Long("basic-auth") => {
                    found.credentials = Some(credentials(&args.value()?.string()?)?);
                }
                lexopt::Arg::Long("max") => found.max = args.value()?.parse()?,
                lexopt::Arg::Long("idle") => {
                    found.idle = Duration::from_secs(args.value()?.parse()?);
                }
                lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected().into()),
            }
        }
        if !hosts.is_empty() {
            found.policy = found.policy.try_hosts(hosts)?;
        }
        Ok(Some(found))
    }
}

fn network(text: &str) -> Result<IpNet, BoxError> {
    let network = text.parse();
    network.map_err(|_| format!("{text:?} is no network such as 10.1.0.0/16").into())
}

/// What a client sends that is this user (RFC 7617).
fn credentials(user: &str) -> Result<HeaderValue, BoxError> {
    if !user.contains(':') {
        return Err("--basic-auth takes USER:PASSWORD".into());
    }
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user)))?;
    value.set_sensitive(true);
    Ok(value)
}
