//! A5: both ends of a relayed WebSocket receive a close frame at the stop signal.

use crate::{
    chain::{proxy, send_through, serve, upgrade_response},
    support::{
        Peer, Server, Via,
        clients::Scripted,
        h2::{Client, extended_connect},
        offer, soon, until,
        websocket::{Frame, TEXT},
    },
};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower_upgrade::{Sessions, UpgradeLayer};

const FROM_SERVER: &[u8] = &[0x88, 2, 0x03, 0xe9];
const FROM_CLIENT: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];
const DEADLINE: Duration = Duration::from_secs(20);

struct Chain {
    backend: Scripted,
    front: Server,
    sessions: Sessions,
}

impl Chain {
    async fn start(layer: UpgradeLayer) -> Self {
        let backend = Scripted::start().await;
        let sessions = Sessions::new();
        let layer = layer
            .sessions(sessions.clone())
            .any_protocol(proxy(Via::Http1, backend.address));
        let front = serve(layer).await;
        Self {
            backend,
            front,
            sessions,
        }
    }

    /// Opens a WebSocket. Returns the connections of the client and of the backend.
    async fn open(&self) -> (Peer<TcpStream>, Peer<TcpStream>) {
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let request = offer("websocket", &[key, "Sec-WebSocket-Version: 13"]);
        let (_, mut client, mut at_backend) =
            send_through(&self.front, &self.backend, &request).await;
        let answer = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        at_backend
            .send(upgrade_response("websocket", &[answer]))
            .await;
        client.head().await.assert_upgraded("websocket");
        (client, at_backend)
    }

    /// Sends the stop signal to all sessions.
    fn stop(&self) {
        for session in self.sessions.list() {
            assert!(self.sessions.close(session.id(), DEADLINE));
        }
    }

    async fn until_moved(&self, read: usize, written: usize) {
        let list = self.sessions.list();
        let moved = || (list[0].bytes_read(), list[0].bytes_written());
        until(|| moved() == (read as u64, written as u64)).await;
    }
}

async fn assert_ends(mut peer: Peer<TcpStream>, close: &[u8]) {
    assert_eq!(peer.exactly(close.len()).await, close);
    peer.finish().await;
    assert_eq!(peer.rest().await.expect("an orderly end"), b"");
}

#[tokio::test]
async fn a5_drain_closes_both_ends_of_an_idle_websocket_with_1001() {
    let chain = Chain::start(UpgradeLayer::new()).await;
    let (mut client, mut at_backend) = chain.open().await;
    let (there, back) = (Frame::new(TEXT, "there"), Frame::new(TEXT, "back"));
    client.send(there.masked()).await;
    at_backend.send(back.unmasked()).await;
    assert_eq!(
        at_backend.exactly(there.masked().len()).await,
        there.masked()
    );
    assert_eq!(client.exactly(back.unmasked().len()).await, back.unmasked());
    let drain = soon(chain.sessions.drain(DEADLINE));
    let (report, (), ()) = tokio::join!(
        drain,
        assert_ends(client, FROM_SERVER),
        assert_ends(at_backend, FROM_CLIENT)
    );
    assert_eq!((report.ended, report.aborted), (1, 0), "{report}");
}

#[tokio::test]
async fn a5_drain_closes_a_websocket_over_http2_with_1001() {
    let chain = Chain::start(UpgradeLayer::new()).await;
    let mut client = Client::connect(chain.front.connect().await).await;
    let request = extended_connect("websocket").header("sec-websocket-version", "13");
    let answering = async {
        let mut at_backend = chain.backend.accept().await;
        let head = at_backend.request_head().await;
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .expect("a key");
        let accept = format!(
            "Sec-WebSocket-Accept: {}",
            derive_accept_key(key.as_bytes())
        );
        at_backend
            .send(upgrade_response("websocket", &[&accept]))
            .await;
        at_backend
    };
    let request = client.ask(request.body(()).expect("a request"));
    let (answer, at_backend) = soon(async { tokio::join!(request, answering) }).await;
    let mut client = answer.expect_upgraded();
    until(|| chain.sessions.len() == 1).await;
    chain.stop();
    assert_eq!(client.exactly(4).await, FROM_SERVER);
    client.finish().await;
    assert_eq!(client.rest().await.expect("an orderly end"), b"");
    assert_ends(at_backend, FROM_CLIENT).await;
}

#[tokio::test]
async fn a5_frame_that_is_being_sent_is_complete_before_the_close_frame() {
    let message = Frame::new(TEXT, "x".repeat(1000));
    for split in [1, 2, 3, 5, 500] {
        // A frame from the client, behind which its later frames are dropped.
        let chain = Chain::start(UpgradeLayer::new()).await;
        let (mut client, mut at_backend) = chain.open().await;
        let frame = message.masked();
        client.send(&frame[..split]).await;
        chain.until_moved(split, 0).await;
        chain.stop();
        assert_eq!(client.exactly(4).await, FROM_SERVER);
        client.send([&frame[split..], &frame].concat()).await;
        assert_eq!(at_backend.exactly(frame.len()).await, frame);
        tokio::join!(
            assert_ends(at_backend, FROM_CLIENT),
            assert_ends(client, &[])
        );

        // A frame from the backend.
        let (mut client, mut at_backend) = chain.open().await;
        let frame = message.unmasked();
        at_backend.send(&frame[..split]).await;
        assert_eq!(client.exactly(split).await, frame[..split]);
        chain.stop();
        assert_eq!(at_backend.exactly(8).await, FROM_CLIENT);
        at_backend.send([&frame[split..], &frame].concat()).await;
        assert_eq!(client.exactly(frame.len() - split).await, frame[split..]);
        tokio::join!(
            assert_ends(client, FROM_SERVER),
            assert_ends(at_backend, &[])
        );
    }
}

#[tokio::test]
async fn a5_direction_with_a_close_frame_gets_no_second_one() {
    let chain = Chain::start(UpgradeLayer::new()).await;
    let (client, mut at_backend) = chain.open().await;
    let close = Frame::close(1000, "done").unmasked();
    at_backend.send(&close).await;
    chain.until_moved(0, close.len()).await;
    chain.stop();
    tokio::join!(
        assert_ends(client, &close),
        assert_ends(at_backend, FROM_CLIENT)
    );
}

#[tokio::test(start_paused = true)]
async fn a5_no_close_frame_is_put_into_an_incomplete_frame() {
    let chain = Chain::start(UpgradeLayer::new()).await;
    let (mut client, mut at_backend) = chain.open().await;
    at_backend.send(b"\x81\x05hel").await;
    assert_eq!(client.exactly(5).await, b"\x81\x05hel");
    chain.stop();
    assert_ends(client, &[]).await;
    assert_ends(at_backend, FROM_CLIENT).await;
}

#[tokio::test]
async fn a5_client_of_an_idle_session_receives_a_close_frame() {
    let chain = Chain::start(UpgradeLayer::new().idle_timeout(Duration::from_millis(50))).await;
    let (client, mut at_backend) = chain.open().await;
    assert_ends(client, FROM_SERVER).await;
    at_backend.expect_end().await;

    // Not within a frame.
    let (mut client, mut at_backend) = chain.open().await;
    at_backend.send(b"\x81\x05hel").await;
    assert_eq!(client.exactly(5).await, b"\x81\x05hel");
    assert_ends(client, &[]).await;
}

#[tokio::test]
async fn end_of_a_peer_without_a_close_frame_is_forwarded_unchanged() {
    let chain = Chain::start(UpgradeLayer::new()).await;
    let (mut client, mut at_backend) = chain.open().await;
    at_backend.finish().await;
    assert_eq!(client.rest().await.expect("an orderly end"), b"");
    client.finish().await;
    assert_eq!(at_backend.rest().await.expect("an orderly end"), b"");
}
