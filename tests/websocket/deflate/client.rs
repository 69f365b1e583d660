//! W7: the client side.

use super::{NO_TAKEOVER, config, serve, takeover};
use crate::{
    echo, handler,
    support::{Server, Via, clients::clients, soon},
};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    client::{self, Dial, ErrorKind, Http2},
    websocket::{CloseFrame, Deflate, Message, WebSocketConfig, WebSocketRequest},
};

#[tokio::test]
async fn w7_client_and_server_exchange_compressed_messages() {
    let small = takeover().window_bits(9);
    for via in [Via::Http1, Via::Http2] {
        for (server, client, agreed) in [
            (takeover(), takeover(), "permessage-deflate"),
            (takeover(), Deflate::new(), NO_TAKEOVER),
            (Deflate::new(), takeover(), NO_TAKEOVER),
            (
                takeover(),
                small,
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
            ),
            (
                takeover(),
                takeover().receive_only(),
                "permessage-deflate; client_no_context_takeover",
            ),
        ] {
            let handler = handler(echo).config(config(server));
            let server = serve(via, handler).await;
            let uri = format!("ws://{}/", server.address);
            let request = WebSocketRequest::new(uri.parse().expect("a URI")).config(config(client));
            let connected = if via == Via::Http1 {
                let dial = Dial::new(HttpConnector::new());
                request
                    .connect(client::UpgradeLayer::new().layer(dial))
                    .await
            } else {
                let connection = Http2::handshake(server.connect().await.io).await;
                let connection = connection.expect("a connection");
                request
                    .connect(client::UpgradeLayer::new().layer(connection))
                    .await
            };
            let (mut socket, response) = connected.expect("a socket");
            assert_eq!(response.headers["sec-websocket-extensions"], agreed);
            for length in [0, 1, 200, 7_000, 70_000, 300] {
                let message = Message::text("text ".repeat(length));
                socket.send(message.clone()).await.expect("a socket");
                let echo = socket.recv().await.expect("an echo").expect("an echo");
                assert!(echo == message, "{length}");
            }
            soon(socket.close(CloseFrame::new(1000, "bye")))
                .await
                .expect("an orderly end");
        }
    }
}

/// Connects to a server that answers an offer with these extensions.
async fn answered(deflate: Option<Deflate>, extensions: &'static str) -> Result<(), String> {
    let app = service_fn(move |request: Request<Incoming>| async move {
        let headers = request.headers();
        let offered = headers.get("sec-websocket-extensions");
        assert_eq!(offered.is_some(), deflate.is_some());
        let key = headers["sec-websocket-key"].as_bytes();
        Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", derive_accept_key(key))
            .header("sec-websocket-extensions", extensions)
            .body(String::new())
    });
    let server = Server::start(app).await;
    let uri = format!("http://{}/", server.address);
    let mut settings = WebSocketConfig::new();
    if let Some(deflate) = deflate {
        settings = settings.deflate(deflate);
    }
    let request = WebSocketRequest::new(uri.parse().expect("a URI")).config(settings);
    match request.connect(clients()[1].1.clone()).await {
        Ok(_) => Ok(()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            Err(error.to_string())
        }
    }
}

#[tokio::test]
async fn w7_client_rejects_an_answer_to_another_offer() {
    let deflate = Some(Deflate::new());
    assert_eq!(answered(deflate, NO_TAKEOVER).await, Ok(()));
    for (deflate, answer, message) in [
        (None, "permessage-deflate", "not offered"),
        (deflate, "x", "not offered"),
        (deflate, "permessage-deflate", "ignored"),
        (deflate, "permessage-deflate; a b", "malformed"),
        (deflate, "permessage-deflate; unknown", "invalid parameter"),
    ] {
        let error = answered(deflate, answer).await.expect_err("an error");
        assert!(error.contains(message), "{answer}: {error}");
    }
}
