//! Pings to the clients of governed WebSockets.

use crate::{
    support::{Peer, Server, soon, until, websocket::Frame},
    upgraders::{Count, WEBSOCKETS, handshake, websocket},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::Instant,
};
use tower::Layer as _;
use tower_upgrade::{Closed, Sessions, UpgradeLayer};

const INTERVAL: Duration = Duration::from_secs(10);
const PING: u8 = 9;
const PONG: u8 = 10;

struct Governed {
    server: Server,
    sessions: Sessions,
    reasons: mpsc::UnboundedReceiver<String>,
}

async fn start(upgrader: crate::matrix::Boxed) -> Governed {
    let sessions = Sessions::new();
    let (sender, reasons) = mpsc::unbounded_channel();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .on_close(move |closed: &Closed| {
            let _ = sender.send(closed.reason().to_string());
        })
        .govern()
        .govern_keep_alive(INTERVAL);
    let server = Server::start(layer.layer(upgrader)).await;
    Governed {
        server,
        sessions,
        reasons,
    }
}

impl Governed {
    async fn open(&self) -> Peer<TcpStream> {
        let mut peer = self.server.connect().await;
        peer.send(handshake(&[])).await;
        peer.head().await.assert_upgraded("websocket");
        peer
    }
}

/// Sends the bytes that it reads to a channel, at most `limit` at a time.
fn reading(limit: usize, read: mpsc::UnboundedSender<Vec<u8>>) -> crate::matrix::Boxed {
    websocket(move |io| {
        let read = read.clone();
        async move {
            let mut io = io;
            let mut bytes = vec![0; limit];
            while let Ok(length @ 1..) = io.read(&mut bytes).await {
                let _ = read.send(bytes[..length].to_vec());
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn silent_client_gets_a_ping_and_then_the_end() {
    for (name, upgrader) in WEBSOCKETS {
        let mut governed = start(upgrader(Count::default())).await;
        let mut peer = governed.open().await;
        let begin = Instant::now();
        assert_eq!(Frame::read(&mut peer).await.opcode(), PING, "{name}");
        assert_eq!(begin.elapsed(), INTERVAL, "{name}");
        let reason = soon(governed.reasons.recv()).await;
        assert_eq!(reason.as_deref(), Some("idle"), "{name}");
        assert_eq!(begin.elapsed(), 2 * INTERVAL, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_answers_pings_stays_connected() {
    for (name, upgrader) in WEBSOCKETS {
        let governed = start(upgrader(Count::default())).await;
        let mut peer = governed.open().await;
        for _ in 0..5 {
            let ping = Frame::read(&mut peer).await;
            assert_eq!(ping.opcode(), PING, "{name}");
            peer.send(Frame::new(PONG, &ping.payload).masked()).await;
        }
        peer.send(Frame::new(1, "hello").masked()).await;
        let echo = Frame::read(&mut peer).await;
        assert_eq!(echo.brief(), "1: \"hello\"", "{name}");
        assert_eq!(governed.sessions.len(), 1, "{name}");
    }
}

/// The pong between other frames, in pieces of any size, also beside pongs to pings of the upgrader.
#[tokio::test(start_paused = true)]
async fn upgrader_does_not_read_the_pong() {
    for limit in [1, 3, 4096] {
        for split in 1..20 {
            let (sender, mut read) = mpsc::unbounded_channel();
            let governed = start(reading(limit, sender)).await;
            let mut peer = governed.open().await;
            let ping = Frame::read(&mut peer).await;
            let mut other = ping.payload.clone();
            other[3] ^= 1;
            let before = [
                Frame::new(PONG, &other).masked(),
                Frame::new(1, "before").masked(),
                // Shorter than the pong, so that one read returns parts of both.
                Frame::new(PONG, "").masked(),
            ]
            .concat();
            let pong = Frame::new(PONG, &ping.payload).masked();
            // A second pong is not an answer to a ping of this crate.
            let after = [Frame::new(1, "after").masked(), pong.clone()].concat();
            let sent = [&before[..], &pong, &after].concat();
            let list = governed.sessions.list();
            let mut at = 0;
            for part in sent.chunks(split) {
                peer.send(part).await;
                at += part.len() as u64;
                until(|| list[0].bytes_read() == at).await;
            }
            peer.finish().await;
            let mut bytes = Vec::new();
            while let Some(part) = soon(read.recv()).await {
                bytes.extend(part);
                if bytes.len() >= before.len() + after.len() {
                    break;
                }
            }
            assert_eq!(bytes, [before, after].concat(), "{limit} {split}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn incomplete_pong_is_read_before_the_end() {
    let (sender, mut read) = mpsc::unbounded_channel();
    let governed = start(reading(4096, sender)).await;
    let mut peer = governed.open().await;
    let ping = Frame::read(&mut peer).await;
    let pong = Frame::new(PONG, &ping.payload).masked();
    peer.send(&pong[..7]).await;
    peer.finish().await;
    assert_eq!(soon(read.recv()).await.as_deref(), Some(&pong[..7]));
}

#[tokio::test(start_paused = true)]
async fn no_ping_is_put_into_a_frame_of_the_upgrader() {
    let half = websocket(|io| async move {
        let mut io = io;
        let _ = io.write_all(b"\x81\x05hel").await;
        let _ = io.read_u8().await;
        let _ = io.write_all(b"lo").await;
        let _ = io.read_u8().await;
    });
    let mut governed = start(half).await;
    let mut peer = governed.open().await;
    assert_eq!(peer.exactly(5).await, b"\x81\x05hel");
    tokio::time::sleep(INTERVAL + INTERVAL / 2).await;
    peer.send("x").await;
    assert_eq!(peer.exactly(2).await, b"lo");
    assert_eq!(Frame::read(&mut peer).await.opcode(), PING);
    let reason = soon(governed.reasons.recv()).await;
    assert_eq!(reason.as_deref(), Some("idle"));
}

#[tokio::test(start_paused = true)]
async fn stop_signal_after_a_ping_closes_with_1001() {
    for (name, upgrader) in WEBSOCKETS {
        let governed = start(upgrader(Count::default())).await;
        let mut peer = governed.open().await;
        let ping = Frame::read(&mut peer).await;
        // The rest of the pong does not come.
        let pong = Frame::new(PONG, &ping.payload).masked();
        peer.send(&pong[..8]).await;
        let list = governed.sessions.list();
        until(|| list[0].bytes_read() == 8).await;
        assert!(governed.sessions.close(list[0].id(), INTERVAL));
        let close = Frame::read(&mut peer).await;
        assert_eq!(close.opcode(), 8, "{name}");
        assert_eq!(close.payload[..2], [0x03, 0xe9], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn upgrader_that_ignores_the_end_of_a_silent_client_is_idle() {
    let deaf = websocket(|io| async move {
        let mut io = io;
        loop {
            let _ = io.read_u8().await;
            tokio::task::yield_now().await;
        }
    });
    let mut governed = start(deaf).await;
    let mut peer = governed.open().await;
    assert_eq!(Frame::read(&mut peer).await.opcode(), PING);
    let reason = soon(governed.reasons.recv()).await;
    assert_eq!(reason.as_deref(), Some("idle"));
}

#[test]
#[should_panic(expected = "the interval is zero")]
fn keep_alive_of_zero_panics() {
    let _ = UpgradeLayer::new().govern_keep_alive(Duration::ZERO);
}
