//! The compared servers, which send each message to all sessions.

use crate::support::{not_found, serve};
use axum::{extract::ws, routing::get};
use std::{io, os::unix::process::CommandExt as _, process::Command, str::FromStr};
use tokio::{
    net::TcpListener,
    sync::broadcast::{self, error::RecvError},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    BoxError, UpgradeLayer,
    websocket::{Broadcast, Message, SlowConsumer, WebSocket, websocket},
};

/// The number of messages that wait for a slow consumer.
const CAPACITY: usize = 64;

/// The size of the send buffer of a connection, so that the queue of a slow consumer fills soon. The kernel doubles it.
const SEND_BUFFER: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A `Broadcast` that drops the oldest message of a full queue.
    Ours,
    /// axum's `WebSocketUpgrade` and tokio's `broadcast`, which drops the oldest message too.
    Axum,
    /// The package `ws` of Node.js, whose queues have no limit.
    Node,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::Axum, Self::Node];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Axum => "axum",
            Self::Node => "node",
        }
    }

    /// Returns the name in the table and in the picture.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Ours => "tower-upgrade",
            Self::Axum => "axum and tokio's broadcast",
            Self::Node => "Node.js and ws",
        }
    }

    pub(crate) async fn serve(self, listener: TcpListener) -> io::Result<()> {
        // The accepted sockets inherit the size.
        rustix::net::sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
        match self {
            Self::Ours => serve_ours(listener).await,
            Self::Axum => serve_axum(listener).await,
            Self::Node => Err(io::Error::other("Node.js has its own listener")),
        }
    }
}

impl FromStr for Side {
    type Err = BoxError;

    fn from_str(name: &str) -> Result<Self, BoxError> {
        let side = Self::ALL.into_iter().find(|side| side.name() == name);
        side.ok_or_else(|| format!("no such server: {name}").into())
    }
}

/// Replaces this process by Node.js. Returns only on failure.
pub(crate) fn run_node() -> io::Error {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/fanout/server.js");
    Command::new("node").arg(script).exec()
}

async fn serve_ours(listener: TcpListener) -> io::Result<()> {
    let room = Broadcast::new(CAPACITY).slow_consumer(SlowConsumer::DropOldest);
    let handler = websocket(move |mut socket: WebSocket, session| {
        drop(session);
        let room = room.clone();
        async move {
            let _subscription = room.subscribe((), &socket);
            while let Some(message) = socket.recv().await {
                if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
                    room.send(&(), message)?;
                }
            }
            Ok(())
        }
    });
    let layer = UpgradeLayer::new().protocol("websocket", handler);
    serve(listener, layer.layer(service_fn(async |_| Ok(not_found())))).await
}

async fn serve_axum(listener: TcpListener) -> io::Result<()> {
    let (room, _) = broadcast::channel(CAPACITY);
    let upgrade = async move |upgrade: ws::WebSocketUpgrade| {
        upgrade.on_upgrade(move |socket| chat_axum(socket, room.clone()))
    };
    serve(listener, axum::Router::new().route("/", get(upgrade))).await
}

async fn chat_axum(mut socket: ws::WebSocket, room: broadcast::Sender<ws::Message>) {
    let mut messages = room.subscribe();
    loop {
        tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(message @ (ws::Message::Text(_) | ws::Message::Binary(_)))) => {
                    // Does not fail: this session listens.
                    let _ = room.send(message);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            message = messages.recv() => match message {
                Ok(message) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}
