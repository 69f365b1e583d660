//! K2, K3: the response to an upgrade request.

use super::{SWITCH, tunnel};
use crate::support::{
    Peer,
    clients::{Scripted, clients, expect_error, expect_rejected, expect_session},
    soon,
};
use http::HeaderValue;
use tokio::net::TcpStream;
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_upgrade::client::{ErrorKind, Http1, Request, UpgradeLayer};

/// Each 101 breaks a rule for the response to this request.
const INVALID_RESPONSES: [(&str, &str); 14] = [
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
        "invalid `Upgrade`",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo chat\r\n\r\n",
    ),
    (
        "version other than HTTP/1.1",
        "HTTP/1.0 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    ),
];

#[tokio::test]
async fn k2_upgrade_to_another_protocol_is_an_error() {
    for (what, answer) in INVALID_RESPONSES {
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
