//! The example `govern`: axum's own WebSocket route, with Python's websockets library as the client.

use crate::{
    process::{Example, program},
    support::soon,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const CLIENT: &str = r#"
import asyncio, sys, websockets

async def main(uri):
    async with websockets.connect(uri + "/echo") as socket:
        await socket.send("hello")
        print(await socket.recv(), flush=True)
        try:
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            print(closed.rcvd.code, flush=True)

asyncio.run(main(sys.argv[1]))
"#;

#[tokio::test]
async fn sigterm_closes_python_client_of_axum_websocket_with_1001() {
    let server = Example::start("govern", &[]).await;
    let mut client = program("/usr/bin/python3", "python3-websockets")
        .args(["-c", CLIENT, &format!("ws://{}", server.address())])
        .spawn()
        .expect("Python starts");
    let mut stdout = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let line = soon(stdout.next_line()).await.expect("readable output");
    assert_eq!(line.as_deref(), Some("hello"));

    let mut peer = server.connect().await;
    peer.send("GET /sessions HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .await;
    let (_, list) = peer.response().await;
    assert_eq!(list.lines().count(), 1, "{list}");
    assert!(list.contains(" 7 written"), "{list}");

    server.signal("TERM").await;
    let line = soon(stdout.next_line()).await.expect("readable output");
    assert_eq!(line.as_deref(), Some("1001"));
    assert!(soon(client.wait()).await.expect("a child").success());
    let (stdout, stderr) = server.ended().await;
    assert!(
        stdout.ends_with(" 0 aborted, 0 left\n"),
        "{stdout} {stderr}"
    );
}
