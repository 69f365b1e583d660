//! A whole service: a chat in the browser, with a page for its administrator.
//!
//! ```sh
//! cargo run --all-features --example chat -- --listen 127.0.0.1:3000
//! ```
//!
//! Then open <http://127.0.0.1:3000/> in two windows, and <http://127.0.0.1:3000/admin> in a third: the
//! user is `admin`, and the password is printed at the start, or set with `--admin-password`. With `--tls`
//! it speaks TLS, with a certificate that it makes for itself, and browsers speak WebSocket over HTTP/2.
//!
//! | path | what is there |
//! |---|---|
//! | `/` | the page of the chat |
//! | `/chat` | its WebSocket |
//! | `/api/admission` | why the WebSocket is refused, for a browser does not tell |
//! | `/ready` | 200, and 503 from the moment at which sessions are told to end |
//! | `/admin`, `/metrics` | sessions, live; metrics for Prometheus |
//!
//! Try to restart it while people talk: SIGTERM or SIGINT says goodbye to them, their pages come back by
//! themselves as soon as there is a server again, and what was typed in the meantime is sent then.
//!
//! `chat.rs` decides on requests and has the sessions, `rooms.rs` knows who is where and what was said,
//! `admin.rs` is what is behind the password.

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
    BoxError, Closed, DrainOptions, Sessions, UpgradeLayer, websocket::WebSocketUpgrade,
};

/// The pages have no other source than themselves, nobody frames them, and they talk to this server only.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// After how much silence a page is pinged.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// How long connections may take to end after the deadline. `Sessions::drain` gives them as much.
const LAST_STEPS: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    // Each session is an open file. If there may be no more of them, it does with what it has.
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
        upgrade: WebSocketUpgrade::new()
            .max_message_size(16 * 1024)
            // A laptop that was closed says nothing any more. A browser answers by itself, also for a page
            // in the background, whose timers it slows down.
            .keep_alive(KEEP_ALIVE),
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
            // `Sessions` looks for it there.
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

    // Everybody is told to go, and `/ready` says 503. With a load balancer in front there has to be some
    // time to see that, so connections are accepted until then: the example `graceful` has more on it.
    let deadline = Instant::now() + args.deadline;
    // Spread, so that the pages do not all reconnect in the same second.
    let options = DrainOptions::new(args.deadline).spread(args.spread);
    let draining = sessions.drain(options);
    let noticed = deadline.min(Instant::now() + args.notice);
    let _: Result<Infallible, _> = timeout_at(noticed, serve()).await;
    // From here on a successor can have the port.
    drop(listener);
    handshakes.cancel();
    let _ = timeout_at(deadline + LAST_STEPS, connections.shutdown()).await;
    println!("{}", draining.await);
    Ok(())
}

/// Everything that is served, from the outside in.
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
    // The leaf decides, at its route. A route of this kind takes extended CONNECT as well.
    let websocket = UpgradeLayer::new().protocol("websocket", chat.clone());
    let router = Router::new()
        .route("/", get(Html(include_str!("index.html"))))
        .route("/api/admission", get(chat::admission))
        .route("/ready", get(ready))
        .route_service("/chat", websocket.into_service())
        .with_state(chat)
        .merge(admin);

    ServiceBuilder::new()
        // The outermost layer commits: if what is inside, such as the timeout, makes something else of
        // the switch, no session starts. What it sets holds for the leaf.
        .layer(
            UpgradeLayer::new()
                .sessions(sessions)
                .accept_timeout(Duration::from_secs(5))
                // Whoever is pinged is not idle. Whoever takes nothing cannot be pinged.
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
        // Without the query: it has what only the page should know.
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

/// HTTP/1.1 and HTTP/2, whichever the client begins with.
fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer a head need never come to its end.
    server.http1().timer(TokioTimer::new());
    server
        .http2()
        // A browser speaks WebSocket over the connection that it has, if it may.
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
    /// `--notice SECONDS`, by default 0: how long load balancers have to look at `/ready`.
    notice: Duration,
    /// `--spread SECONDS`, by default 1: the time over which the pages are told to reconnect.
    spread: Duration,
    /// `--deadline SECONDS`, by default 10: how long sessions have to end, the notice included.
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
    // As `u32`: any number of them can be added to now.
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
