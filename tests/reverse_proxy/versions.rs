//! Every HTTP version on the client side with every version on the backend side.

use crate::{
    chain::{front, proxy, scripted, send_through, serve, upgrade_response},
    support::{
        Peer, Server, Via,
        h2::{Answer, Client, connect, extended_connect},
        handlers::run_echo,
        head, offer, plain, soon,
        websocket::{Frame, TEXT},
    },
};
use http::{HeaderValue, StatusCode};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest,
    websocket::{Message, WebSocket, WebSocketConfig, websocket},
};

const BACKENDS: [Via; 2] = [Via::Http1, Via::Http2];

/// An echo whose response describes the request in the field `described`.
struct DescribeRequest;

impl ProtocolHandler for DescribeRequest {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let path = request
            .uri()
            .path_and_query()
            .map_or("", |path| path.as_str());
        let (kind, authority) = (request.kind(), request.authority()?);
        let described = format!("{kind} {path} of {authority}");
        let described = HeaderValue::try_from(described).expect("a value");
        Ok(Accept::new(run_echo).header("described", described))
    }
}

async fn backend(via: Via) -> Server {
    let layer = UpgradeLayer::new()
        .protocol("echo", DescribeRequest)
        .connect(DescribeRequest);
    Server::start_via(via, layer.layer(service_fn(plain))).await
}

#[tokio::test]
async fn upgrade_works_between_http_versions() {
    for via in BACKENDS {
        let backend = backend(via).await;
        let front = front(proxy(via, backend.address)).await;
        let kind = match via {
            Via::Http2 => "extended-connect",
            _ => "upgrade",
        };

        let mut peer = front.connect().await;
        let request = offer("Echo/2", &[]).replacen("GET /", "GET /path?query", 1);
        peer.send(request).await;
        let head = peer.head().await;
        head.assert_upgraded("Echo/2");
        let described = head.get("described").expect("the field `described`");
        assert_eq!(described, format!("{kind} /path?query of test"));
        peer.expect_echo(b"hello").await;
        peer.finish().await;
        peer.expect_end().await;

        let mut client = Client::connect(front.connect().await).await;
        let request = extended_connect("echo/2").body(()).expect("a request");
        let answer = client.ask(request).await;
        let described = &answer.head.headers()["described"];
        assert_eq!(described, &format!("{kind} /path?query of test"));
        let mut peer = answer.expect_upgraded();
        peer.expect_echo(b"hello").await;
        peer.finish().await;
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn connect_works_between_http_versions() {
    for via in BACKENDS {
        let backend = backend(via).await;
        let front = serve(UpgradeLayer::new().connect(proxy(via, backend.address))).await;

        let mut peer = front.connect().await;
        peer.send(head(&["CONNECT example.com:443 HTTP/1.1", "Host: other"]))
            .await;
        let answer = peer.head().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let described = answer.get("described").expect("the field `described`");
        assert_eq!(described, "connect  of example.com:443");
        peer.expect_echo(b"hello").await;

        let mut client = Client::connect(front.connect().await).await;
        let request = connect("example.com:443").body(()).expect("a request");
        let answer = client.ask(request).await;
        let described = &answer.head.headers()["described"];
        assert_eq!(described, "connect  of example.com:443");
        answer.expect_upgraded().expect_echo(b"hello").await;
    }
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn opening(key: &str) -> String {
    offer(
        "websocket",
        &[
            key,
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: chat, superchat",
            // The backend compares the origin with the `Host` of the client.
            "Origin: http://test",
        ],
    )
}

async fn open_over_http2(front: &Server) -> Answer {
    let mut client = Client::connect(front.connect().await).await;
    let request = extended_connect("websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat, superchat")
        .header("origin", "http://test");
    client.ask(request.body(()).expect("a request")).await
}

async fn expect_frames<Io>(mut peer: Peer<Io>)
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let frame = Frame::new(TEXT, "hello");
    peer.send(frame.masked()).await;
    assert_eq!(soon(Frame::read(&mut peer)).await, frame);
}

#[tokio::test]
async fn websocket_works_between_http_versions() {
    for via in BACKENDS {
        let echo = websocket(|mut socket: WebSocket, _: Session| async move {
            while let Some(message) = socket.recv().await {
                if let message @ Message::Text(_) = message? {
                    socket.send(message).await?;
                }
            }
            Ok(())
        });
        let layer = UpgradeLayer::new().protocol(
            "websocket",
            echo.config(WebSocketConfig::new().subprotocols(["superchat"])),
        );
        let backend = Server::start_via(via, layer.layer(service_fn(plain))).await;
        let front = front(proxy(via, backend.address)).await;

        let mut peer = front.connect().await;
        peer.send(opening(KEY)).await;
        let head = peer.head().await;
        head.assert_upgraded("websocket");
        assert_eq!(head.get("sec-websocket-accept").as_deref(), Some(ACCEPT));
        let subprotocol = head.get("sec-websocket-protocol");
        assert_eq!(subprotocol.as_deref(), Some("superchat"));
        expect_frames(peer).await;

        let answer = open_over_http2(&front).await;
        let headers = answer.head.headers();
        assert_eq!(headers.get("sec-websocket-accept"), None);
        assert_eq!(headers["sec-websocket-protocol"], "superchat");
        expect_frames(answer.expect_upgraded()).await;
    }
}

#[tokio::test]
async fn proxy_generates_the_key_for_http2_clients() {
    let (backend, front) = scripted().await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let requesting = tokio::spawn({
            let peer = front.connect().await;
            async move {
                let mut client = Client::connect(peer).await;
                let request = extended_connect("websocket").header("sec-websocket-key", "mine");
                client.ask(request.body(()).expect("a request")).await
            }
        });
        let mut at_backend = backend.accept().await;
        let head = at_backend.request_head().await;
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .expect("a key");
        assert_ne!(key, "mine");
        assert_eq!(head.matches("sec-websocket-key").count(), 1, "{head}");
        let key = HeaderValue::from_str(key).expect("a value");
        let lines = [format!("Sec-WebSocket-Accept: {}", accept_of(&key))];
        at_backend
            .send(upgrade_response("websocket", &[&lines[0]]))
            .await;
        let answer = soon(requesting).await.expect("no panic");
        assert_eq!(answer.head.headers().get("sec-websocket-accept"), None);
        answer.expect_upgraded();
        keys.push(key);
    }
    assert_ne!(keys[0], keys[1]);
}

/// Returns the `Sec-WebSocket-Accept` for a key, as tungstenite computes it.
fn accept_of(key: &HeaderValue) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
}

#[tokio::test]
async fn invalid_websocket_key_is_refused() {
    let (backend, front) = scripted().await;
    for key in ["X: y", "Sec-WebSocket-Key: short", &[KEY, KEY].join("\r\n")] {
        let mut peer = front.connect().await;
        peer.send(opening(key)).await;
        let (head, body) = peer.response().await;
        assert_eq!(head.status, 400, "{key}");
        assert!(body.contains("Sec-WebSocket-Key"), "{body}");
    }
    crate::chain::assert_no_connection(&backend).await;
}

#[tokio::test]
async fn wrong_websocket_accept_becomes_502() {
    let (backend, front) = scripted().await;
    let wrong = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let right = format!("Sec-WebSocket-Accept: {ACCEPT}");
    for lines in [
        &[][..],
        &["Sec-WebSocket-Accept: d3Jvbmc="],
        &[right.as_str(), right.as_str()],
    ] {
        let (_, mut client, mut at_backend) = send_through(&front, &backend, &opening(KEY)).await;
        at_backend.send(upgrade_response("websocket", lines)).await;
        let (head, body) = client.response().await;
        head.assert_no_handshake();
        assert_eq!(head.status, 502, "{lines:?}");
        assert_eq!(body, "the backend did not answer the key");
        assert_eq!(head.get("sec-websocket-accept"), None);
        at_backend.expect_end().await;
    }
    // The answer to a key other than the generated one.
    let requesting = open_over_http2(&front);
    let answering = async {
        let mut at_backend = backend.accept().await;
        at_backend.request_head().await;
        at_backend
            .send(upgrade_response("websocket", &[wrong]))
            .await;
        at_backend
    };
    let (answer, _) = soon(async { tokio::join!(requesting, answering) }).await;
    assert_eq!(answer.head.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn websocket_key_is_ignored_for_other_protocols() {
    let (backend, front) = scripted().await;
    let request = offer("chat, websocket", &[KEY]);
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    at_backend.send(upgrade_response("chat", &[])).await;
    let head = client.head().await;
    head.assert_upgraded("chat");
    assert_eq!(head.get("sec-websocket-accept"), None);
}

#[tokio::test]
async fn early_bytes_wait_for_the_backend_101() {
    let (backend, front) = scripted().await;
    let request = offer("chat", &[]) + "early";
    let (head, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert!(!head.contains("early"), "{head}");
    assert!(at_backend.unread().is_empty());
    at_backend
        .send(upgrade_response("chat", &[]) + "behind")
        .await;
    client.head().await.assert_upgraded("chat");
    assert_eq!(client.exactly(6).await, b"behind");
    assert_eq!(at_backend.exactly(5).await, b"early");
    client.expect_ping_pong(&mut at_backend).await;
}

trait PingPong {
    async fn expect_ping_pong(&mut self, other: &mut Self);
}

impl PingPong for Peer<tokio::net::TcpStream> {
    /// Asserts that each peer reads the bytes of the other.
    async fn expect_ping_pong(&mut self, other: &mut Self) {
        self.send("ping").await;
        assert_eq!(other.exactly(4).await, b"ping");
        other.send("pong").await;
        assert_eq!(self.exactly(4).await, b"pong");
    }
}
