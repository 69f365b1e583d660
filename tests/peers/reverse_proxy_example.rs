//! `examples/reverse_proxy.rs` between other programs and raw peers.

use crate::{
    process::{Example, program},
    support::{Peer, clients::Scripted, head, offer, soon},
};
use futures_util::StreamExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};
use tower::Layer as _;
use tower_upgrade::{
    client::{Dial, UpgradeLayer},
    websocket::{CloseFrame, Message, WebSocketRequest},
};

async fn proxy(backend: &str, args: &[&str]) -> Example {
    let args = [&["--backend", backend], args].concat();
    Example::start_with("reverse_proxy", &["tunnel"], &args).await
}

#[tokio::test]
async fn example_forwards_plain_requests_and_upgrades() {
    let echo = Example::start("echo", &[]).await;
    for args in [&[][..], &["--http2", "--protocol", "echo", "--forwarded"]] {
        let proxy = proxy(&echo.url, args).await;
        let mut peer: Peer<TcpStream> = proxy.connect().await;
        peer.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
        let (_, body) = peer.response().await;
        assert_eq!(body, "Try it with `Upgrade: echo`.\n");
        // An offer of h2c is forwarded as a plain request.
        let settings = "HTTP2-Settings: AAMAAABkAAQAAP__";
        peer.send(offer("h2c", &[settings])).await;
        let (head, body) = peer.response().await;
        head.assert_no_handshake();
        assert_eq!(body, "Try it with `Upgrade: echo`.\n");
        peer.send(offer("h2c, echo/2", &[]) + "early").await;
        peer.head().await.assert_upgraded("echo/2");
        assert_eq!(peer.exactly(5).await, b"early");
        peer.expect_echo(b"hello").await;
        peer.finish().await;
        peer.expect_end().await;
        proxy.stop("TERM").await;
    }
    echo.stop("TERM").await;
}

/// Without `Host` the backend would treat the request as one to itself, and without `Cookie` as anonymous.
#[tokio::test]
async fn example_refuses_connection_options_of_end_to_end_fields() {
    let echo = Example::start("echo", &[]).await;
    let proxy = proxy(&echo.url, &[]).await;
    for name in ["Host", "cookie", "Sec-Fetch-Site"] {
        let mut peer: Peer<TcpStream> = proxy.connect().await;
        let connection = format!("Connection: keep-alive, {name}");
        peer.send(head(&["GET / HTTP/1.1", "Host: test", &connection]))
            .await;
        let (head, _) = peer.response().await;
        assert_eq!(head.status, 400, "{name}");
    }
}

#[tokio::test]
async fn example_forwards_curl_requests() {
    let echo = Example::start("echo", &[]).await;
    let proxy = proxy(&echo.url, &["--tls"]).await;
    for version in ["--http1.1", "--http2"] {
        let mut curl = program("curl", "curl");
        curl.args(["--silent", "--insecure", version, &proxy.url]);
        let output = soon(curl.output()).await.expect("curl runs");
        assert_eq!(output.stdout, b"Try it with `Upgrade: echo`.\n");
    }
}

/// Python's library requires a WebSocket key, which HTTP/2 requests do not have.
#[tokio::test]
async fn example_forwards_websocket_frames() {
    let mut server = program("/usr/bin/python3", "python3-websockets")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/peers/upcat/chat.py"
        ))
        .spawn()
        .expect("Python starts");
    let mut stdout = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    let line = soon(stdout.next_line()).await.expect("readable output");
    let url = line.expect("a line").replace("listening on ", "");
    let proxy = proxy(&url, &["--x-forwarded"]).await;
    let dial = Dial::new(HttpConnector::new());
    for dial in [dial.clone(), dial.http2_only()] {
        let client = UpgradeLayer::new().layer(dial);
        let request = WebSocketRequest::new(proxy.url.parse().expect("a URI"));
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
}

// ---- Plain requests ------------------------------------------------------------------------------

/// Sends a request. Returns the sorted lines that the backend receives, and both connections.
async fn forward(
    proxy: &Example,
    backend: &Scripted,
    request: &str,
) -> (Vec<String>, Peer<TcpStream>, Peer<TcpStream>) {
    let mut peer = proxy.connect().await;
    peer.send(request).await;
    let mut at_backend = backend.accept().await;
    let head = at_backend.request_head().await.to_ascii_lowercase();
    let mut lines: Vec<_> = head.trim_end().split("\r\n").map(str::to_owned).collect();
    lines.sort_unstable();
    (lines, peer, at_backend)
}

const UNTRUSTED_REQUEST: &[&str] = &[
    "GET /path?query HTTP/1.1",
    "Host: test",
    "Connection: x-hop",
    "X-Hop: 1",
    "TE: trailers",
    "Keep-Alive: timeout=5",
    "Proxy-Authorization: Basic secret",
    "Via: 1.0 first",
    "Via: 1.1 second",
    "Forwarded: for=10.0.0.1",
    "X-Forwarded-For: 10.0.0.1",
    "X_Forwarded_For: 10.0.0.1",
    "X-Forwarded-Anything: 1",
    "X-Kept: 1",
];

#[tokio::test]
async fn example_rewrites_plain_requests_like_upgrades() {
    let backend = Scripted::start().await;
    let url = backend.uri("").to_string();
    let common = [
        "get /path?query http/1.1",
        "connection: te",
        "host: test",
        "te: trailers",
        "via: 1.0 first, 1.1 second, 1.1 tower-upgrade",
        "x-kept: 1",
    ];
    for (args, forwarding) in [
        (&[][..], &[][..]),
        (
            &["--forwarded"],
            &["forwarded: for=127.0.0.1;host=test;proto=http"],
        ),
        (
            &["--x-forwarded"],
            &[
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: test",
                "x-forwarded-proto: http",
            ],
        ),
    ] {
        let proxy = proxy(&url, args).await;
        let mut expected = [&common[..], forwarding].concat();
        expected.sort_unstable();
        let (lines, mut peer, mut at_backend) =
            forward(&proxy, &backend, &head(UNTRUSTED_REQUEST)).await;
        assert_eq!(lines, expected, "{args:?}");
        let answer = head(&[
            "HTTP/1.1 200 OK",
            "Connection: x-hop",
            "X-Hop: 1",
            "Proxy-Authenticate: Basic",
            "Via: 1.0 origin",
            "X-Kept: 1",
            "Content-Length: 2",
        ]);
        at_backend.send(answer + "ok").await;
        let (head, body) = peer.response().await;
        assert_eq!((head.status, body.as_str()), (200, "ok"));
        assert_eq!(head.names(), ["content-length", "via", "x-kept"]);
        assert_eq!(
            head.get("via").as_deref(),
            Some("1.0 origin, 1.1 tower-upgrade")
        );

        // An offer that is not forwarded as an upgrade is rewritten in the same way.
        let h2c = h2c_offer();
        drop((peer, at_backend));
        let (lines, ..) = forward(&proxy, &backend, &h2c).await;
        let via = "via: 1.1 tower-upgrade".to_owned();
        assert!(lines.contains(&via), "{lines:?}");
        let is_upgrade = |line: &String| line.starts_with("upgrade") || line.starts_with("http2-");
        assert!(!lines.iter().any(is_upgrade), "{lines:?}");
        proxy.stop("TERM").await;
    }
}

fn h2c_offer() -> String {
    offer("h2c", &["HTTP2-Settings: AAMAAABkAAQAAP__"])
}

/// RFC 9110 §15.2.2: the client has not asked for an upgrade, and the bytes after the 101 are not HTTP.
#[tokio::test]
async fn example_turns_an_unsolicited_101_into_502() {
    let backend = Scripted::start().await;
    let proxy = proxy(&backend.uri("").to_string(), &[]).await;
    for request in [head(&["GET / HTTP/1.1", "Host: test"]), h2c_offer()] {
        let (_, mut peer, mut at_backend) = forward(&proxy, &backend, &request).await;
        let upgrade_response =
            "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nbehind";
        at_backend.send(upgrade_response).await;
        let (answer, body) = peer.response().await;
        answer.assert_no_handshake();
        assert_eq!(answer.status, 502);
        assert_eq!(
            body,
            "the backend answered 101 to a request without `Upgrade`"
        );
        assert!(at_backend.rest().await.is_ok_and(|rest| rest.is_empty()));
        // The client connection stays open.
        peer.send(head(&["GET /next HTTP/1.1", "Host: test"])).await;
        let mut at_backend = backend.accept().await;
        at_backend.request_head().await;
        at_backend.send("HTTP/1.1 204 No\r\n\r\n").await;
        assert_eq!(peer.head().await.status, 204);
    }
}

#[tokio::test]
async fn example_refuses_requests_without_one_valid_host() {
    let echo = Example::start("echo", &[]).await;
    let proxy = proxy(&echo.url, &[]).await;
    for host in ["X: y", "Host: a\r\nHost: b", "Host: ann@test"] {
        let mut peer = proxy.connect().await;
        peer.send(head(&["GET / HTTP/1.1", host])).await;
        assert_eq!(peer.response().await.0.status, 400, "{host}");
    }
}

#[tokio::test]
async fn example_streams_bodies_of_plain_requests() {
    let backend = Scripted::start().await;
    let proxy = proxy(&backend.uri("").to_string(), &[]).await;
    let request = head(&[
        "POST / HTTP/1.1",
        "Host: test",
        "Expect: 100-continue",
        "Transfer-Encoding: chunked",
    ]);
    let (lines, mut peer, mut at_backend) = forward(&proxy, &backend, &request).await;
    assert!(
        lines.contains(&"transfer-encoding: chunked".to_owned()),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("expect")),
        "{lines:?}"
    );
    assert_eq!(peer.head().await.status, 100);
    peer.send("4\r\nping\r\n").await;
    assert_eq!(at_backend.exactly(9).await, b"4\r\nping\r\n");
    // The response begins before the request has ended.
    at_backend
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n")
        .await;
    assert_eq!(peer.head().await.status, 200);
    assert_eq!(peer.exactly(9).await, b"4\r\npong\r\n");
    peer.send("0\r\n\r\n").await;
    assert_eq!(at_backend.exactly(5).await, b"0\r\n\r\n");
    at_backend.send("0\r\n\r\n").await;
    assert_eq!(peer.exactly(5).await, b"0\r\n\r\n");
}
