//! axum's own WebSocket routes, unchanged, under a layer that governs them.
//!
//! ```sh
//! cargo run --example govern -- --listen 127.0.0.1:3000
//! curl http://127.0.0.1:3000/sessions
//! ```
//!
//! `/echo` is the usual WebSocket echo of an axum application. The layer limits its sessions, ends idle ones after a
//! minute, and lists them. On SIGTERM and SIGINT it closes them with 1001, and prints the result.

use axum::{
    Router,
    extract::{
        State,
        ws::{WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::{any, get},
};
use lexopt::ValueExt as _;
use std::{net::SocketAddr, time::Duration};
use tower_upgrade::{BoxError, Sessions, UpgradeLayer};

/// The time for sessions to end.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sessions = Sessions::builder().max(10_000).build();
    let govern = UpgradeLayer::new()
        .sessions(sessions.clone())
        .idle_timeout(Duration::from_secs(60))
        .govern();
    let app = existing()
        .route("/sessions", get(list).with_state(sessions.clone()))
        .layer(govern);

    let listener = tokio::net::TcpListener::bind(listen()?).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = {
        let sessions = sessions.clone();
        async move {
            terminated().await;
            // The drain begins here. The server stops accepting as soon as this future is done.
            drop(sessions.drain(DEADLINE));
        }
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await?;
    println!("{}", sessions.drain(DEADLINE).await);
    Ok(())
}

/// An application that does not know about this crate.
fn existing() -> Router {
    Router::new().route(
        "/echo",
        any(async |upgrade: WebSocketUpgrade| -> Response { upgrade.on_upgrade(echo) }),
    )
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            break;
        }
    }
}

async fn list(State(sessions): State<Sessions>) -> String {
    let lines = sessions.list().into_iter().map(|session| {
        let (read, written) = (session.bytes_read(), session.bytes_written());
        format!(
            "{}: {:?}, {read} bytes read, {written} written\n",
            session.id(),
            session.age()
        )
    });
    lines.collect()
}

async fn terminated() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        let terminate = tokio::signal::unix::SignalKind::terminate();
        if let Ok(mut terminated) = tokio::signal::unix::signal(terminate) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = interrupted.await;
}

fn listen() -> Result<SocketAddr, BoxError> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 3000));
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("listen") => listen = arguments.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(listen)
}
