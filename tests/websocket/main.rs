//! WebSocket sessions after the opening handshake.

#[path = "../support/mod.rs"]
mod support;

mod aborted;
mod broadcast;
mod client;
mod close_codes;
mod closing;
#[cfg(feature = "deflate")]
mod deflate;
mod escaped;
mod keep_alive;
mod memory;
mod messages;
mod other_frames;
mod panics;
mod rate_limit;
mod reconnect;
mod reconnect_script;
mod reconnect_sockets;
mod slow_consumers;
mod strictness;

use std::{pin::Pin, sync::Arc};
use support::{Peer, websocket::Frame};
use tower_upgrade::{
    BoxError, CloseReason, Session, Sessions, UpgradeLayer, Upgraded, testing,
    websocket::{Error, ErrorKind, Message, WebSocket, WebSocketUpgrade, websocket},
};

type Run = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// A handler from a closure.
fn handler<F, Fut>(
    run: F,
) -> WebSocketUpgrade<impl Fn(WebSocket, Session) -> Run + Send + Sync + 'static>
where
    F: Fn(WebSocket) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    websocket(move |socket, session| -> Run {
        drop(session);
        Box::pin(run(socket))
    })
}

/// Echoes messages.
async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await {
        if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// A session with its peer and its report.
struct Opened {
    peer: Peer<Upgraded>,
    sessions: Sessions,
    closed: tokio::sync::mpsc::UnboundedReceiver<String>,
}

async fn open<F>(handler: WebSocketUpgrade<F>) -> Opened
where
    WebSocketUpgrade<F>: tower_upgrade::ProtocolHandler,
{
    open_with(UpgradeLayer::new(), handler).await
}

async fn open_with<F>(layer: UpgradeLayer, handler: WebSocketUpgrade<F>) -> Opened
where
    WebSocketUpgrade<F>: tower_upgrade::ProtocolHandler,
{
    let sessions = Sessions::new();
    let (report, closed) = tokio::sync::mpsc::unbounded_channel();
    let app = layer
        .sessions(sessions.clone())
        .on_close(move |closed| {
            let reason = match closed.reason() {
                CloseReason::Failed(error) => format!("failed: {error}"),
                reason => reason.to_string(),
            };
            let _ = report.send(reason);
        })
        .protocol("websocket", handler)
        .into_service();
    let request = testing::request("websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(String::new())
        .expect("a request");
    let exchange = testing::upgrade(app, request).await.expect("a response");
    Opened {
        peer: Peer::new(exchange.expect_upgraded("websocket")),
        sessions,
        closed,
    }
}

impl Opened {
    async fn send(&mut self, frame: Frame) {
        self.peer.send(frame.masked()).await;
    }

    #[track_caller]
    fn expect(&mut self, frame: Frame) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let read = Frame::read(&mut self.peer).await;
            assert!(
                read == frame,
                "{:?} and not {:?} at {caller}",
                read.brief(),
                frame.brief()
            );
        }
    }

    /// The connection and the session end in an orderly way.
    async fn ended(mut self) -> String {
        self.peer.expect_end().await;
        drop(self.peer);
        support::soon(self.closed.recv()).await.expect("a reason")
    }
}

/// The messages that a handler has received.
fn notes() -> (
    Arc<dyn Fn(String) + Send + Sync>,
    tokio::sync::mpsc::UnboundedReceiver<String>,
) {
    let (note, noted) = tokio::sync::mpsc::unbounded_channel();
    (Arc::new(move |text| drop(note.send(text))), noted)
}

/// Describes the result of a call to `recv`.
fn brief(received: &Option<Result<Message, Error>>) -> String {
    match received {
        None => "closed".into(),
        Some(Err(error)) => format!("{:?}", error.kind()),
        Some(Ok(Message::Text(text))) => format!("text {text}"),
        Some(Ok(Message::Binary(bytes))) => format!("{} bytes", bytes.len()),
        Some(Ok(Message::Ping(_))) => "ping".into(),
        Some(Ok(Message::Pong(_))) => "pong".into(),
        Some(Ok(Message::Close(None))) => "close".into(),
        Some(Ok(Message::Close(Some(close)))) => format!("close {} {}", close.code, close.reason),
    }
}

/// Notes all that it receives, to the end.
async fn listen(
    mut socket: WebSocket,
    note: Arc<dyn Fn(String) + Send + Sync>,
) -> Result<(), BoxError> {
    loop {
        let received = socket.recv().await;
        note(brief(&received));
        match received {
            None => return Ok(()),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(_)) => {}
        }
    }
}

#[allow(dead_code)]
fn is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<WebSocket>();
    check::<Error>();
    check::<ErrorKind>();
    check::<Message>();
    check::<WebSocketUpgrade>();
}
