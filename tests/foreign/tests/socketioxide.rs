//! socketioxide, by the text messages of Engine.IO and Socket.IO, and by the Socket.IO client of Python.

use axum::{Router, routing::get};
use socketioxide::{
    SocketIo,
    extract::{Data, SocketRef},
};
use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tower::Layer as _;
use tower_upgrade::{Sessions, UpgradeLayer};
use tower_upgrade_foreign::{
    Server, Starts, Step, Upgrader, boxed, checks, drain_example, exchange, within,
};

#[path = "../../../src/manual/govern/socketioxide.rs"]
mod example;

fn upgrader() -> Upgrader {
    let starts = Starts::default();
    let counted = starts.clone();
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", async move |socket: SocketRef| {
        counted.add();
        socket.on(
            "message",
            async |socket: SocketRef, Data::<String>(text)| {
                let _ = socket.emit("reply", &text);
            },
        );
    });
    let router = Router::new()
        .route("/", get(|| async { "page" }))
        .layer(layer);
    Upgrader {
        service: boxed(router),
        starts,
        path: "/socket.io/?EIO=4&transport=websocket",
        subprotocol: None,
        dialogue: &[
            Step::Expect("0{"),
            Step::Send("40"),
            Step::Expect("40{"),
            Step::Send(r#"42["message","hello"]"#),
            Step::Expect(r#"42["reply","hello"]"#),
        ],
    }
}

checks!(upgrader());

/// The transport begins as HTTP polling, which the layer passes on, and upgrades to a WebSocket.
#[tokio::test]
async fn a3_polling_transport_upgrades_to_websocket() {
    let upgrader = upgrader();
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(upgrader.service)).await;
    let request = |method: &str, sid: &str, body: &str| {
        format!(
            "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: test\r\n\
            Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let open = server.ask(request("GET", "", "")).await;
    let (_, rest) = open.split_once(r#""sid":""#).expect("an open packet");
    let (sid, _) = rest.split_once('"').expect("an id");
    let query = format!("&sid={sid}");
    let answer = server.ask(request("POST", &query, "40")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = server.ask(request("GET", &query, "")).await;
    assert!(answer.contains("40{"), "{answer}");
    assert!(sessions.is_empty());

    let path = format!("/socket.io/?EIO=4&transport=websocket{query}");
    let mut client = server.connect(&path, None).await.expect("a WebSocket");
    let steps = [
        Step::Send("2probe"),
        Step::Expect("3probe"),
        Step::Send("5"),
        Step::Send(r#"42["message","hello"]"#),
        Step::Expect(r#"42["reply","hello"]"#),
    ];
    exchange(&mut client, &steps).await;
    assert_eq!(upgrader.starts.get(), 1);
    assert_eq!(
        sessions.list()[0].protocol().expect("a protocol"),
        &"websocket"
    );
}

#[tokio::test]
async fn example_of_the_manual_is_governed() {
    let sessions = Sessions::new();
    let server = Server::start(example::app(&sessions)).await;
    let path = "/socket.io/?EIO=4&transport=websocket";
    let mut client = server.connect(path, None).await.expect("a WebSocket");
    let steps = [
        Step::Expect("0{"),
        Step::Send("40"),
        Step::Expect(r#"42["welcome","hello"]"#),
    ];
    exchange(&mut client, &steps).await;
    drain_example(&sessions, client).await;
}

/// Connects with the transports of the second argument, exchanges a message, and waits for the end of the connection.
const CLIENT: &str = r#"
import asyncio, sys, socketio

async def main(url, *transports):
    client = socketio.AsyncClient(reconnection=False)
    replied = asyncio.Event()

    @client.event
    async def reply(text):
        if client.transport() == "websocket":
            print(text, flush=True)
        replied.set()

    await client.connect(url, transports=list(transports))
    # The client upgrades while `connect` runs.
    await client.emit("message", "hello")
    await replied.wait()
    await client.wait()
    print("disconnected", flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

/// Debian's own Python finds the library from Debian's package.
const PYTHON: &str = "/usr/bin/python3";

async fn python_client(transports: &[&str]) {
    let found = Command::new(PYTHON)
        .args(["-c", "import aiohttp, socketio"])
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        // Tests capture `eprintln!` if they pass.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: Python's Socket.IO client is not installed: on Debian, \
            `apt-get install python3-socketio python3-aiohttp`"
        );
        return;
    }
    let upgrader = upgrader();
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(upgrader.service)).await;
    let mut client = tokio::process::Command::new(PYTHON)
        .args(["-c", CLIENT, &format!("http://{}", server.address)])
        .args(transports)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("Python starts");
    let mut lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let line = within(lines.next_line()).await.expect("readable output");
    assert_eq!(line.as_deref(), Some("hello"));
    assert_eq!((upgrader.starts.get(), sessions.list().len()), (1, 1));

    let report = within(sessions.drain(Duration::from_secs(20))).await;
    assert_eq!((report.ended, report.aborted, report.left), (1, 0, 0));
    let line = within(lines.next_line()).await.expect("readable output");
    assert_eq!(line.as_deref(), Some("disconnected"));
    assert!(within(client.wait()).await.expect("a child").success());
}

#[tokio::test]
async fn a3_python_client_with_websocket_only() {
    python_client(&["websocket"]).await;
}

#[tokio::test]
async fn a3_python_client_upgrades_from_polling() {
    python_client(&["polling", "websocket"]).await;
}
