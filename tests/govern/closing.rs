//! A5: a governed WebSocket ends with a close frame.

use crate::{
    support::{Peer, Server, until, websocket::Frame},
    upgraders::{Count, WEBSOCKETS, handshake},
};
use std::time::Duration;
use tokio::net::TcpStream;
use tower::Layer as _;
use tower_upgrade::{DrainReport, Sessions, UpgradeLayer};

/// 1001, as the first bytes of a close frame's payload.
const GOING_AWAY: &[u8] = &[0x03, 0xe9];

async fn open(server: &Server) -> Peer<TcpStream> {
    let mut peer = server.connect().await;
    peer.send(handshake(&[])).await;
    peer.head().await.assert_upgraded("websocket");
    peer
}

async fn drain(sessions: Sessions) -> DrainReport {
    sessions.drain(Duration::from_secs(20)).await
}

#[tokio::test]
async fn a5_drain_closes_idle_websockets_with_1001() {
    for (name, upgrader) in WEBSOCKETS {
        let sessions = Sessions::new();
        let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
        let server = Server::start(layer.layer(upgrader(Count::default()))).await;
        let mut peer = open(&server).await;
        peer.send(Frame::new(1, "hello").masked()).await;
        assert_eq!(
            Frame::read(&mut peer).await.brief(),
            "1: \"hello\"",
            "{name}"
        );
        let drained = tokio::spawn(drain(sessions.clone()));
        let close = Frame::read(&mut peer).await;
        assert_eq!(close.opcode(), 8, "{name}");
        assert_eq!(close.payload[..2], *GOING_AWAY, "{name}");
        // The upgrader does not see bytes behind the close frame.
        peer.send(Frame::new(1, "late").masked()).await;
        peer.finish().await;
        assert_eq!(peer.rest().await.expect("an orderly end"), b"", "{name}");
        let report = drained.await.expect("no panic");
        assert_eq!((report.aborted, report.left), (0, 0), "{name}: {report}");
    }
}

#[tokio::test]
async fn a5_drain_in_the_middle_of_a_frame_waits_for_its_end() {
    for (name, upgrader) in WEBSOCKETS {
        let sessions = Sessions::new();
        let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
        let server = Server::start(layer.layer(upgrader(Count::default()))).await;
        for split in [1, 2, 5, 9, 500] {
            let mut peer = open(&server).await;
            let frame = Frame::new(1, "x".repeat(1000)).masked();
            peer.send(&frame[..split]).await;
            let list = sessions.list();
            until(|| list[0].bytes_read() >= split as u64).await;
            assert!(sessions.close(list[0].id(), Duration::from_secs(20)));
            // The upgrader must not end before the rest of the frame arrives.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            // Two messages: the second is behind the boundary.
            peer.send([&frame[split..], &frame].concat()).await;
            assert_eq!(
                Frame::read(&mut peer).await.brief(),
                "1: 1000 bytes",
                "{name}"
            );
            let close = Frame::read(&mut peer).await;
            assert_eq!(
                (close.opcode(), &close.payload[..2]),
                (8, GOING_AWAY),
                "{name}"
            );
            peer.finish().await;
            assert_eq!(peer.rest().await.expect("an orderly end"), b"", "{name}");
            until(|| sessions.is_empty()).await;
        }
    }
}

#[tokio::test]
async fn a5_websocket_that_the_client_has_closed_gets_one_close_frame() {
    for (name, upgrader) in WEBSOCKETS {
        let sessions = Sessions::new();
        let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
        let server = Server::start(layer.layer(upgrader(Count::default()))).await;
        let mut peer = open(&server).await;
        peer.send(Frame::close(1000, "bye").masked()).await;
        let close = Frame::read(&mut peer).await;
        assert_eq!(
            (close.opcode(), &close.payload[..2]),
            (8, &[0x03, 0xe8][..]),
            "{name}"
        );
        peer.finish().await;
        assert_eq!(peer.rest().await.expect("an orderly end"), b"", "{name}");
        let report = drain(sessions).await;
        assert_eq!((report.aborted, report.left), (0, 0), "{name}: {report}");
    }
}

#[tokio::test]
async fn a5_message_that_is_being_sent_is_complete_before_the_close_frame() {
    for (name, upgrader) in WEBSOCKETS {
        let sessions = Sessions::new();
        let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
        let server = Server::start(layer.layer(upgrader(Count::default()))).await;
        let mut peer = open(&server).await;
        // Below the limits of all libraries.
        let frame = Frame::new(1, "x".repeat(900_000)).masked();
        let list = sessions.list();
        peer.send(&frame).await;
        until(|| list[0].bytes_written() > 0).await;
        assert!(sessions.close(list[0].id(), Duration::from_secs(20)));
        let echo = Frame::read(&mut peer).await;
        assert_eq!(echo.brief(), "1: 900000 bytes", "{name}");
        let close = Frame::read(&mut peer).await;
        assert_eq!(
            (close.opcode(), &close.payload[..2]),
            (8, GOING_AWAY),
            "{name}"
        );
        peer.finish().await;
        assert_eq!(peer.rest().await.expect("an orderly end"), b"", "{name}");
        until(|| sessions.is_empty()).await;
    }
}

#[tokio::test]
async fn a5_close_frame_comes_between_two_fragments() {
    for (name, upgrader) in WEBSOCKETS {
        let sessions = Sessions::new();
        let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
        let server = Server::start(layer.layer(upgrader(Count::default()))).await;
        let mut peer = open(&server).await;
        peer.send(Frame::part(1, "half of a message").masked())
            .await;
        let list = sessions.list();
        until(|| list[0].bytes_read() > 0).await;
        assert!(sessions.close(list[0].id(), Duration::from_secs(20)));
        let close = Frame::read(&mut peer).await;
        assert_eq!(
            (close.opcode(), &close.payload[..2]),
            (8, GOING_AWAY),
            "{name}"
        );
        peer.finish().await;
        assert_eq!(peer.rest().await.expect("an orderly end"), b"", "{name}");
    }
}

/// Drops its IO after the first byte, without a close frame.
fn rude(_count: Count) -> crate::matrix::Boxed {
    crate::upgraders::websocket(|io| async move {
        let mut io = io;
        let _ = tokio::io::AsyncReadExt::read_u8(&mut io).await;
    })
}

#[tokio::test]
async fn a5_session_sends_the_close_frame_that_the_upgrader_does_not_send() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let server = Server::start(layer.layer(rude(Count::default()))).await;
    let mut peer = open(&server).await;
    let drained = tokio::spawn(drain(sessions.clone()));
    assert_eq!(peer.exactly(4).await, [0x88, 2, 0x03, 0xe9]);
    peer.finish().await;
    assert_eq!(peer.rest().await.expect("an orderly end"), b"");
    let report = drained.await.expect("no panic");
    assert_eq!((report.aborted, report.left), (0, 0), "{report}");

    // Without a stop signal, the end of the upgrader is passed on unchanged.
    let server = Server::start(UpgradeLayer::new().govern().layer(rude(Count::default()))).await;
    let mut peer = open(&server).await;
    peer.send(Frame::new(1, "x").masked()).await;
    peer.finish().await;
    assert_eq!(peer.rest().await.expect("an orderly end"), b"");
}

#[tokio::test]
async fn a5_no_close_frame_is_put_into_a_frame_of_the_upgrader() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    // Writes the header and a part of a frame, and leaves.
    let half = crate::upgraders::websocket(|io| async move {
        let mut io = io;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut io, b"\x81\x05hel").await;
        let _ = tokio::io::AsyncReadExt::read_u8(&mut io).await;
    });
    let server = Server::start(layer.layer(half)).await;
    let mut peer = open(&server).await;
    assert_eq!(peer.exactly(5).await, b"\x81\x05hel");
    let drained = tokio::spawn(drain(sessions.clone()));
    peer.finish().await;
    assert_eq!(peer.rest().await.expect("an orderly end"), b"");
    drained.await.expect("no panic");
}

#[tokio::test]
async fn a5_upgrader_reads_no_second_close_frame_behind_the_clients() {
    let (sender, mut read) = tokio::sync::mpsc::unbounded_channel();
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let inner = crate::upgraders::websocket(move |io| {
        let sender = sender.clone();
        async move {
            let (mut io, mut bytes) = (io, Vec::new());
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut io, &mut bytes).await;
            let _ = sender.send(bytes);
        }
    });
    let server = Server::start(layer.layer(inner)).await;
    let mut peer = open(&server).await;
    let close = Frame::close(1000, "").masked();
    peer.send(&close).await;
    let list = sessions.list();
    until(|| list[0].bytes_read() == close.len() as u64).await;
    assert!(sessions.close(list[0].id(), Duration::from_secs(20)));
    assert_eq!(read.recv().await.expect("the bytes"), close);
    // The upgrader has not answered, so the session does, with the client's code.
    assert_eq!(peer.exactly(4).await, [0x88, 2, 0x03, 0xe8]);
}

/// axum's usual loop ends in this way: its `send` of the client's close frame fails.
#[tokio::test]
async fn a5_session_answers_the_clients_close_frame_if_the_upgrader_does_not() {
    for (close, answer) in [
        (Frame::close(1000, "bye"), &[0x88, 2, 0x03, 0xe8][..]),
        (Frame::close(4321, ""), &[0x88, 2, 0x10, 0xe1]),
        (Frame::new(8, ""), &[0x88, 0]),
    ] {
        let server = Server::start(UpgradeLayer::new().govern().layer(deaf(1))).await;
        let mut peer = open(&server).await;
        let close = close.masked();
        let (header, payload) = close.split_at(close.len().min(7));
        peer.send(header).await;
        peer.send(payload).await;
        peer.finish().await;
        assert_eq!(peer.rest().await.expect("an orderly end"), answer);
    }
}

/// Reads to the end of stream this many times, and answers nothing.
fn deaf(reads: usize) -> crate::matrix::Boxed {
    crate::upgraders::websocket(move |io| async move {
        let mut io = io;
        for _ in 0..reads {
            let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
            tokio::task::yield_now().await;
        }
    })
}

#[tokio::test]
async fn a5_idle_websocket_is_closed_with_1001() {
    let layer = UpgradeLayer::new().idle_timeout(Duration::from_millis(50));
    for (name, upgrader) in WEBSOCKETS {
        let server = Server::start(layer.clone().govern().layer(upgrader(Count::default()))).await;
        let mut peer = open(&server).await;
        assert_eq!(peer.exactly(4).await, [0x88, 2, 0x03, 0xe9], "{name}");
        peer.finish().await;
        assert_eq!(peer.rest().await.expect("an orderly end"), b"", "{name}");
    }
}

#[tokio::test]
async fn a5_websocket_whose_upgrader_does_not_end_is_closed_with_1001() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    // Ignores the close frame and the end of stream behind it.
    let server = Server::start(layer.layer(deaf(usize::MAX))).await;
    let mut peer = open(&server).await;
    let report = sessions.drain(Duration::from_millis(50)).await;
    assert_eq!((report.aborted, report.left), (1, 0), "{report}");
    assert_eq!(peer.exactly(4).await, [0x88, 2, 0x03, 0xe9]);
}

/// An application that watches the same shutdown signal drops its WebSocket at the moment of the stop signal.
#[tokio::test]
async fn a5_upgrader_that_drops_its_io_with_the_stop_signal_gets_a_close_frame() {
    let shutdown = std::sync::Arc::new(tokio::sync::Notify::new());
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let inner = crate::upgraders::websocket({
        let shutdown = std::sync::Arc::clone(&shutdown);
        move |io| {
            let shutdown = std::sync::Arc::clone(&shutdown);
            async move {
                shutdown.notified().await;
                drop(io);
            }
        }
    });
    let server = Server::start(layer.layer(inner)).await;
    let mut peer = open(&server).await;
    // Until the upgrader waits.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    // The upgrader runs before the session, which then sees both at once.
    shutdown.notify_waiters();
    let id = sessions.list()[0].id();
    assert!(sessions.close(id, Duration::from_secs(20)));
    assert_eq!(peer.exactly(4).await, [0x88, 2, 0x03, 0xe9]);
}
