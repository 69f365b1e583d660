//! W: the opening handshake of WebSocket (RFC 6455 §4, RFC 8441 §5).

use crate::support::{
    Head, Peer, Server, Via, h2, head,
    log::Log,
    plain, text,
    websocket::{CLOSE, Frame, TEXT},
};
use http::HeaderValue;
use tokio::net::TcpStream;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest,
    websocket::{
        Message, WebSocket, WebSocketConfig, WebSocketRequest, WebSocketUpgrade, websocket,
    },
};

type Speak = std::pin::Pin<Box<dyn Future<Output = Result<(), tower_upgrade::BoxError>> + Send>>;

/// Echoes messages, with the subprotocol in front.
fn echo() -> WebSocketUpgrade<impl Fn(WebSocket, Session) -> Speak + Send + Sync + 'static> {
    websocket(|mut socket: WebSocket, _session| -> Speak {
        Box::pin(async move {
            while let Some(message) = socket.recv().await {
                if let message @ Message::Text(_) = message? {
                    socket.send(message).await?;
                }
            }
            Ok(())
        })
    })
}

macro_rules! layer {
    ($handler:expr) => {
        UpgradeLayer::new()
            .protocol("websocket", $handler)
            .layer(service_fn(plain))
    };
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "Sec-WebSocket-Version: 13";

/// An opening handshake with more lines, or other ones.
fn opening(start: &str, lines: &[&str]) -> String {
    let mut all = vec![
        start,
        "Host: test:8080",
        "Connection: Upgrade",
        "Upgrade: websocket",
    ];
    all.extend(lines);
    head(&all)
}

async fn ask(server: &Server, request: &str) -> (Head, Peer<TcpStream>) {
    let mut peer = server.connect().await;
    peer.send(request).await;
    let head = peer.head().await;
    (head, peer)
}

async fn refused(server: &Server, request: &str) -> (Head, String) {
    let mut peer = server.connect().await;
    peer.send(request).await;
    peer.response().await
}

#[tokio::test]
async fn w1_nothing_else_is_taken_for_a_websocket() {
    let layer = UpgradeLayer::new()
        .protocol("chat", echo())
        .any_protocol(echo())
        .connect(echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    for protocol in ["chat", "other"] {
        let upgrade = format!("Upgrade: {protocol}");
        let lines = ["Host: test", "Connection: Upgrade", &upgrade, KEY, VERSION];
        let request = head(&[&["GET / HTTP/1.1"][..], &lines].concat());
        let (head, _peer) = ask(&server, &request).await;
        assert_eq!(head.status, 501, "{protocol}");
    }
    let request = head(&["CONNECT test:1 HTTP/1.1", "Host: test:1", KEY, VERSION]);
    assert_eq!(ask(&server, &request).await.0.status, 501);
    let (head, _peer) = ask(&server, &opening("GET / HTTP/1.1", &[KEY, VERSION])).await;
    assert_eq!(head.status, 101);
}

#[tokio::test]
async fn w1_other_method_than_get_is_rejected() {
    let server = Server::start(layer!(echo())).await;
    for method in ["POST", "PUT", "HEAD", "OPTIONS"] {
        let request = opening(&format!("{method} / HTTP/1.1"), &[KEY, VERSION]);
        let (head, _) = ask(&server, &request).await;
        assert_eq!(head.status, 405, "{head:?}");
        assert_eq!(head.get("allow").as_deref(), Some("GET"));
        head.assert_no_handshake();
    }
}

#[tokio::test]
async fn w1_invalid_key_is_rejected() {
    let server = Server::start(layer!(echo())).await;
    for lines in [
        &[VERSION][..],
        &[VERSION, KEY, KEY],
        &[VERSION, "Sec-WebSocket-Key:"],
        &[VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub24="],
        &[VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"],
        &[VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU="],
        &[VERSION, "Sec-WebSocket-Key: not base64!"],
        &[VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, x"],
    ] {
        let (head, body) = refused(&server, &opening("GET / HTTP/1.1", lines)).await;
        assert_eq!(head.status, 400, "{lines:?}");
        assert!(body.contains("Sec-WebSocket-Key"), "{body}");
        head.assert_no_handshake();
    }
}

#[tokio::test]
async fn w2_other_version_is_rejected_with_the_supported_one() {
    let server = Server::start(layer!(echo())).await;
    for lines in [
        &[KEY][..],
        &[KEY, "Sec-WebSocket-Version: 8"],
        &[KEY, "Sec-WebSocket-Version: 13, 8"],
        &[KEY, VERSION, VERSION],
    ] {
        let (head, body) = refused(&server, &opening("GET / HTTP/1.1", lines)).await;
        assert_eq!(head.status, 426, "{lines:?}");
        assert_eq!(head.get("sec-websocket-version").as_deref(), Some("13"));
        assert_eq!(head.get("upgrade").as_deref(), Some("websocket"));
        assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
        assert!(body.contains("13"), "{body}");
    }
}

#[tokio::test]
async fn w2_other_version_over_http2_is_a_400() {
    let server = Server::start_via(Via::Http2, layer!(echo())).await;
    let mut client = h2::Client::connect(server.connect().await).await;
    let request = h2::extended_connect("websocket").header("sec-websocket-version", "8");
    let answer = client.ask(request.body(()).expect("a request")).await;
    assert_eq!(answer.head.status(), 400);
    assert_eq!(answer.head.headers()["sec-websocket-version"], "13");
    assert_eq!(answer.head.headers().get("upgrade"), None);
}

#[tokio::test]
async fn w3_accept_equals_the_example_of_the_rfc() {
    let server = Server::start(layer!(echo())).await;
    let (head, mut peer) = ask(&server, &opening("GET / HTTP/1.1", &[KEY, VERSION])).await;
    head.assert_upgraded("websocket");
    let accept = head.get("sec-websocket-accept");
    assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(head.get("sec-websocket-protocol"), None);
    peer.send(Frame::new(TEXT, "hello").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "hello"));
}

#[tokio::test]
async fn w3_response_over_http2_has_no_accept() {
    let server = Server::start_via(Via::Http2, layer!(echo())).await;
    let mut client = h2::Client::connect(server.connect().await).await;
    let request = h2::extended_connect("websocket")
        .header("sec-websocket-version", "13")
        .header("origin", "http://test");
    let answer = client.ask(request.body(()).expect("a request")).await;
    assert_eq!(answer.head.headers().get("sec-websocket-accept"), None);
    let mut peer = answer.expect_upgraded();
    peer.send(Frame::new(TEXT, "hello").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "hello"));
    peer.send(Frame::close(1000, "bye").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1000, "bye"));
    peer.expect_end().await;
}

#[tokio::test]
async fn w4_subprotocol_is_chosen_by_either_preference() {
    for (offer, by_client, by_server) in [
        ("chat.v1, chat.v2", Some("chat.v1"), Some("chat.v2")),
        ("other, chat.v1", Some("chat.v1"), Some("chat.v1")),
        ("other", None, None),
        ("CHAT.V1", None, None),
        (", ,", None, None),
    ] {
        let offer = format!("Sec-WebSocket-Protocol: {offer}");
        let request = opening("GET / HTTP/1.1", &[KEY, VERSION, &offer]);
        let config = WebSocketConfig::new().subprotocols(["chat.v2", "chat.v1"]);
        for (config, chosen) in [
            (config.clone(), by_client),
            (config.prefer_own_subprotocols(), by_server),
        ] {
            let server = Server::start(layer!(echo().config(config))).await;
            let (head, _) = ask(&server, &request).await;
            head.assert_upgraded("websocket");
            let answer = head.get("sec-websocket-protocol");
            assert_eq!(answer.as_deref(), chosen, "{offer}");
        }
    }
}

#[tokio::test]
async fn w4_subprotocols_may_span_lines_and_must_be_tokens() {
    let server = Server::start(layer!(
        echo().config(WebSocketConfig::new().subprotocols(["b"]))
    ))
    .await;
    let lines = ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"];
    let request = opening("GET / HTTP/1.1", &[KEY, VERSION, lines[0], lines[1]]);
    let (head, _) = ask(&server, &request).await;
    assert_eq!(head.get("sec-websocket-protocol").as_deref(), Some("b"));

    let secret = "Sec-WebSocket-Protocol: b, s e c r e t";
    let request = opening("GET / HTTP/1.1", &[KEY, VERSION, secret]);
    let (head, body) = refused(&server, &request).await;
    assert_eq!(head.status, 400);
    assert!(!body.contains("s e c"), "{body}");
}

/// Notes how the request that it accepts looks in a log.
struct Logging;

impl ProtocolHandler for Logging {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let upgrade = WebSocketUpgrade::new().config(WebSocketConfig::new().subprotocols(["chat"]));
        let handshake = upgrade.check(request)?;
        tracing::info!(?request, ?handshake, ?upgrade, "accepted");
        Ok(handshake.accept(|socket, session| async move {
            tracing::info!(?socket, ?session, "opened");
            Ok(())
        }))
    }
}

#[tokio::test]
async fn w4_offered_subprotocol_is_not_logged() {
    let (log, _guard) = Log::start();
    let server = Server::start(layer!(Logging)).await;
    let offer = "Sec-WebSocket-Protocol: chat, bearer.0123456789";
    let more = ["Origin: http://evil", "X-None: of it"];
    for (more, status) in more.into_iter().zip([403, 101]) {
        let request = opening("GET / HTTP/1.1", &[KEY, VERSION, offer, more]);
        let (head, mut peer) = ask(&server, &request).await;
        assert_eq!(head.status, status);
        peer.finish().await;
        let _ = peer.rest().await;
    }
    assert_eq!(log.lines("opened").len(), 1);
    assert!(!log.lines("websocket").is_empty());
    assert!(log.lines("0123456789").is_empty());
}

#[tokio::test]
async fn w5_cross_origin_page_is_rejected() {
    let same = echo();
    let listed =
        echo().config(WebSocketConfig::new().origins(["https://app.example", "http://other:81"]));
    let any = echo().config(WebSocketConfig::new().any_origin());
    for (origin, by_same, by_list) in [
        (None, true, true),
        (Some("http://test:8080"), true, false),
        (Some("https://TEST:8080"), true, false),
        (Some("http://test"), false, false),
        (Some("http://test:8081"), false, false),
        (Some("http://evil:8080"), false, false),
        (Some("http://test:8080.evil"), false, false),
        (Some("https://app.example"), false, true),
        (Some("https://app.example:443"), false, true),
        (Some("http://app.example"), false, false),
        (Some("null"), false, false),
        (Some("garbage"), false, false),
        (Some("tauri://test:8080"), false, false),
        (Some("f~oo://test:8080"), false, false),
    ] {
        let origin = origin.map(|origin| format!("Origin: {origin}"));
        let mut lines = vec![KEY, VERSION];
        lines.extend(origin.as_deref());
        let request = opening("GET / HTTP/1.1", &lines);
        for (handler, is_allowed) in [(&same, by_same), (&any, true)] {
            let server = Server::start(layer!(handler.clone())).await;
            let (head, _) = ask(&server, &request).await;
            let status = if is_allowed { 101 } else { 403 };
            assert_eq!(head.status, status, "{origin:?}");
        }
        let server = Server::start(layer!(listed.clone())).await;
        let (head, _) = ask(&server, &request).await;
        assert_eq!(head.status, if by_list { 101 } else { 403 }, "{origin:?}");
    }
}

/// Schemes without a default port: over HTTP/1.1 only the host could be compared.
#[tokio::test]
async fn w5_origin_of_another_scheme_is_refused_unless_listed() {
    for origin in [
        "tauri://localhost",
        "capacitor://localhost",
        "foo://localhost",
    ] {
        let line = format!("Origin: {origin}");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             {KEY}\r\n{VERSION}\r\n{line}\r\n\r\n"
        );
        let server = Server::start(layer!(echo())).await;
        let (head, _) = ask(&server, &request).await;
        assert_eq!(head.status, 403, "{origin}");
        let server = Server::start(layer!(
            echo().config(WebSocketConfig::new().origins([origin]))
        ))
        .await;
        let (head, _) = ask(&server, &request).await;
        assert_eq!(head.status, 101, "{origin}");
    }
}

#[tokio::test]
async fn w5_over_http_2_the_scheme_counts_too() {
    let server = Server::start_via(Via::Http2, layer!(echo())).await;
    let mut client = h2::Client::connect(server.connect().await).await;
    for (origin, status) in [
        ("http://test", 200),
        ("https://test", 403),
        ("http://evil", 403),
    ] {
        let request = h2::extended_connect("websocket")
            .header("sec-websocket-version", "13")
            .header("origin", HeaderValue::from_static(origin));
        let answer = client.ask(request.body(()).expect("a request")).await;
        assert_eq!(answer.head.status(), status, "{origin}");
    }
}

#[tokio::test]
async fn w5_rejection_has_a_message() {
    let server = Server::start(layer!(echo())).await;
    let request = opening("GET / HTTP/1.1", &[KEY, VERSION, "Origin: http://evil"]);
    let (head, body) = refused(&server, &request).await;
    head.assert_no_handshake();
    assert!(body.contains("origin"), "{body}");
}

#[tokio::test]
async fn w6_extensions_are_declined() {
    let server = Server::start(layer!(echo())).await;
    let extensions = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let request = opening("GET / HTTP/1.1", &[KEY, VERSION, extensions]);
    let (head, mut peer) = ask(&server, &request).await;
    head.assert_upgraded("websocket");
    assert_eq!(head.get("sec-websocket-extensions"), None);
    // A client that uses an extension anyway is closed with 1002.
    peer.send(Frame::new(0x40 | TEXT, "hello").masked()).await;
    let frame = Frame::read(&mut peer).await;
    assert_eq!(
        (frame.opcode(), &frame.payload[..2]),
        (CLOSE, &[3, 234][..]),
        "{}",
        text(&frame.payload)
    );
}

#[tokio::test]
async fn failures_of_the_peer_are_not_warnings() {
    let (log, _guard) = Log::start();
    let server = Server::start(layer!(echo())).await;
    let request = opening("GET / HTTP/1.1", &[KEY, VERSION]);
    for bytes in [vec![], Frame::new(TEXT, "not masked").unmasked()] {
        let (_, mut peer) = ask(&server, &request).await;
        peer.send(bytes).await;
        peer.finish().await;
        let _ = peer.rest().await;
    }
    crate::support::until(|| log.lines("session failed").len() == 2).await;
    assert!(log.lines("WARN").is_empty(), "{:?}", log.lines("WARN"));
}

#[tokio::test]
async fn invalid_send_of_the_handler_is_a_warning() {
    let (log, _guard) = Log::start();
    let handler = websocket(|mut socket: WebSocket, _session| async move {
        socket.send(Message::Ping(vec![0; 126].into())).await?;
        Ok(())
    });
    let server = Server::start(layer!(handler)).await;
    let (_, mut peer) = ask(&server, &opening("GET / HTTP/1.1", &[KEY, VERSION])).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1011, ""));
    peer.send(Frame::close(1011, "").masked()).await;
    peer.expect_end().await;
    crate::support::until(|| !log.lines("session failed").is_empty()).await;
    let warning = log.lines("WARN").concat();
    assert!(warning.contains("126 bytes is too long"), "{warning}");
}

#[tokio::test]
async fn w3_accept_raw_sends_the_same_response() {
    struct Raw;
    impl ProtocolHandler for Raw {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let upgrade =
                WebSocketUpgrade::new().config(WebSocketConfig::new().subprotocols(["chat"]));
            let handshake = upgrade.check(request)?;
            Ok(handshake.accept_raw(|_session| async { Ok(()) }))
        }
    }
    let server = Server::start(layer!(Raw)).await;
    let offer = "Sec-WebSocket-Protocol: chat";
    let (head, _) = ask(&server, &opening("GET / HTTP/1.1", &[KEY, VERSION, offer])).await;
    head.assert_upgraded("websocket");
    let accept = head.get("sec-websocket-accept");
    assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(head.get("sec-websocket-protocol").as_deref(), Some("chat"));
}

/// gorilla/websocket and many others read the first line only.
#[tokio::test]
async fn w8_subprotocols_of_the_client_are_one_line() {
    let backend = crate::support::clients::Scripted::start().await;
    let uri: http::Uri = format!("ws://{}/", backend.address).parse().expect("a URI");
    let other = http::HeaderValue::from_static("own");
    for (request, line) in [
        (WebSocketRequest::new(uri.clone()), None),
        (
            WebSocketRequest::new(uri.clone()).config(WebSocketConfig::new().subprotocols(["a"])),
            Some("a"),
        ),
        (
            WebSocketRequest::new(uri.clone())
                .config(WebSocketConfig::new().subprotocols(["a", "b", "c"])),
            Some("a, b, c"),
        ),
        (
            WebSocketRequest::new(uri)
                .header("sec-websocket-protocol", other)
                .config(WebSocketConfig::new().subprotocols(["a"])),
            Some("own, a"),
        ),
    ] {
        let client = crate::support::clients::clients()[1].1.clone();
        let asking = tokio::spawn(request.connect(client));
        let head = backend.accept().await.request_head().await;
        let lines: Vec<_> = head
            .lines()
            .filter_map(|line| line.strip_prefix("sec-websocket-protocol: "))
            .collect();
        assert_eq!(lines, Vec::from_iter(line), "{head}");
        asking.abort();
    }
}
