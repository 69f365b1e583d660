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
//! | `/health` | 200, or 503 while Redis cannot be reached |
//! | `/admin` | the administration page, with the open sessions |
//! | `/metrics` | metrics for Prometheus |
//!
//! Restart the server while users chat: on SIGTERM or SIGINT the server closes their sessions. The pages reconnect as
//! soon as a server runs again, then send the messages typed in the meantime.
//!
//! With `--redis URL` several servers form one chat: `README.md` shows how to run three of them behind HAProxy, and how
//! pages miss no message.
//!
//! | file | contents |
//! |---|---|
//! | `main.rs` | the layers and the routes |
//! | `args.rs` | the options |
//! | `chat.rs` | the handler and the sessions |
//! | `rooms.rs` | the operations of a session: to join a room, to say something |
//! | `local.rs` | the members on this node, and the lists and messages that they get |
//! | `log.rs` | the latest messages of a room, and positions in them |
//! | `store.rs` | the trait for the state that all nodes share |
//! | `embedded.rs` | the store of a single node, in its memory |
//! | `redis/` | the store of several nodes, in Redis |
//! | `messages.rs` | the messages between a page and the server |
//! | `admin.rs` | the routes that require the password |

mod admin;
mod args;
mod chat;
mod embedded;
mod local;
mod log;
mod messages;
mod redis;
mod rooms;
mod store;
#[path = "../support/mod.rs"]
mod support;

use crate::{
    args::Args,
    chat::{Chat, Limits},
    embedded::Embedded,
    local::Local,
    redis::Redis,
    rooms::Rooms,
    store::Store,
    support::{Body, Server},
};
use axum::{
    Router,
    extract::State,
    http::{HeaderValue, Request, Response, StatusCode, header},
    response::Html,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
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
        sessions_per_address: args.sessions_per_address,
    };
    let sessions = Sessions::builder()
        .max(limits.sessions)
        .max_per_key(limits.sessions_per_address, |request| -> Option<IpAddr> {
            request.extensions.get::<SocketAddr>().map(SocketAddr::ip)
        })
        .build();
    let local = Arc::new(Local::new());
    let store: Arc<dyn Store> = match &args.redis {
        Some(url) => Redis::start(url, Arc::clone(&local), sessions.clone(), args.history)?,
        None => Arc::new(Embedded::new(Arc::clone(&local), args.history)),
    };
    let rooms = Rooms::new(local, Arc::clone(&store));
    let chat = Chat {
        upgrade: WebSocketUpgrade::new().config(WEBSOCKET),
        rooms,
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
    let app = app(chat, admin, sessions.clone());
    let ended = server.run(app, sessions).await;
    store.leave().await;
    ended
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
        .route("/health", get(health))
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

/// Load balancers use `/ready` instead: a node that cannot reach its store keeps its sessions.
async fn health(State(chat): State<Chat>) -> (StatusCode, &'static str) {
    match chat.rooms.store.health() {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.reason()),
    }
}

fn random_password() -> String {
    format!("{:016x}", rand::random::<u64>())
}
