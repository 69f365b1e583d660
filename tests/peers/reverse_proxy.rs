//! `examples/reverse_proxy.rs`, between programs that know nothing of it.

use crate::{
    example::{Example, program},
    support::{Peer, head, offer, soon},
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
async fn the_example_passes_on_what_the_echo_serves() {
    let echo = Example::start("echo", &[]).await;
    for args in [&[][..], &["--http2", "--protocol", "echo", "--forwarded"]] {
        let proxy = proxy(&echo.url, args).await;
        let mut peer: Peer<TcpStream> = proxy.connect().await;
        peer.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
        let (_, body) = peer.response().await;
        assert_eq!(body, "Try it with `Upgrade: echo`.\n");
        // What nobody passes on as an upgrade is passed on as what it is beside.
        let settings = "HTTP2-Settings: AAMAAABkAAQAAP__";
        peer.send(offer("h2c", &[settings])).await;
        let (head, body) = peer.response().await;
        head.assert_no_handshake();
        assert_eq!(body, "Try it with `Upgrade: echo`.\n");
        peer.send(offer("h2c, echo/2", &[]) + "early").await;
        peer.head().await.assert_switched("echo/2");
        assert_eq!(peer.exactly(5).await, b"early");
        peer.expect_echo(b"hello").await;
        peer.finish().await;
        peer.expect_end().await;
        proxy.stop("TERM").await;
    }
    echo.stop("TERM").await;
}

/// Without `Host` the backend would take it for a request to itself, and without `Cookie` for one of nobody.
#[tokio::test]
async fn the_example_lets_no_client_take_off_what_is_meant_for_the_backend() {
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
async fn the_example_passes_requests_of_curl_on() {
    let echo = Example::start("echo", &[]).await;
    let proxy = proxy(&echo.url, &["--tls"]).await;
    for version in ["--http1.1", "--http2"] {
        let mut curl = program("curl", "curl");
        curl.args(["--silent", "--insecure", version, &proxy.url]);
        let output = soon(curl.output()).await.expect("curl runs");
        assert_eq!(output.stdout, b"Try it with `Upgrade: echo`.\n");
    }
}

/// Python's library wants a key, and HTTP/2 has none.
#[tokio::test]
async fn the_example_passes_frames_of_websockets_on() {
    let mut server = program("/usr/bin/python3", "python3-websockets")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/peers/upcat/chat.py"
        ))
        .spawn()
        .expect("Python starts");
    let mut says = BufReader::new(server.stdout.take().expect("it is piped")).lines();
    let said = soon(says.next_line()).await.expect("its output");
    let url = said.expect("a line").replace("listening on ", "");
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
