//! The WebSocket client, with this crate's server and with misbehaving servers.

use crate::{
    echo, handler,
    support::{
        Peer, Server, Via,
        clients::{Scripted, clients},
        plain, soon,
        websocket::{CLOSE, FIN, Frame, PING, TEXT},
    },
};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use std::{collections::HashSet, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, DuplexStream},
    net::TcpStream,
    time::Instant,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    client::{Dial, Error, ErrorKind, Http1, Http2, UpgradeLayer},
    websocket::{
        self, CloseFrame, Message, RateLimit, WebSocket, WebSocketConfig, WebSocketRequest,
    },
};

#[tokio::test]
async fn websocket_client_works_over_each_version() {
    let handler = handler(echo).config(WebSocketConfig::new().subprotocols(["chat.v2", "chat.v1"]));
    let layer = tower_upgrade::UpgradeLayer::new().protocol("websocket", handler);
    for via in [Via::Http1, Via::Http2] {
        let app = layer.clone().layer(service_fn(plain));
        let server = Server::start_via(via, app).await;
        let uri = format!("ws://{}/chat", server.address)
            .parse()
            .expect("a URI");
        let request = WebSocketRequest::new(uri)
            .config(WebSocketConfig::new().subprotocols(["other", "chat.v1"]));
        let connected = if via == Via::Http1 {
            let client = UpgradeLayer::new().layer(Dial::new(HttpConnector::new()));
            request.connect(client).await
        } else {
            let connection = Http2::handshake(server.connect().await.io).await;
            let client = UpgradeLayer::new().layer(connection.expect("a connection"));
            request.connect(client).await
        };
        let (mut socket, response) = connected.expect("a socket");
        assert_eq!(socket.subprotocol(), Some("chat.v1"));
        assert_eq!(response.headers["sec-websocket-protocol"], "chat.v1");
        for length in [0, 1, 200, 70_000] {
            let message = Message::binary(vec![7; length]);
            socket.send(message.clone()).await.expect("a socket");
            assert_eq!(
                socket.recv().await.expect("a message").expect("a message"),
                message
            );
        }
        soon(socket.close(CloseFrame::new(1000, "bye")))
            .await
            .expect("an orderly end");
    }
}

/// Connects to a server that responds with these lines. Also returns the server's connection and the request's key.
async fn answered(lines: &str) -> (Result<WebSocket, Error>, Peer<TcpStream>, String) {
    let server = Scripted::start().await;
    let request = WebSocketRequest::new(server.uri("/"));
    let answering = async {
        let mut peer = server.accept().await;
        let head = peer.request_head().await;
        let head = head.replace("Sec-WebSocket", "sec-websocket");
        assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
        let response = "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
        peer.send(format!("{response}{lines}\r\n")).await;
        let mut head = head.lines();
        let key = head.find_map(|line| line.strip_prefix("sec-websocket-key: "));
        (peer, key.expect("a key").to_owned())
    };
    let asking = request.connect(clients()[0].1.clone());
    let (result, (peer, key)) = soon(async { tokio::join!(asking, answering) }).await;
    (result.map(|(socket, _)| socket), peer, key)
}

#[tokio::test]
async fn k6_key_is_random_for_each_request() {
    let mut keys = HashSet::new();
    for _ in 0..10 {
        let (_, _, key) = answered("").await;
        assert_eq!(key.len(), 24);
        assert!(keys.insert(key));
    }
}

#[tokio::test]
async fn k6_wrong_accept_is_an_error() {
    for lines in [
        "",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "sec-websocket-accept:\r\n",
    ] {
        let (result, mut peer, _) = answered(lines).await;
        let error = result.expect_err("a wrong answer");
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(
            error.to_string().contains("Sec-WebSocket-Accept"),
            "{error}"
        );
        peer.expect_end().await;
    }
}

/// Offers `a` and `b` to a server that responds with a valid key and these header lines. Returns the subprotocol.
async fn agreed(lines: &'static [(&str, &str)]) -> Result<Option<String>, ErrorKind> {
    let app = service_fn(move |request: Request<Incoming>| async move {
        let key = request.headers()["sec-websocket-key"].as_bytes();
        let mut response = Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", derive_accept_key(key));
        for (name, value) in lines {
            response = response.header(*name, *value);
        }
        response.body(String::new())
    });
    let server = Server::start(app).await;
    let uri = format!("http://{}/", server.address);
    let request = WebSocketRequest::new(uri.parse().expect("a URI"))
        .config(WebSocketConfig::new().subprotocols(["a", "b"]));
    match request.connect(clients()[1].1.clone()).await {
        Ok((socket, _)) => Ok(socket.subprotocol().map(str::to_owned)),
        Err(error) => Err(error.kind()),
    }
}

#[tokio::test]
async fn k6_subprotocol_that_was_not_offered_is_an_error() {
    const NAME: &str = "sec-websocket-protocol";
    assert_eq!(agreed(&[]).await, Ok(None));
    assert_eq!(agreed(&[(NAME, "b")]).await, Ok(Some("b".to_owned())));
    let wrong: [&[(&str, &str)]; 6] = [
        &[("sec-websocket-accept", "another one")],
        &[(NAME, "c")],
        &[(NAME, "B")],
        &[(NAME, "a, b")],
        &[(NAME, "a"), (NAME, "b")],
        &[("sec-websocket-extensions", "permessage-deflate")],
    ];
    for lines in wrong {
        assert_eq!(agreed(lines).await, Err(ErrorKind::Protocol), "{lines:?}");
    }
}

#[tokio::test]
async fn rejection_is_returned_with_its_body() {
    let handler = handler(echo);
    let layer = tower_upgrade::UpgradeLayer::new().protocol("websocket", handler);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let uri = format!("ws://{}", server.address).parse().expect("a URI");
    let request =
        WebSocketRequest::new(uri).header("origin", HeaderValue::from_static("http://evil"));
    let result = request.connect(clients()[0].1.clone()).await;
    let error = result.expect_err("a refusal");
    assert_eq!(error.response().expect("a response").status(), 403);
}

#[test]
fn offered_subprotocol_is_not_logged() {
    let uri = "ws://test/".parse().expect("a URI");
    let request = WebSocketRequest::new(uri)
        .config(WebSocketConfig::new().subprotocols(["chat", "bearer.0123456789"]));
    let debug = format!("{request:?}");
    assert!(!debug.contains("0123456789"), "{debug}");
}

/// A WebSocket in memory, so that time can stand still.
async fn in_memory(request: WebSocketRequest) -> (WebSocket, Peer<DuplexStream>) {
    let (io, peer) = tokio::io::duplex(1024);
    let mut peer = Peer::new(peer);
    let connection = Http1::handshake(io).await.expect("a connection");
    let answering = async {
        let head = peer.request_head().await;
        let key = head.split("sec-websocket-key: ").nth(1).expect("a key");
        let key = key.split("\r\n").next().expect("a line");
        let accept = derive_accept_key(key.as_bytes());
        let response = "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
        let head = format!("{response}sec-websocket-accept: {accept}\r\n\r\n");
        peer.send(head).await;
    };
    let client = UpgradeLayer::new().layer(connection);
    let (connected, ()) = tokio::join!(request.connect(client), answering);
    (connected.expect("a socket").0, peer)
}

#[tokio::test(start_paused = true)]
async fn close_waits_ten_seconds_for_the_servers_answer() {
    for answers in [false, true] {
        let request = WebSocketRequest::new("ws://test/".parse().expect("a URI"));
        let (socket, mut peer) = in_memory(request).await;
        let start = Instant::now();
        let closing = tokio::spawn(socket.close(CloseFrame::new(1000, "")));
        assert_eq!(Frame::read(&mut peer).await, Frame::close(1000, ""));
        if answers {
            // But it does not end the connection.
            peer.send(Frame::close(1000, "").unmasked()).await;
        }
        let closed = closing.await.expect("no panic");
        assert_eq!(closed.is_ok(), answers);
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }
}

#[tokio::test(start_paused = true)]
async fn unanswered_ping_ends_the_client() {
    let request = WebSocketRequest::new("ws://test/".parse().expect("a URI"));
    let (mut socket, mut peer) =
        in_memory(request.config(WebSocketConfig::new().keep_alive(Duration::from_secs(10)))).await;
    let start = Instant::now();
    let receiving = tokio::spawn(async move { socket.recv().await });
    assert_eq!(Frame::read(&mut peer).await, Frame::new(PING, ""));
    let received = receiving.await.expect("no panic").expect("an error");
    let error = received.expect_err("no answer");
    assert_eq!(error.kind(), websocket::ErrorKind::Idle);
    assert_eq!(start.elapsed(), Duration::from_secs(20));
}

#[tokio::test]
async fn violation_of_the_server_closes_with_1002() {
    for (bytes, code) in [
        (Frame::new(TEXT, "a").masked(), 1002),
        (Frame::part(0xc1, "a").unmasked(), 1002),
        (Frame::new(CLOSE, "a").unmasked(), 1002),
        (Frame::new(TEXT, b"a\xff").unmasked(), 1007),
        (Frame::new(CLOSE, b"\x03\xe8\xff").unmasked(), 1007),
        (Frame::new(TEXT, "too long").unmasked(), 1009),
    ] {
        let request = WebSocketRequest::new("ws://test/".parse().expect("a URI"));
        let (mut socket, mut peer) =
            in_memory(request.config(WebSocketConfig::new().max_message_size(7))).await;
        peer.send(bytes).await;
        assert!(soon(socket.recv()).await.expect("an error").is_err());
        let frame = peer.exactly(8).await;
        // Masked, as all that a client sends.
        assert_eq!(frame[..2], [FIN | CLOSE, 0x80 | 2]);
        let told = [frame[6] ^ frame[2], frame[7] ^ frame[3]];
        assert_eq!(u16::from_be_bytes(told), code);
        assert!(soon(socket.recv()).await.is_none());
        drop(socket);
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn client_does_not_send_a_reserved_close_code() {
    let request = WebSocketRequest::new("ws://test/".parse().expect("a URI"));
    let (mut socket, mut peer) = in_memory(request).await;
    let close = Message::Close(Some(CloseFrame::new(1006, "")));
    let error = socket.send(close).await.expect_err("no code");
    assert_eq!(error.kind(), websocket::ErrorKind::InvalidCode);
    // A dropped WebSocket sends nothing.
    drop(socket);
    peer.expect_end().await;
}

#[tokio::test]
async fn message_over_the_limit_closes_with_1009() {
    let handler = handler(|mut socket: WebSocket| async move {
        socket.send(Message::binary(vec![0; 11])).await?;
        echo(socket).await
    });
    let layer = tower_upgrade::UpgradeLayer::new().protocol("websocket", handler);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let uri: http::Uri = format!("ws://{}", server.address).parse().expect("a URI");
    let request = WebSocketRequest::new(uri);
    for (request, is_allowed) in [
        (
            request
                .clone()
                .config(WebSocketConfig::new().max_message_size(10)),
            false,
        ),
        (
            request.config(WebSocketConfig::new().max_message_size(11)),
            true,
        ),
    ] {
        let connected = request.connect(clients()[0].1.clone()).await;
        let (mut socket, _) = connected.expect("a socket");
        let received = soon(socket.recv()).await.expect("a message");
        assert_eq!(received.is_ok(), is_allowed, "{received:?}");
    }
}

#[tokio::test]
async fn rate_limit_applies_to_the_server() {
    let config = WebSocketConfig::new().rate_limit(RateLimit::new(1).burst(Duration::ZERO).close());
    let request = WebSocketRequest::new("ws://test/".parse().expect("a URI"));
    let (mut socket, mut peer) = in_memory(request.config(config)).await;
    peer.send(Frame::new(TEXT, "hello").unmasked()).await;
    let error = soon(socket.recv())
        .await
        .expect("an error")
        .expect_err("too many messages");
    assert_eq!(error.kind(), websocket::ErrorKind::RateLimited);
    let frame = peer.exactly(8).await;
    assert_eq!(frame[..2], [FIN | CLOSE, 0x80 | 2]);
    let code = [frame[6] ^ frame[2], frame[7] ^ frame[3]];
    assert_eq!(u16::from_be_bytes(code), 1008);
}

#[tokio::test]
async fn one_config_applies_to_both_sides() {
    let config = WebSocketConfig::new()
        .subprotocols(["chat"])
        .max_message_size(10);
    let handler = handler(|mut socket: WebSocket| async move {
        let received = socket.recv().await.expect("an error");
        let error = received.expect_err("a message over the limit");
        assert_eq!(error.kind(), websocket::ErrorKind::TooLarge);
        Ok(())
    });
    let handler = handler.config(config.clone());
    let layer = tower_upgrade::UpgradeLayer::new().protocol("websocket", handler);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let uri: http::Uri = format!("ws://{}", server.address).parse().expect("a URI");
    let request = WebSocketRequest::new(uri).config(config);
    let connected = request.connect(clients()[0].1.clone()).await;
    let (mut socket, response) = connected.expect("a socket");
    assert_eq!(socket.subprotocol(), Some("chat"));
    let chosen = response.headers.get("sec-websocket-protocol");
    assert_eq!(chosen.expect("a subprotocol"), "chat");
    socket.send("0123456789a").await.expect("sent");
    match soon(socket.recv()).await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, 1009),
        received => panic!("{received:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn layers_may_be_around_the_client() {
    let (io, _silent) = tokio::io::duplex(1024);
    let client = tower::ServiceBuilder::new()
        .timeout(Duration::from_secs(5))
        .layer(UpgradeLayer::new())
        .service(Http1::handshake(io).await.expect("a connection"));
    let request = WebSocketRequest::new("ws://test/".parse().expect("a URI"));
    let error = request.connect(client).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let source = std::error::Error::source(&error).expect("a source");
    assert!(source.is::<tower::timeout::error::Elapsed>(), "{source}");
}

/// The limit of a frame used to stay at 1 MiB beside a higher limit of a message.
#[tokio::test]
async fn max_message_size_alone_admits_a_message_in_one_frame() {
    const SIZE: usize = 3 * 1024 * 1024;
    let handler = handler(echo).config(WebSocketConfig::new().max_message_size(SIZE));
    let layer = tower_upgrade::UpgradeLayer::new().protocol("websocket", handler);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let uri: http::Uri = format!("ws://{}", server.address).parse().expect("a URI");
    let request = WebSocketRequest::new(uri).config(WebSocketConfig::new().max_message_size(SIZE));
    let connected = request.connect(clients()[0].1.clone()).await;
    let (mut socket, _) = connected.expect("a socket");
    let message = Message::binary(vec![7; SIZE]);
    socket.send(message.clone()).await.expect("sent");
    let received = soon(socket.recv()).await.expect("a message");
    assert_eq!(received.expect("a message"), message);
}

/// Servers that read the first line only, as gorilla's does, would see one subprotocol.
#[tokio::test]
async fn w8_subprotocols_are_sent_in_one_line() {
    let (io, server) = tokio::io::duplex(4096);
    let client = UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
    let request = WebSocketRequest::new("ws://test/".parse().expect("a URI"));
    let connecting = tokio::spawn(
        request
            .config(WebSocketConfig::new().subprotocols(["a", "b.v2"]))
            .connect(client),
    );
    let mut lines = tokio::io::BufReader::new(server).lines();
    let mut found = Vec::new();
    while let Some(line) = soon(lines.next_line()).await.expect("a head") {
        if line.is_empty() {
            break;
        }
        if line.starts_with("sec-websocket-protocol") {
            found.push(line);
        }
    }
    assert_eq!(found, ["sec-websocket-protocol: a, b.v2"]);
    connecting.abort();
}
