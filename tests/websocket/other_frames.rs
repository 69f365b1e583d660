//! Frames of other libraries over a session, as in the documentation of the module.

use crate::support::{Server, clients::clients, plain, soon};
use fastwebsockets::{FragmentCollector, OpCode};
use futures_util::{SinkExt as _, StreamExt as _};
use std::pin::Pin;
use tokio_tungstenite::{WebSocketStream, tungstenite};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest,
    websocket::{CloseFrame, Message, WebSocketConfig, WebSocketRequest, WebSocketUpgrade},
};

type Running = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

struct OtherFrames(fn(Session) -> Running);

impl ProtocolHandler for OtherFrames {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let upgrade = WebSocketUpgrade::new().config(WebSocketConfig::new().subprotocols(["echo"]));
        Ok(upgrade.check(request)?.accept_raw(self.0))
    }
}

async fn echoes(run: fn(Session) -> Running) {
    let layer = UpgradeLayer::new().protocol("websocket", OtherFrames(run));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let uri = format!("ws://{}", server.address).parse().expect("a URI");
    let request = WebSocketRequest::new(uri).config(WebSocketConfig::new().subprotocols(["echo"]));
    let connected = request.connect(clients()[1].1.clone()).await;
    let (mut socket, _) = connected.expect("a socket");
    assert_eq!(socket.subprotocol(), Some("echo"));
    for length in [0, 125, 126, 100_000] {
        let message = Message::binary(vec![7; length]);
        socket.send(message.clone()).await.expect("a socket");
        let echo = soon(socket.recv()).await.expect("one").expect("a message");
        assert_eq!(echo, message);
    }
    soon(socket.close(CloseFrame::new(1000, "")))
        .await
        .expect("an orderly end");
}

#[tokio::test]
async fn tokio_tungstenite_echoes_over_a_session() {
    echoes(|session| {
        Box::pin(async {
            let role = tungstenite::protocol::Role::Server;
            let mut socket = WebSocketStream::from_raw_socket(session.into_io(), role, None).await;
            while let Some(message) = socket.next().await {
                let message = message?;
                if message.is_text() || message.is_binary() {
                    socket.send(message).await?;
                }
            }
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn tokio_websockets_echoes_over_a_session() {
    echoes(|session| {
        Box::pin(async {
            let mut socket = tokio_websockets::ServerBuilder::new().serve(session.into_io());
            while let Some(message) = socket.next().await {
                let message = message?;
                if message.is_text() || message.is_binary() {
                    socket.send(message).await?;
                }
            }
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn fastwebsockets_echoes_over_a_session() {
    echoes(|session| {
        Box::pin(async {
            let role = fastwebsockets::Role::Server;
            let socket = fastwebsockets::WebSocket::after_handshake(session.into_io(), role);
            let mut socket = FragmentCollector::new(socket);
            loop {
                let frame = socket.read_frame().await?;
                match frame.opcode {
                    OpCode::Close => return Ok(()),
                    OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
                    _ => {}
                }
            }
        })
    })
    .await;
}

#[tokio::test]
async fn yawc_echoes_over_a_session() {
    echoes(|session| {
        Box::pin(async {
            let options = yawc::Options::default().with_utf8().without_compression();
            let role = yawc::Role::Server;
            let mut socket = yawc::WebSocket::from_stream(session.into_io(), role, options)?;
            while let Some(frame) = socket.next().await {
                if matches!(frame.opcode(), yawc::OpCode::Text | yawc::OpCode::Binary) {
                    socket.send(frame).await?;
                }
            }
            Ok(())
        })
    })
    .await;
}
