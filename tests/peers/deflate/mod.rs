//! W7: permessage-deflate with the implementations of others, whose streams continue as long as the connection: zlib in
//! Node's library `ws` and in Python's library websockets.

use crate::{
    process::{Script, program},
    support::{Server, plain, soon, text},
};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::{process::Command, sync::mpsc};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Session, UpgradeLayer,
    client::{self, Dial},
    websocket::{
        CloseFrame, Deflate, Message, WebSocket, WebSocketConfig, WebSocketRequest, websocket,
    },
};

/// Compresses all messages, with context takeover.
fn takeover() -> Deflate {
    Deflate::new().min_size(0).context_takeover(usize::MAX)
}

fn script(command: &mut Command, name: &str) {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/deflate/");
    command.arg(format!("{directory}{name}"));
}

fn node(name: &str) -> Command {
    let mut node = program("node", "nodejs node-ws");
    node.env("NODE_PATH", "/usr/share/nodejs");
    script(&mut node, name);
    node
}

/// Runs a client against an echo, which accepts messages of 1 MiB. Returns the client's output, and the numbers of
/// bytes that the server has read and written.
async fn echo(deflate: Deflate, mut client: Command, args: &[&str]) -> (String, u64, u64) {
    let echo = websocket(|mut socket: WebSocket, session: Session| async move {
        drop(session);
        while let Some(message) = socket.recv().await {
            if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
                socket.send(message).await?;
            }
        }
        Ok(())
    });
    let echo = echo.config(WebSocketConfig::new().deflate(deflate));
    let (report, mut closed) = mpsc::unbounded_channel();
    let layer = UpgradeLayer::new()
        .on_close(move |closed| {
            let _ = report.send((closed.bytes_read(), closed.bytes_written()));
        })
        .protocol("websocket", echo);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    client.arg(format!("ws://{}/", server.address)).args(args);
    let output = soon(client.output()).await.expect("the client runs");
    let stdout = text(&output.stdout);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    let (read, written) = soon(closed.recv()).await.expect("a session");
    (stdout, read, written)
}

/// The messages have 840,000 bytes, of which 140,000 are random. With context takeover the second random message is as
/// long as the first one, because 70,000 bytes are more than a window.
#[track_caller]
fn expect_compressed(sent: u64) {
    assert!((140_000..250_000).contains(&sent), "{sent}");
}

#[tokio::test]
async fn w7_node_client_exchanges_compressed_messages() {
    let both = r#""server_no_context_takeover":true,"client_no_context_takeover":true"#;
    for (deflate, options, agreed) in [
        (Deflate::new(), "{}", format!("{{{both}}}")),
        (takeover(), "{}", "{}".into()),
        (
            takeover(),
            r#"{"serverNoContextTakeover": true}"#,
            r#"{"server_no_context_takeover":true}"#.into(),
        ),
        (
            takeover(),
            r#"{"clientNoContextTakeover": true}"#,
            r#"{"client_no_context_takeover":true}"#.into(),
        ),
        (
            takeover(),
            r#"{"serverMaxWindowBits": 9, "clientMaxWindowBits": 10}"#,
            r#"{"server_max_window_bits":9,"client_max_window_bits":10}"#.into(),
        ),
        (
            takeover().level(9).window_bits(9),
            "{}",
            r#"{"client_max_window_bits":9}"#.into(),
        ),
    ] {
        let (output, read, written) = echo(deflate, node("client.js"), &[options]).await;
        assert_eq!(output, format!("permessage-deflate\n{agreed}\n"));
        expect_compressed(read);
        expect_compressed(written);
    }
}

#[tokio::test]
async fn w7_python_client_exchanges_compressed_messages() {
    for (deflate, parameters) in [
        (Deflate::new(), &[][..]),
        (takeover(), &[]),
        (takeover(), &["server_no_context_takeover=1"]),
        (takeover(), &["client_no_context_takeover=1"]),
        (
            takeover().window_bits(10),
            &["server_max_window_bits=9", "client_max_window_bits=1"],
        ),
    ] {
        let mut python = program("/usr/bin/python3", "python3-websockets");
        script(&mut python, "client.py");
        let (output, read, written) = echo(deflate, python, parameters).await;
        assert!(output.starts_with("PerMessageDeflate("), "{output}");
        expect_compressed(read);
        expect_compressed(written);
    }
}

#[tokio::test]
async fn w7_client_exchanges_compressed_messages_with_node_server() {
    for (deflate, options) in [
        (Deflate::new().min_size(0), "{}"),
        (takeover(), "{}"),
        (takeover(), r#"{"serverNoContextTakeover": true}"#),
        (takeover(), r#"{"clientNoContextTakeover": true}"#),
        (
            takeover(),
            r#"{"serverMaxWindowBits": 10, "clientMaxWindowBits": 9}"#,
        ),
        (takeover().window_bits(9), "{}"),
    ] {
        let server = Script::start(node("server.js").arg(options)).await;
        let uri = server.url.replace("http:", "ws:");
        let request = WebSocketRequest::new(uri.parse().expect("a URI"))
            .config(WebSocketConfig::new().deflate(deflate));
        let client = client::UpgradeLayer::new().layer(Dial::new(HttpConnector::new()));
        let (mut socket, response) = soon(request.connect(client)).await.expect("a socket");
        let agreed = &response.headers["sec-websocket-extensions"];
        assert!(agreed.as_bytes().starts_with(b"permessage-deflate"));
        let noise: Vec<_> = (0..70_000).map(|_| rand::random::<u8>()).collect();
        for number in 0..50_usize {
            let message = match number % 5 {
                0 => Message::binary(noise.clone()),
                1 => Message::text(""),
                2 => Message::text(format!("number {number} of many messages")),
                3 => Message::text("some text ".repeat(number)),
                _ => Message::text("some text ".repeat(1000 * number)),
            };
            let sent = soon(socket.send(message.clone())).await;
            sent.expect("a socket");
            let echo = soon(socket.recv()).await.expect("one").expect("a message");
            assert!(echo == message, "{options}: {number}");
        }
        let closed = soon(socket.close(CloseFrame::new(1000, "bye"))).await;
        closed.expect("an orderly end");
    }
}
