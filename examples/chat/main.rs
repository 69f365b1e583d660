//! A complete service: a chat in the browser, with an administration page.
//!
//! ```sh
//! cargo run --all-features --example chat -- --listen 127.0.0.1:3000
//! ```
//!
//! Then open <http://127.0.0.1:3000/> in two windows, and <http://127.0.0.1:3000/admin> in a third. The user is
//! `admin`; the server prints the password when it starts, or takes it from `--admin-password`. With `--tls` the server
//! uses TLS with a self-signed certificate, and browsers use WebSocket over HTTP/2. `--http3` implies `--tls` and adds
//! HTTP/3, on the UDP port of the same number. Browsers use HTTP/3 only with a certificate that they trust.
//!
//! | path | response |
//! |---|---|
//! | `/` | the chat page |
//! | `/chat` | its WebSocket |
//! | `/api/admission` | 204, or the reason for which `/chat` refuses, which browsers do not report |
//! | `/ready` | 200, or 503 from the start of the drain |
//! | `/admin` | the administration page, with the open sessions |
//! | `/metrics` | metrics for Prometheus |
//!
//! Restart the server while users chat: on SIGTERM or SIGINT the server closes their sessions. The pages reconnect as
//! soon as a server runs again, then send the messages typed in the meantime.
//!
//! | file | contents |
//! |---|---|
//! | `main.rs` | the layers, the routes and the options |
//! | `chat.rs` | the handler and the sessions |
//! | `rooms.rs` | the state: rooms and members |
//! | `messages.rs` | the messages between a page and the server |
//! | `admin.rs` | the routes that require the password |

mod admin;
mod chat;
mod messages;
mod rooms;
#[path = "../support/mod.rs"]
mod support;

use crate::{
    chat::{Chat, Limits},
    rooms::Rooms,
    support::{Body, Server},
};
use axum::{
    Router,
    extract::State,
    http::{HeaderValue, Request, Response, StatusCode, header},
    response::Html,
    routing::get,
};
use lexopt::ValueExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tower::{Service, ServiceBuilder};
use tower_http::{timeout::TimeoutLayer, trace::TraceLayer};
use tower_upgrade::{
    BoxError, Closed, Sessions, UpgradeLayer,
    websocket::{Deflate, WebSocketConfig, WebSocketUpgrade},
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
    .keep_alive(KEEP_ALIVE)
    // The messages of a room contain no secrets.
    .deflate(Deflate::new());

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    // Each session uses an open file. If the limit cannot be raised, continue with the current one.
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

    let mut server = Server::bind(args.listen, args.tls, args.http3).await?;
    println!("{}/admin: user `admin`, password `{password}`", server.url);
    // Browsers can use their HTTP/2 connection for WebSocket.
    server.http.http2().enable_connect_protocol();
    server.notice = args.notice;
    server.spread = args.spread;
    server.deadline = args.deadline;
    server
        .run(app(chat, admin, sessions.clone()), sessions)
        .await
}

/// Returns the whole stack.
fn app(
    chat: Chat,
    admin: Router,
    sessions: Sessions,
) -> impl Service<
    Request<Body>,
    Response = Response<impl http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    // The leaf service calls the handler. `route_service` accepts any method, including extended CONNECT.
    let websocket = UpgradeLayer::new().protocol("websocket", chat.clone());
    let router = Router::new()
        .route("/", get(Html(include_str!("index.html"))))
        .route("/api/admission", get(chat::admission))
        .route("/ready", get(ready))
        .route_service("/chat", websocket.into_service())
        .with_state(chat)
        .merge(admin);

    ServiceBuilder::new()
        // The outermost layer starts the session when it returns the upgrade response: if a layer inside, such as the
        // timeout, replaces the response, the session does not start. The settings here also apply to the leaf service.
        .layer(
            UpgradeLayer::new()
                .sessions(sessions)
                .accept_timeout(Duration::from_secs(5))
                // Pings and pongs reset this timer. It ends sessions if the client does not read, which blocks pings.
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
        // Log the path without the query: the query contains the page's key.
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

fn random_password() -> String {
    format!("{:016x}", rand::random::<u64>())
}

struct Args {
    /// `--listen ADDR`, by default 127.0.0.1:3000.
    listen: SocketAddr,
    /// `--tls`
    tls: bool,
    /// `--http3`
    http3: bool,
    /// `--admin-password PASSWORD`, by default a random one.
    admin_password: Option<String>,
    /// `--max-sessions NUMBER`, by default 10,000.
    max_sessions: usize,
    /// `--notice SECONDS`, by default 0: time for load balancers to notice the 503 of `/ready`.
    notice: Duration,
    /// `--spread SECONDS`, by default 1: time over which sessions get their stop signals, so that the pages do not all
    /// reconnect in the same second.
    spread: Duration,
    /// `--deadline SECONDS`, by default 10: time for sessions to end, including the notice.
    deadline: Duration,
}

impl Args {
    fn parse() -> Result<Self, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            tls: false,
            http3: false,
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
                lexopt::Arg::Long("http3") => found.http3 = true,
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
