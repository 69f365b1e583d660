//! Broadcasts to peers that read slowly, over TCP.

use crate::{
    handler, notes,
    support::{
        Peer, Server, Via, offer, plain, soon, until,
        websocket::{CLOSE, Frame, TEXT},
    },
};
use std::sync::Arc;
use tokio::net::TcpStream;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    UpgradeLayer,
    websocket::{Broadcast, SlowConsumer, WebSocket},
};

/// More bytes than the buffers of a TCP connection hold.
const LONG: usize = 32 * 1024 * 1024;

/// A session that is blocked in the middle of a message, with an empty queue.
struct Blocked {
    room: Broadcast<u8>,
    peer: Peer<TcpStream>,
    /// The number of dropped messages, or the error, when the handler receives.
    noted: tokio::sync::mpsc::UnboundedReceiver<String>,
    _server: Server,
}

impl Blocked {
    async fn start(action: Option<SlowConsumer>) -> Self {
        let room = Broadcast::new(3);
        let room = match action {
            Some(action) => room.slow_consumer(action),
            None => room,
        };
        let (note, noted) = notes();
        let joined = room.clone();
        let handler = handler(move |mut socket: WebSocket| {
            let (room, note) = (joined.clone(), Arc::clone(&note));
            async move {
                let subscription = room.subscribe(1, &socket);
                let received = socket.recv().await.expect("a message or an error");
                note(format!("{} dropped", subscription.dropped()));
                received.inspect_err(|error| note(format!("{:?}", error.kind())))?;
                Ok(())
            }
        });
        let layer = UpgradeLayer::new().protocol("websocket", handler);
        let server = Server::start_via(Via::Http1, layer.layer(service_fn(plain))).await;
        let mut peer = server.connect().await;
        let lines = [
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        peer.send(offer("websocket", &lines)).await;
        assert_eq!(peer.head().await.status, 101);
        until(|| room.subscriptions(&1) == 1).await;
        room.send(&1, vec![7; LONG]).expect("a valid message");
        // The message has left the queue.
        soon(peer.io.peek(&mut [0])).await.expect("a socket");
        Self {
            room,
            peer,
            noted,
            _server: server,
        }
    }

    /// Sends five messages, of which the queue holds three.
    fn send_five(&self) -> Vec<usize> {
        let send = |number| self.room.send(&1, format!("{number}"));
        let sent = (0..5).map(|number| send(number).expect("a valid message"));
        sent.collect()
    }

    /// Reads the messages after the long one.
    async fn read(&mut self, messages: usize) -> Vec<String> {
        let long = Frame::read(&mut self.peer).await;
        assert_eq!(long.payload.len(), LONG);
        let mut read = Vec::new();
        for _ in 0..messages {
            let frame = Frame::read(&mut self.peer).await;
            assert_eq!(frame.opcode(), TEXT);
            read.push(String::from_utf8(frame.payload).expect("a text"));
        }
        read
    }

    async fn noted(&mut self) -> String {
        soon(self.noted.recv()).await.expect("a note")
    }

    async fn end(&mut self) -> String {
        self.peer.send(Frame::new(TEXT, "read").masked()).await;
        let dropped = self.noted().await;
        assert_eq!(Frame::read(&mut self.peer).await, Frame::close(1000, ""));
        dropped
    }
}

#[tokio::test]
async fn slow_consumer_loses_the_oldest_messages() {
    let mut blocked = Blocked::start(Some(SlowConsumer::DropOldest)).await;
    assert_eq!(blocked.send_five(), [1; 5]);
    assert_eq!(blocked.read(3).await, ["2", "3", "4"]);
    assert_eq!(blocked.end().await, "2 dropped");
}

#[tokio::test]
async fn slow_consumer_loses_the_newest_messages() {
    let mut blocked = Blocked::start(Some(SlowConsumer::DropNewest)).await;
    assert_eq!(blocked.send_five(), [1, 1, 1, 0, 0]);
    assert_eq!(blocked.read(3).await, ["0", "1", "2"]);
    assert_eq!(blocked.end().await, "2 dropped");
}

#[tokio::test]
async fn slow_consumer_is_closed() {
    for (action, code) in [(None, 1013), (Some(SlowConsumer::Close(1008)), 1008)] {
        let mut blocked = Blocked::start(action).await;
        assert_eq!(blocked.send_five(), [1, 1, 1, 0, 0]);
        assert_eq!(blocked.noted().await, "4 dropped");
        assert_eq!(blocked.noted().await, "TooSlow");
        assert_eq!(blocked.read(0).await, [""; 0]);
        let close = Frame::read(&mut blocked.peer).await;
        assert_eq!(close.opcode(), CLOSE);
        assert_eq!(close, Frame::close(code, ""));
        assert_eq!(blocked.room.subscriptions(&1), 0);
    }
}

#[tokio::test]
async fn sender_waits_for_slow_consumer() {
    let mut blocked = Blocked::start(None).await;
    let room = blocked.room.clone();
    let sending = tokio::spawn(async move {
        for number in 0..5 {
            let sent = room.send_waiting(&1, format!("{number}")).await;
            assert_eq!(sent.expect("a valid message"), 1);
        }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished(), "the queue holds three");
    assert_eq!(blocked.read(5).await, ["0", "1", "2", "3", "4"]);
    soon(sending).await.expect("no panic");
    assert_eq!(blocked.end().await, "0 dropped");
}
