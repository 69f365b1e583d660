//! K: the client's side, against servers that misbehave.

use crate::support::{
    Peer,
    clients::{Scripted, clients, expect_error, expect_rejected, expect_session},
    frames, soon, text,
};
use http::{HeaderValue, Version};
use http_body_util::Full;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_upgrade::{
    UpgradeKind,
    client::{Error, ErrorKind, Http1, Http2, Request, Session, UpgradeLayer},
};

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const CONNECTED: &str = "HTTP/1.1 200 OK\r\n\r\n";

fn tunnel() -> Request {
    Request::connect("example.com:443".parse().expect("a target"))
}

/// All sent bytes have been read.
async fn assert_silent(peer: &mut Peer<TcpStream>) {
    // The peer runs in this thread, and has run until it waits.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(text(peer.unread()), "");
    let mut byte = [0];
    let read = peer.io.try_read(&mut byte);
    let error = read.expect_err("bytes came");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn k1_request_has_upgrade_and_connection() {
    for (name, mut client) in clients() {
        let server = Scripted::start().await;
        let request = Request::get(server.uri("/chat?room=1"))
            .protocol("Chat/2")
            .protocol("chat/1")
            .header("user", HeaderValue::from_static("ann"))
            .header("user", HeaderValue::from_static("bob"));
        let asking = async { client.ready().await?.call(request).await };
        let answering = async {
            let mut peer = server.accept().await;
            let head = peer.request_head().await.to_ascii_lowercase();
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
            head
        };
        let (_, head) = tokio::join!(asking, answering);
        assert!(
            head.starts_with("get /chat?room=1 http/1.1\r\n"),
            "{name}: {head}"
        );
        let host = format!("\r\nhost: {}\r\n", server.address);
        for line in [
            "\r\nconnection: upgrade\r\n",
            "\r\nupgrade: chat/2, chat/1\r\n",
            "\r\nuser: ann\r\n",
            "\r\nuser: bob\r\n",
            &host,
        ] {
            assert_eq!(head.matches(line).count(), 1, "{name}: {line} in {head}");
        }
    }
}

#[tokio::test]
async fn k1_other_options_of_the_connection_are_kept() {
    let server = Scripted::start().await;
    for (name, mut client) in clients() {
        let request = Request::get(server.uri("/"))
            .protocol("echo")
            .header("connection", HeaderValue::from_static("x-hop"))
            .header("upgrade", HeaderValue::from_static("other"));
        let asking = async { client.ready().await?.call(request).await };
        let answering = async {
            let mut peer = server.accept().await;
            let head = peer.request_head().await.to_ascii_lowercase();
            peer.send(SWITCH).await;
            head
        };
        let (session, head) = tokio::join!(asking, answering);
        expect_session(session);
        assert!(
            head.contains("\r\nconnection: x-hop\r\nconnection: upgrade\r\n"),
            "{name}: {head}"
        );
        assert!(head.contains("\r\nupgrade: echo\r\n"), "{name}: {head}");
        assert!(!head.contains("other"), "{name}: {head}");
    }
}

#[tokio::test]
async fn k1_connect_has_the_target_and_its_host_and_no_upgrade() {
    let server = Scripted::start().await;
    let io = TcpStream::connect(server.address).await.expect("loopback");
    let mut client = UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
    let request = tunnel().header("upgrade", HeaderValue::from_static("echo"));
    let answering = async {
        let mut peer = server.accept().await;
        let head = peer.request_head().await;
        peer.send(CONNECTED).await;
        (head, peer)
    };
    let (session, (head, mut peer)) = tokio::join!(client.call(request), answering);
    assert_eq!(
        head,
        "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n"
    );
    let session = session.expect("a tunnel");
    assert_eq!(session.kind(), UpgradeKind::Connect);
    assert_eq!(session.protocol(), None);
    let mut io = session.into_io();
    io.write_all(b"through").await.expect("a tunnel");
    assert_eq!(peer.exactly(7).await, b"through");
}

/// Returns the head that a server receives, over a new connection.
async fn head_of(request: Request) -> String {
    let server = Scripted::start().await;
    let io = TcpStream::connect(server.address).await.expect("loopback");
    let client = UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
    let answering = async {
        let head = server.accept().await.request_head().await;
        head.to_ascii_lowercase()
    };
    soon(async { tokio::join!(client.oneshot(request), answering) })
        .await
        .1
}

#[tokio::test]
async fn k1_existing_upgrade_option_is_not_repeated() {
    for line in ["Upgrade", "keep-alive, upgrade"] {
        // As WebSocket clients do.
        let http = http::Request::get("http://test/")
            .header("connection", line)
            .header("upgrade", "websocket")
            .body(Full::default());
        let request = Request::from(http.expect("a request")).protocol("echo");
        let head = head_of(request).await;
        let line = format!("\r\nconnection: {}\r\n", line.to_ascii_lowercase());
        assert!(head.contains(&line), "{head}");
        assert_eq!(head.matches("connection:").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn k1_host_of_the_uri_is_the_default() {
    let request = |uri: &str| Request::get(uri.parse().expect("a URI")).protocol("echo");
    for (request, target, host) in [
        (request("http://test:80/a?b"), "/a?b", "test:80"),
        (request("http://[::1]"), "/", "[::1]"),
        (request("test:80"), "/", "test:80"),
        (
            request("http://test/").header("host", HeaderValue::from_static("virtual")),
            "/",
            "virtual",
        ),
    ] {
        let head = head_of(request).await;
        assert!(
            head.starts_with(&format!("get {target} http/1.1\r\n")),
            "{head}"
        );
        assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
        assert_eq!(head.matches("host:").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn k1_connect_is_of_http_1_1_whatever_it_was_made_of() {
    // hyper's connection panics over the last.
    for version in [Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        let http = http::Request::connect("example.com:443")
            .version(version)
            .body(Full::default());
        let head = head_of(http.expect("a request").into()).await;
        assert!(
            head.starts_with("connect example.com:443 http/1.1\r\n"),
            "{head}"
        );
    }
}

/// The server side of an HTTP/2 connection, before the client has sent its preface.
async fn http2() -> (Peer<TcpStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let client = TcpStream::connect(address).await.expect("loopback");
    let (server, _) = listener.accept().await.expect("loopback");
    (Peer::new(server), client)
}

#[tokio::test]
async fn k1_extended_connect_waits_for_the_settings_that_allow_it() {
    let (server, io) = http2().await;
    let mut handshake = tokio::spawn(Http2::handshake(io));
    let mut server = frames::Connection::accept(server).await;
    assert_eq!(server.next(frames::SETTINGS).await.flags, 0);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!handshake.is_finished(), "the server has said nothing");

    server
        .settings(&[(frames::ENABLE_CONNECT_PROTOCOL, 1)])
        .await;
    let connection = soon(&mut handshake).await.expect("no panic");
    let connection = connection.expect("a connection");
    assert!(connection.allows_extended_connect());

    let request = Request::get("http://test/chat".parse().expect("a URI"))
        .protocol("chat/2")
        .protocol("chat/1");
    let asking = UpgradeLayer::new().layer(connection).oneshot(request);
    let answering = async {
        let head = server.next(frames::HEADERS).await;
        server.head(head.stream, &[(":status", "200")]).await;
        server.send(frames::DATA, 0, head.stream, b"early").await;
    };
    let (session, ()) = soon(async { tokio::join!(asking, answering) }).await;
    let session = session.expect("a session");
    assert_eq!(session.kind(), UpgradeKind::ExtendedConnect);
    assert_eq!(session.protocol().expect("a protocol"), &"chat/2");
    assert_eq!(Peer::new(session.into_io()).exactly(5).await, b"early");
}

#[tokio::test]
async fn k1_without_the_setting_nothing_is_sent() {
    for settings in [&[][..], &[(frames::ENABLE_CONNECT_PROTOCOL, 0)]] {
        let (server, io) = http2().await;
        let handshake = tokio::spawn(Http2::handshake(io));
        let mut server = frames::Connection::accept(server).await;
        server.settings(settings).await;
        let connection = soon(handshake)
            .await
            .expect("no panic")
            .expect("a connection");
        assert!(!connection.allows_extended_connect());

        let request = Request::get("http://test/".parse().expect("a URI")).protocol("echo");
        let client = UpgradeLayer::new().layer(connection);
        let error = expect_error(client.oneshot(request).await, ErrorKind::Unsupported);
        assert!(error.to_string().contains("extended CONNECT"), "{error}");
        while let Some(frame) = server.frame().await {
            assert_ne!(frame.kind, frames::HEADERS);
        }
    }
}

/// Each 101 breaks a rule for the response to this request.
const WRONG_SWITCHES: [(&str, &str); 14] = [
    (
        "without `Upgrade`",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\n\r\n",
    ),
    (
        "without `Upgrade`",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade:\r\n\r\n",
    ),
    (
        "without `Upgrade`",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: , ,\r\n\r\n",
    ),
    (
        "without `Connection: upgrade`",
        "HTTP/1.1 101 S\r\nupgrade: echo\r\n\r\n",
    ),
    (
        "without `Connection: upgrade`",
        "HTTP/1.1 101 S\r\nconnection: close\r\nupgrade: echo\r\n\r\n",
    ),
    (
        "without `Connection: upgrade`",
        "HTTP/1.1 101 S\r\nconnection: upgraded, no-upgrade\r\nupgrade: echo\r\n\r\n",
    ),
    (
        "to chess, which was not offered",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: chess\r\n\r\n",
    ),
    (
        "to echo/1, which was not offered",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo/1\r\n\r\n",
    ),
    (
        "to chat/3, which was not offered",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: chat/3\r\n\r\n",
    ),
    (
        "to chat, which was not offered",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n",
    ),
    (
        "more than one protocol",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo, chat/2\r\n\r\n",
    ),
    (
        "more than one protocol",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\nupgrade: chess\r\n\r\n",
    ),
    (
        "no protocol",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo chat\r\n\r\n",
    ),
    (
        "not of HTTP/1.1",
        "HTTP/1.0 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    ),
];

#[tokio::test]
async fn k2_upgrade_to_another_protocol_is_an_error() {
    for (what, answer) in WRONG_SWITCHES {
        for (name, client) in clients() {
            let server = Scripted::start().await;
            let request = Request::get(server.uri("/"))
                .protocol("echo")
                .protocol("chat/2");
            let (result, mut peer) = server.answer(client, request, answer).await;
            let error = expect_error(result, ErrorKind::Protocol);
            assert!(
                error.to_string().contains(what),
                "{name}: {answer:?}: {error}"
            );
            assert!(error.response().is_none());
            peer.expect_end().await;
        }
    }
}

#[tokio::test]
async fn k2_upgrade_response_may_vary_in_spelling() {
    for (chosen, answer) in [
        (
            "echo",
            "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        ),
        (
            "echo",
            "HTTP/1.1 101\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        ),
        (
            "ECHO",
            "HTTP/1.1 101 S\r\nupgrade: , ECHO\t,\r\nconnection: keep-alive , UPGRADE\r\n\r\n",
        ),
        (
            "chat/2",
            "HTTP/1.1 101 S\r\nconnection: x\r\nconnection: upgrade\r\nupgrade: chat/2\r\n\r\n",
        ),
        (
            "echo",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: a\r\n\r\nHTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        ),
        // Fields that frame a body have no meaning in a 101 (RFC 9110 §15.2).
        (
            "echo",
            "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\ncontent-length: 5\r\n\r\n",
        ),
    ] {
        for (name, client) in clients() {
            let server = Scripted::start().await;
            let request = Request::get(server.uri("/"))
                .protocol("echo")
                .protocol("chat/2");
            let (result, mut peer) = server.answer(client, request, answer).await;
            let session = result.unwrap_or_else(|error| panic!("{name}: {answer:?}: {error}"));
            let protocol = session.protocol().expect("a protocol");
            assert_eq!(protocol.as_str(), chosen);
            assert_eq!(session.response().status, 101);
            let mut client = Peer::new(session.into_io());
            client.send("ping").await;
            assert_eq!(peer.exactly(4).await, b"ping");
            peer.send("pong").await;
            assert_eq!(client.exactly(4).await, b"pong");
        }
    }
}

#[tokio::test]
async fn k3_any_other_status_is_refused_with_the_whole_response() {
    for (status, answer, field, body) in [
        (
            200,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nindex",
            None,
            "index",
        ),
        (204, "HTTP/1.1 204 No Content\r\n\r\n", None, ""),
        (
            302,
            "HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n",
            Some(("location", "/there")),
            "",
        ),
        (
            401,
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\ncontent-length: 3\r\n\r\nwho",
            Some(("www-authenticate", "Basic")),
            "who",
        ),
        (
            403,
            "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\nto the end",
            None,
            "to the end",
        ),
        (
            426,
            "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: chat\r\ncontent-length: 0\r\n\r\n",
            Some(("upgrade", "chat")),
            "",
        ),
        (
            503,
            "HTTP/1.1 503 Busy\r\nretry-after: 5\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n",
            Some(("retry-after", "5")),
            "busy",
        ),
        // HTTP/1.0 closes connections by default.
        (200, "HTTP/1.0 200 OK\r\n\r\nold", None, "old"),
    ] {
        for (name, client) in clients() {
            let server = Scripted::start().await;
            let request = Request::get(server.uri("/")).protocol("echo");
            let (result, peer) = server.answer(client, request, answer).await;
            if !answer.contains("content-length") && !answer.contains("chunked") {
                drop(peer);
            }
            let response = expect_rejected(result).await;
            assert_eq!(response.status(), status, "{name}");
            assert_eq!(response.body(), body, "{name}");
            if let Some((field, value)) = field {
                assert_eq!(response.headers()[field], value, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn k3_connection_is_reused_after_a_rejection() {
    let server = Scripted::start().await;
    for (name, client) in clients().into_iter().filter(|(name, _)| *name != "dial") {
        let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 3\r\n\r\nwho";
        let request = Request::get(server.uri("/")).protocol("echo");
        let (result, mut peer) = server
            .answer(client.clone(), request.clone(), refusal)
            .await;
        assert_eq!(expect_rejected(result).await.body(), "who");

        let request = request.header("authorization", HeaderValue::from_static("Basic YTpi"));
        let mut client = client;
        let asking = async { client.ready().await?.call(request).await };
        let answering = async {
            let head = peer.request_head().await;
            peer.send(SWITCH).await;
            head
        };
        let (session, head) = soon(async { tokio::join!(asking, answering) }).await;
        assert!(head.contains("authorization: Basic"), "{name}: {head}");
        let mut session = expect_session(session);
        session.send("ping").await;
        assert_eq!(peer.exactly(4).await, b"ping");
    }
}

#[tokio::test]
async fn k3_rejected_connect_returns_the_response() {
    let server = Scripted::start().await;
    let io = TcpStream::connect(server.address).await.expect("loopback");
    let mut client = UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        peer.send("HTTP/1.1 407 Who\r\nproxy-authenticate: Basic\r\ncontent-length: 3\r\n\r\nwho")
            .await;
    };
    let (result, ()) = tokio::join!(client.call(tunnel()), answering);
    let response = expect_rejected(result).await;
    assert_eq!(response.status(), 407);
    assert_eq!(response.headers()["proxy-authenticate"], "Basic");
    assert_eq!(response.body(), "who");
}

/// Sends a request with a `Connection` header, and returns the header that the server receives.
async fn ask_slowly(request: Request, answer: &[u8]) -> (Result<Session, Error>, Peer<TcpStream>) {
    let server = Scripted::start().await;
    let io = TcpStream::connect(server.address).await.expect("loopback");
    let mut client = UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        // Every byte could be the one that a client takes for the answer.
        for byte in answer {
            assert_silent(&mut peer).await;
            peer.send([*byte]).await;
        }
        peer
    };
    soon(async { tokio::join!(client.call(request), answering) }).await
}

#[tokio::test]
async fn k4_nothing_is_sent_before_the_answer() {
    let upgrade = Request::get("http://test/".parse().expect("a URI")).protocol("echo");
    for (request, answer) in [(upgrade, SWITCH), (tunnel(), CONNECTED)] {
        let (session, mut peer) = ask_slowly(request, answer.as_bytes()).await;
        assert_silent(&mut peer).await;
        let mut session = expect_session(session);
        session.send("now").await;
        assert_eq!(peer.exactly(3).await, b"now");
    }
}

#[tokio::test]
async fn k4_connect_with_a_body_is_not_sent() {
    let connect = || http::Request::connect("example.com:443");
    for http in [
        connect().body(Full::from("for the tunnel")),
        connect()
            .header("content-length", "5")
            .body(Full::default()),
        connect()
            .header("transfer-encoding", "chunked")
            .body(Full::default()),
    ] {
        let request = Request::from(http.expect("a request"));
        let (io, mut server) = tokio::io::duplex(1024);
        let connection = Http1::handshake(io).await.expect("a connection");
        let result = UpgradeLayer::new().layer(connection).oneshot(request).await;
        let error = expect_error(result, ErrorKind::Request);
        assert!(error.to_string().contains("cannot have a body"), "{error}");
        Peer::new(&mut server).expect_end().await;
    }
}

#[tokio::test]
async fn k4_nothing_is_sent_after_a_refusal() {
    let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let (result, mut peer) = ask_slowly(tunnel(), answer).await;
    assert_eq!(expect_rejected(result).await.body(), "no");
    // The client sends nothing more and closes the connection.
    peer.expect_end().await;
}

#[tokio::test]
async fn k5_bytes_behind_the_answer_come_first() {
    let early = "early bytes";
    for (name, client) in clients() {
        for answer in [SWITCH.to_owned() + early, SWITCH.to_owned()] {
            for split in 1..answer.len() {
                let server = Scripted::start().await;
                let request = Request::get(server.uri("/")).protocol("echo");
                let answer = answer.as_bytes();
                let (first, second) = answer.split_at(split);
                let answering = async {
                    let mut peer = server.accept().await;
                    peer.request_head().await;
                    peer.send(first).await;
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    peer.send(second).await;
                    if answer.len() == SWITCH.len() {
                        peer.send(early).await;
                    }
                    peer.send(", and late ones").await;
                    peer.finish().await;
                    peer
                };
                let mut client = client.clone();
                let asking = async { client.ready().await?.call(request).await };
                let (session, _peer) = soon(async { tokio::join!(asking, answering) }).await;
                let rest = expect_session(session)
                    .rest()
                    .await
                    .expect("an orderly end");
                assert_eq!(
                    text(&rest),
                    "early bytes, and late ones",
                    "{name}: at {split}"
                );
            }
            // The others differ in nothing that happens behind the head.
            if name != "hyper-util" {
                break;
            }
        }
    }
}

#[tokio::test]
async fn k5_bytes_behind_the_answer_to_a_connect_come_first() {
    // Whatever they say of a body, a tunnel begins behind the head (RFC 9110 §9.3.6).
    for head in [
        CONNECTED,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 Connection established\r\n\r\n",
        "HTTP/1.1 299 Fine\r\n\r\n",
    ] {
        let server = Scripted::start().await;
        let io = TcpStream::connect(server.address).await.expect("loopback");
        let mut client =
            UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
        let answering = async {
            let mut peer = server.accept().await;
            peer.request_head().await;
            peer.send(head.to_owned() + "SSH-2.0-early\r\n").await;
            peer
        };
        let (session, mut peer) =
            soon(async { tokio::join!(client.call(tunnel()), answering) }).await;
        let mut session = expect_session(session);
        assert_eq!(
            text(&session.exactly(15).await),
            "SSH-2.0-early\r\n",
            "{head}"
        );
        session.send("SSH-2.0-late\r\n").await;
        assert_eq!(text(&peer.exactly(14).await), "SSH-2.0-late\r\n");
    }
}

#[tokio::test]
async fn k7_status_101_to_a_connect_is_an_error() {
    for answer in [SWITCH, "HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let server = Scripted::start().await;
        let io = TcpStream::connect(server.address).await.expect("loopback");
        let mut client =
            UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
        let answering = async {
            let mut peer = server.accept().await;
            peer.request_head().await;
            peer.send(answer).await;
            peer
        };
        let (result, mut peer) =
            soon(async { tokio::join!(client.call(tunnel()), answering) }).await;
        let error = expect_error(result, ErrorKind::Protocol);
        assert!(error.to_string().contains("a 101 to a CONNECT"), "{error}");
        peer.expect_end().await;
    }
}

/// HTTP/2 has no 101 (RFC 9113 §8.6). h2 skips any 1xx and waits for the final response.
#[tokio::test]
async fn k7_status_101_over_http2_is_skipped() {
    let (server, io) = http2().await;
    let handshake = tokio::spawn(Http2::handshake(io));
    let mut server = frames::Connection::accept(server).await;
    let allowed = [(frames::ENABLE_CONNECT_PROTOCOL, 1)];
    server.settings(&allowed).await;
    let connection = soon(handshake).await.expect("no panic");
    let client = UpgradeLayer::new().layer(connection.expect("a connection"));
    let upgrade = Request::get("http://test/".parse().expect("a URI")).protocol("echo");
    for request in [upgrade, tunnel()] {
        let asking = client.clone().oneshot(request);
        let answering = async {
            let head = server.next(frames::HEADERS).await;
            server.head(head.stream, &[(":status", "101")]).await;
            server.head(head.stream, &[(":status", "403")]).await;
        };
        let (result, ()) = soon(async { tokio::join!(asking, answering) }).await;
        let error = expect_error(result, ErrorKind::Refused);
        assert_eq!(error.response().expect("a response").status(), 403);
    }
}
