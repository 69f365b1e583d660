//! Python's websockets library, as a client and as a server.

use crate::{
    process::program,
    support::{Server, plain, soon},
};
use futures_util::StreamExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Session, Sessions, UpgradeLayer,
    client::{self, Dial},
    websocket::{CloseFrame, Message, WebSocket, WebSocketConfig, WebSocketRequest, websocket},
};

fn script(name: &str) -> String {
    format!("{}/tests/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn python_client_passes_all_cases() {
    let sessions = Sessions::new();
    let stop = sessions.clone();
    let echo = websocket(move |mut socket: WebSocket, session: Session| {
        let (stop, id) = (stop.clone(), session.id());
        async move {
            while let Some(message) = socket.recv().await {
                match message? {
                    Message::Text(text) if text == "stop" => {
                        stop.close(id, Duration::from_secs(30));
                    }
                    message @ (Message::Text(_) | Message::Binary(_)) => {
                        socket.send(message).await?;
                    }
                    Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
                }
            }
            Ok(())
        }
    });
    let layer = UpgradeLayer::new().sessions(sessions).protocol(
        "websocket",
        echo.config(WebSocketConfig::new().subprotocols(["echo"])),
    );
    let server = Server::start(layer.layer(service_fn(plain))).await;

    let mut client = program("/usr/bin/python3", "python3-websockets")
        .arg(script("python_websockets/client.py"))
        .arg(format!("ws://{}/", server.address))
        .spawn()
        .expect("Python starts");
    let mut stdout = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    for case in ["echoes", "too_large", "another_origin", "stops"] {
        let line = soon(stdout.next_line()).await.expect("readable output");
        assert_eq!(line.as_deref(), Some(case));
    }
    assert!(soon(client.wait()).await.expect("a child").success());
}

#[tokio::test]
async fn client_exchanges_messages_with_python_server() {
    let mut server = program("/usr/bin/python3", "python3-websockets")
        .arg(script("upcat/chat.py"))
        .spawn()
        .expect("Python starts");
    let mut stdout = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    let line = soon(stdout.next_line()).await.expect("readable output");
    let url = line.expect("a line").replace("listening on http:", "ws:");

    let client = client::UpgradeLayer::new().layer(Dial::new(HttpConnector::new()));
    let request = WebSocketRequest::new(url.parse().expect("a URI"));
    let (mut socket, _) = soon(request.connect(client)).await.expect("a socket");
    let hello = soon(socket.next()).await.expect("one").expect("a message");
    assert_eq!(hello.as_text(), Some("hello"));
    for length in [0, 125, 126, 65536, 1_000_000] {
        let message = Message::binary(vec![7; length]);
        socket.send(message.clone()).await.expect("a socket");
        let echo = soon(socket.recv()).await.expect("one").expect("a message");
        assert_eq!(echo, message);
    }
    let closed = soon(socket.close(CloseFrame::new(1000, "bye"))).await;
    closed.expect("an orderly end");
}
