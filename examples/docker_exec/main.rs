//! Docker's exec API, for processes on this machine: a POST with a JSON body that upgrades to a connection to the
//! standard streams of a process, with half-close. On the same route, a plain request starts a process detached.
//!
//! ```sh
//! cargo run --features axum --example docker_exec -- --allow cat --allow sh --listen 127.0.0.1:3000
//! export DOCKER_HOST=tcp://127.0.0.1:3000
//! echo hello | docker exec -i demo cat
//! docker exec -it demo sh
//! ```
//!
//! Without the `docker` command:
//!
//! ```sh
//! curl --json '{"AttachStdout": true, "Cmd": ["sh", "-c", "echo hello"]}' \
//!     http://127.0.0.1:3000/containers/demo/exec
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: tcp' --json '{"Detach": false}' -o - \
//!     http://127.0.0.1:3000/exec/1/start
//! ```
//!
//! **This server runs commands for all clients that can connect.** It listens on loopback addresses only, runs only the
//! programs given with `--allow`, and refuses requests from web pages. `--allow sh` allows all commands.
//!
//! The server has one container, `demo`, which stands for this machine: its processes run without isolation. The server
//! uses the settings `Cmd`, `Tty` and `Attach…` of an exec and ignores all others. An attached process ends with its
//! session, and all processes end with the server. Requires Unix.

mod execs;
#[path = "../support/mod.rs"]
mod support;

use crate::{
    execs::{Config, Engine, Failure, Phase, find},
    support::Server,
};
use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use lexopt::ValueExt as _;
use rustix::termios::{Winsize, tcsetwinsize};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tower_upgrade::{Accept, BoxError, Sessions, UpgradeLayer, extract::MaybeUpgrade};

/// Docker's client prefixes all paths with the version from `/_ping`.
const API_VERSION: &str = "1.44";
const CONTAINER: &str = "demo";
const MAX_BODY: usize = 64 * 1024;
const MAX_SESSIONS: usize = 100;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    let mut server = Server::bind(args.listen, false, false).await?;
    server.http = server.http.http1_only();
    // A client may send all its input and shut down its direction before it has the 101. `axum::serve` treats that as a
    // disconnect.
    server.http.http1().half_close(true);
    let sessions = Sessions::builder().max(MAX_SESSIONS).build();
    let app = app(Engine::new(args.allow), sessions.clone());
    server.run(app, sessions).await
}

// ---- The API ------------------------------------------------------------------------------------

fn app(engine: Engine, sessions: Sessions) -> Router {
    let api = Router::new()
        .route("/_ping", get(ping))
        .route("/containers/{name}/json", get(container))
        .route("/containers/{name}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect));
    Router::new()
        .nest(&format!("/v{API_VERSION}"), api.clone())
        .merge(api)
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "page not found"))
        .layer(from_fn(refuse_web_pages))
        .layer(UpgradeLayer::new().sessions(sessions))
        .with_state(engine)
}

/// Starts a process: attached to the connection after an upgrade, or detached.
async fn start(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    upgrade: MaybeUpgrade,
) -> Result<Response, Failure> {
    let (body, upgrade) = match upgrade {
        MaybeUpgrade::Upgrade(mut upgrade) => (upgrade.read_body(MAX_BODY).await?, Some(upgrade)),
        MaybeUpgrade::Plain(request) => {
            let body = to_bytes(request.into_body(), MAX_BODY).await;
            (body.map_err(Failure::bad_request)?, None)
        }
    };
    let start: Start = serde_json::from_slice(&body).map_err(Failure::bad_request)?;
    if start.detach {
        let mut process = engine.spawn(&id, true)?;
        tokio::spawn(async move { process.wait().await });
        return Ok(StatusCode::OK.into_response());
    }
    // Some clients offer only `h2c`, which is not a request for a session.
    let Some(upgrade) = upgrade.filter(|upgrade| upgrade.offered().any(|offer| offer == "tcp"))
    else {
        let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "tcp")];
        let message = "an attached exec needs `Upgrade: tcp`";
        return Ok((headers, Failure::new(StatusCode::UPGRADE_REQUIRED, message)).into_response());
    };
    // Start the process before the 101: the response to a failure then has an error status.
    let process = engine.spawn(&id, false)?;
    let content_type = HeaderValue::from_static(match process.is_terminal {
        true => "application/vnd.docker.raw-stream",
        false => "application/vnd.docker.multiplexed-stream",
    });
    let attached = Accept::new(|session| process.attach(session));
    let attached = attached.header(header::CONTENT_TYPE, content_type);
    Ok(upgrade.accept("tcp", attached).await)
}

async fn create(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    Json(config): Json<Config>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    find_container(&name)?;
    let id = engine.create(config)?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": id.to_string() }))))
}

async fn inspect(
    State(engine): State<Engine>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let mut execs = engine.execs();
    let (running, code) = match find(&mut execs, &id)?.phase {
        Phase::Created => (false, None),
        Phase::Running { .. } => (true, None),
        Phase::Exited(code) => (false, Some(code)),
    };
    Ok(Json(json!({
        "ID": id, "ContainerID": CONTAINER, "Running": running, "ExitCode": code,
    })))
}

async fn resize(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    Query(size): Query<Size>,
) -> Result<(), Failure> {
    let mut execs = engine.execs();
    let Phase::Running {
        terminal: Some(terminal),
    } = &find(&mut execs, &id)?.phase
    else {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "the exec has no terminal",
        ));
    };
    let size = Winsize {
        ws_row: size.h,
        ws_col: size.w,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).map_err(Failure::bad_request)
}

async fn container(Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    find_container(&name)?;
    Ok(Json(
        json!({ "Id": CONTAINER, "Name": CONTAINER, "State": { "Running": true } }),
    ))
}

async fn ping() -> impl IntoResponse {
    ([("api-version", API_VERSION)], "OK")
}

fn find_container(name: &str) -> Result<(), Failure> {
    match name {
        CONTAINER => Ok(()),
        _ => Err(Failure::new(
            StatusCode::NOT_FOUND,
            format!("No such container: {name}"),
        )),
    }
}

/// Refuses requests with `Origin`: browsers send it with every POST, Docker's clients never do.
async fn refuse_web_pages(request: Request, next: Next) -> Response {
    match request.headers().contains_key(header::ORIGIN) {
        true => Failure::new(StatusCode::FORBIDDEN, "not for web pages").into_response(),
        false => next.run(request).await,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Start {
    #[serde(default)]
    detach: bool,
}

#[derive(Deserialize)]
struct Size {
    h: u16,
    w: u16,
}

// ---- The command line ---------------------------------------------------------------------------

struct Args {
    /// `--listen ADDR`, a loopback address, by default 127.0.0.1:3000.
    listen: SocketAddr,
    /// `--allow PROGRAM`, at least once: the programs that clients may run.
    allow: Vec<String>,
}

impl Args {
    fn parse() -> Result<Self, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            allow: Vec::new(),
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.string()?.parse()?,
                lexopt::Arg::Long("allow") => found.allow.push(args.value()?.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        if !found.listen.ip().is_loopback() {
            return Err("for security, this server listens on loopback addresses only".into());
        }
        if found.allow.is_empty() {
            return Err("`--allow PROGRAM` is required".into());
        }
        Ok(found)
    }
}
