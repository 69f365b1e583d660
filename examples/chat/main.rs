//! A complete service: a chat in the browser, with an administration page.
//!
//! ```sh
//! cargo run --all-features --example chat -- --listen 127.0.0.1:3000
//! ```
//!
//! Then open <http://127.0.0.1:3000/> in two windows, and <http://127.0.0.1:3000/admin> in a third. The user is
//! `admin`; the server prints the password when it starts, or takes it from `--admin-password`. With `--tls` the server
//! uses TLS with a self-signed certificate, and browsers use WebSocket over HTTP/2.
//!
//! | path | response |
//! |---|---|
//! | `/` | the chat page |
//! | `/chat` | its WebSocket |
//! | `/api/admission` | the reason for which `/chat` would refuse, which browsers do not report |
//! | `/ready` | 200, or 503 from the start of the drain |
//! | `/admin` | the administration page, with the live sessions |
//! | `/metrics` | metrics for Prometheus |
//!
//! Try to restart the server while users chat: on SIGTERM or SIGINT it closes their sessions, and their pages reconnect
//! as soon as a server is running again, and then send the messages typed in the meantime.
//!
//! `chat.rs` has the handler and the sessions, `rooms.rs` the state of the rooms, and `admin.rs` the routes behind the
//! password.

mod admin;
mod chat;
mod rooms;

use crate::{
    chat::{Chat, Limits},
    rooms::Rooms,
};
use axum::{
    Router,
    extract::State,
    http::{HeaderValue, Request, Response, StatusCode, header},
    response::Html,
    routing::get,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use lexopt::ValueExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io,
    net::{TcpListener, TcpStream},
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
    server::TlsStream,
};
use tokio_util::{either::Either, sync::CancellationToken};
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_http::{timeout::TimeoutLayer, trace::TraceLayer};
use tower_upgrade::{
    BoxError, Closed, DrainOptions, Sessions, UpgradeLayer,
    websocket::{WebSocketConfig, WebSocketUpgrade},
};

/// The pages load no other resources, connect only to this server, and must not be framed.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// The interval of WebSocket pings to idle pages.
///
/// Detects clients that vanish silently, such as a closed laptop. The browser itself answers pings, also for background
/// pages, whose timers it throttles.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

const WEBSOCKET: WebSocketConfig = WebSocketConfig::new()
    .max_message_size(16 * 1024)
    .keep_alive(KEEP_ALIVE);

/// Extra time for connections to close after the deadline, as in `Sessions::drain`.
const LAST_STEPS: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    // Each session is an open file. If the limit cannot be raised, continue with the current one.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let metrics = PrometheusBuilder::new().install_recorder()?;
    tower_upgrade::metrics::describe();

    let limits = Limits {
        sessions: args.max_sessions,
        sessions_per_address: 100,
    };
    let sessions = Sessions::builder()
        .max(limits.sessions)
        .max_per_key(limits.sessions_per_address, |request| -> Option<IpAddr> {
            request.extensions.get::<SocketAddr>().map(SocketAddr::ip)
        })
        .build();
    let chat = Chat {
        upgrade: WebSocketUpgrade::new().config(WEBSOCKET),
        rooms: Rooms::default(),
        sessions: sessions.clone(),
        limits,
    };
    let password = args.admin_password.unwrap_or_else(random_password);
    let admin = admin::router(chat.clone(), metrics, &password);

    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let tls = args.tls.then(|| tls_acceptor(address)).transpose()?;
    let scheme = if args.tls { "https" } else { "http" };
    println!("listening on {scheme}://{address}");
    println!("{scheme}://{address}/admin is for `admin`, with the password `{password}`");

    let app = app(chat, admin, sessions.clone());
    let server = server();
    let connections = GracefulShutdown::new();
    let handshakes = CancellationToken::new();
    let serve = async || -> Infallible {
        loop {
            let (io, peer) = accept(&listener).await;
            let (tls, handshakes) = (tls.clone(), handshakes.clone());
            let (server, watcher) = (server.clone(), connections.watcher());
            // `Sessions` looks for the peer's address in the extensions.
            let service = app
                .clone()
                .map_request(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(peer);
                    request
                });
            tokio::spawn(async move {
                let connection = async {
                    let Some(io) = handshakes.run_until_cancelled(handshake(tls, io)).await else {
                        return Ok(());
                    };
                    let service = TowerToHyperService::new(service);
                    let connection =
                        server.serve_connection_with_upgrades(TokioIo::new(io?), service);
                    watcher.watch(connection).await
                };
                if let Err(error) = connection.await {
                    tracing::debug!(%peer, error, "the connection failed");
                }
            });
        }
    };
    tokio::select! {
        biased;
        () = shutdown_signal() => {}
        never = serve() => match never {},
    }

    // The drain sends the sessions their stop signal, and `/ready` answers 503. A load balancer needs some
    // time to notice, so keep accepting connections during the notice: see the example `graceful`.
    let deadline = Instant::now() + args.deadline;
    // Spread, so that the pages do not all reconnect in the same second.
    let options = DrainOptions::new(args.deadline).spread(args.spread);
    let draining = sessions.drain(options);
    let noticed = deadline.min(Instant::now() + args.notice);
    let _: Result<Infallible, _> = timeout_at(noticed, serve()).await;
    // From here on a new server can bind the port.
    drop(listener);
    handshakes.cancel();
    let _ = timeout_at(deadline + LAST_STEPS, connections.shutdown()).await;
    println!("{}", draining.await);
    Ok(())
}

/// Returns the whole stack.
fn app(
    chat: Chat,
    admin: Router,
    sessions: Sessions,
) -> impl Service<
    Request<Incoming>,
    Response = Response<impl http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    // The leaf service decides. `route_service` accepts any method, extended CONNECT included.
    let websocket = UpgradeLayer::new().protocol("websocket", chat.clone());
    let router = Router::new()
        .route("/", get(Html(include_str!("index.html"))))
        .route("/api/admission", get(chat::admission))
        .route("/ready", get(ready))
        .route_service("/chat", websocket.into_service())
        .with_state(chat)
        .merge(admin);

    ServiceBuilder::new()
        // The outermost layer commits: no session starts if a layer inside, such as the timeout, replaces
        // the upgrade response. Its settings also apply to the leaf.
        .layer(
            UpgradeLayer::new()
                .sessions(sessions)
                .accept_timeout(Duration::from_secs(5))
                // Pings and their answers reset this timer. The timer ends sessions whose client does not
                // read, so that no ping gets out.
                .idle_timeout(4 * KEEP_ALIVE)
                .on_close(|closed: &Closed| {
                    tracing::info!(
                        session = %closed.id(),
                        reason = %closed.reason(),
                        duration = ?closed.duration(),
                        "closed"
                    );
                }),
        )
        // Log the path without the query, which contains the page's key.
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request<_>| {
            tracing::info_span!("request", method = %request.method(), path = request.uri().path())
        }))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            Duration::from_secs(10),
        ))
        .map_response(|mut response: Response<_>| {
            let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        })
        .service(router)
}

async fn ready(State(chat): State<Chat>) -> StatusCode {
    match chat.sessions.is_draining() {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    }
}

/// Returns a server for HTTP/1.1 and HTTP/2, detected from the client's first bytes.
fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer hyper applies no timeout to request heads.
    server.http1().timer(TokioTimer::new());
    server
        .http2()
        // Lets browsers use their HTTP/2 connection for WebSocket.
        .enable_connect_protocol()
        // By default a stream's window is as large as the connection's, so one session that stops
        // reading stalls all others on its connection. Here the connection's window has room for the
        // windows of all 200 concurrent streams.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    server
}

/// Accepts the next connection. Errors are not fatal: they concern one connection, or are temporary,
/// such as too many open files.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((io, peer)) => {
                // Send small writes at once. Otherwise each message, and each HTTP/2 frame, may wait
                // 40 ms for the acknowledgement of the previous one.
                match io.set_nodelay(true) {
                    Ok(()) => return (io, peer),
                    Err(error) => tracing::warn!(%peer, %error, "cannot set up a connection"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

type Io = Either<TlsStream<TcpStream>, TcpStream>;

async fn handshake(tls: Option<TlsAcceptor>, io: TcpStream) -> io::Result<Io> {
    match tls {
        Some(tls) => {
            let handshake = tokio::time::timeout(Duration::from_secs(10), tls.accept(io));
            Ok(Either::Left(handshake.await??))
        }
        None => Ok(Either::Right(io)),
    }
}

/// Returns a TLS acceptor with a new self-signed certificate.
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

fn random_password() -> String {
    format!("{:016x}", rand::random::<u64>())
}

struct Args {
    /// `--listen ADDR`, by default 127.0.0.1:3000.
    listen: SocketAddr,
    /// `--tls`
    tls: bool,
    /// `--admin-password PASSWORD`, by default a random one.
    admin_password: Option<String>,
    /// `--max-sessions NUMBER`, by default 10,000.
    max_sessions: usize,
    /// `--notice SECONDS`, by default 0: time for load balancers to notice the 503 of `/ready`.
    notice: Duration,
    /// `--spread SECONDS`, by default 1: time over which the drain spreads the stop signals.
    spread: Duration,
    /// `--deadline SECONDS`, by default 10: time for sessions to end, including the notice.
    deadline: Duration,
}

impl Args {
    fn parse() -> Result<Self, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            tls: false,
            admin_password: None,
            max_sessions: 10_000,
            notice: Duration::ZERO,
            spread: Duration::from_secs(1),
            deadline: Duration::from_secs(10),
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.string()?.parse()?,
                lexopt::Arg::Long("tls") => found.tls = true,
                lexopt::Arg::Long("admin-password") => {
                    found.admin_password = Some(args.value()?.string()?);
                }
                lexopt::Arg::Long("max-sessions") => found.max_sessions = args.value()?.parse()?,
                lexopt::Arg::Long("notice") => found.notice = seconds(&mut args)?,
                lexopt::Arg::Long("spread") => found.spread = seconds(&mut args)?,
                lexopt::Arg::Long("deadline") => found.deadline = seconds(&mut args)?,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(found)
    }
}

fn seconds(args: &mut lexopt::Parser) -> Result<Duration, BoxError> {
    // A `u32`, so that adding the duration to `Instant::now()` cannot overflow.
    Ok(Duration::from_secs(args.value()?.parse::<u32>()?.into()))
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
