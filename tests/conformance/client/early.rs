//! K4, K5, K7: bytes before and after the response.

use super::{CONNECTED, SWITCH, assert_silent, http2, tunnel};
use crate::support::{
    Peer,
    clients::{Scripted, clients, expect_error, expect_rejected, expect_session},
    frames, soon, text,
};
use http_body_util::Full;
use tokio::net::TcpStream;
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_upgrade::client::{Error, ErrorKind, Http1, Http2, Request, Session, UpgradeLayer};

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
