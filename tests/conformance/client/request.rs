//! K1: the request on the wire.

use super::{CONNECTED, SWITCH, http2, tunnel};
use crate::support::{
    Peer,
    clients::{Scripted, clients, expect_error, expect_session},
    frames, soon,
};
use http::{HeaderValue, Version};
use http_body_util::Full;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_upgrade::{
    UpgradeKind,
    client::{ErrorKind, Http1, Http2, Request, UpgradeLayer},
};

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
