//! A5: a governed WebSocket ends with a close frame.

use crate::{
    support::{Peer, Server, until, websocket::Frame},
    upgraders::{Count, WEBSOCKETS, handshake},
};
use std::time::Duration;
use tokio::net::TcpStream;
use tower::Layer as _;
use tower_upgrade::{DrainReport, Sessions, UpgradeLayer};

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
        assert_eq!(close.payload[..2], [0x03, 0xe9], "{name}");
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
            tokio::time::sleep(Duration::from_millis(10)).await;
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
                (8, &[0x03, 0xe9][..]),
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
