//! One message to many WebSockets.

use crate::{
    Opened, echo, handler, notes, open,
    support::{
        Server, Via, plain, soon, until,
        websocket::{Frame, TEXT},
    },
};
use bytes::Bytes;
use hyper_util::client::legacy::connect::HttpConnector;
use std::time::Duration;
use tower::{Layer as _, service_fn};
use tower_upgrade::client;
use tower_upgrade::websocket::{
    Broadcast, CloseFrame, Error, ErrorKind, Message, SlowConsumer, Utf8Bytes, WebSocket,
    WebSocketRequest,
};

type Rooms = Broadcast<String>;

/// Opens a session that is subscribed to `room`, and sends the texts of its peer to the room.
async fn listener(rooms: &Rooms, room: &'static str) -> Opened {
    listener_with(rooms, room, |rooms, room, text| async move {
        rooms.send(room, text)
    })
    .await
}

async fn listener_with<F>(
    rooms: &Rooms,
    room: &'static str,
    send: impl Fn(Rooms, &'static str, Utf8Bytes) -> F + Copy + Send + Sync + 'static,
) -> Opened
where
    F: Future<Output = Result<usize, Error>> + Send,
{
    let before = rooms.subscriptions(room);
    let joined = rooms.clone();
    let opened = open(handler(move |mut socket: WebSocket| {
        let rooms = joined.clone();
        async move {
            let _subscription = rooms.subscribe(room.to_owned(), &socket);
            while let Some(message) = socket.recv().await {
                if let Message::Text(text) = message? {
                    send(rooms.clone(), room, text).await?;
                }
            }
            Ok(())
        }
    }))
    .await;
    until(|| rooms.subscriptions(room) > before).await;
    opened
}

/// More bytes than the transport of a test and the write buffer hold.
fn large() -> Message {
    Message::binary(vec![7; 8 * 1024 * 1024])
}

#[tokio::test]
async fn message_reaches_all_listeners_in_order() {
    let rooms = Rooms::new(64);
    let mut listeners = [
        listener(&rooms, "lobby").await,
        listener(&rooms, "lobby").await,
    ];
    let mut other = listener(&rooms, "other").await;
    for number in 0..50 {
        let sent = rooms.send("lobby", format!("{number}"));
        assert_eq!(sent.expect("a valid message"), 2);
    }
    for listener in &mut listeners {
        for number in 0..50 {
            listener.expect(Frame::new(TEXT, format!("{number}"))).await;
        }
    }
    listeners[0].send(Frame::new(TEXT, "from a peer")).await;
    for listener in &mut listeners {
        listener.expect(Frame::new(TEXT, "from a peer")).await;
    }
    rooms.send("other", "last").expect("a valid message");
    other.expect(Frame::new(TEXT, "last")).await;
    assert_eq!(rooms.send("nowhere", "x").expect("valid"), 0);
}

/// The handler waits for something other than the socket.
#[tokio::test]
async fn session_writes_broadcasts_while_the_handler_does_not_receive() {
    let rooms = Rooms::new(64);
    let joined = rooms.clone();
    let mut opened = open(handler(move |socket: WebSocket| {
        let rooms = joined.clone();
        async move {
            let _subscription = rooms.subscribe("lobby".into(), &socket);
            std::future::pending().await
        }
    }))
    .await;
    until(|| rooms.subscriptions("lobby") == 1).await;
    rooms.send("lobby", "hello").expect("a valid message");
    opened.expect(Frame::new(TEXT, "hello")).await;
}

/// The session is not polled between the subscription and the message.
#[tokio::test]
async fn session_writes_broadcasts_after_a_subscription_in_another_task() {
    let rooms = Rooms::new(64);
    let joined = rooms.clone();
    let mut opened = open(handler(move |socket: WebSocket| {
        let rooms = joined.clone();
        async move {
            let escaped = tokio::spawn(async move {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                let _subscription = rooms.subscribe("lobby".into(), &socket);
                std::future::pending::<()>().await;
            });
            Ok(escaped.await?)
        }
    }))
    .await;
    until(|| rooms.subscriptions("lobby") == 1).await;
    rooms.send("lobby", "hello").expect("a valid message");
    opened.expect(Frame::new(TEXT, "hello")).await;
}

#[tokio::test]
async fn direct_message_follows_queued_broadcasts() {
    let rooms = Rooms::new(64);
    let joined = rooms.clone();
    let mut opened = open(handler(move |mut socket: WebSocket| {
        let rooms = joined.clone();
        async move {
            let _subscription = rooms.subscribe("lobby".into(), &socket);
            rooms.send("lobby", "first")?;
            socket.send("second").await?;
            rooms.send("lobby", "third")?;
            // The queue is written before the close frame.
            Ok(())
        }
    }))
    .await;
    for text in ["first", "second", "third"] {
        opened.expect(Frame::new(TEXT, text)).await;
    }
    opened.expect(Frame::close(1000, "")).await;
}

#[tokio::test]
async fn drain_writes_queued_broadcasts_before_the_close_frame() {
    let rooms = Rooms::new(64);
    let mut opened = listener(&rooms, "lobby").await;
    rooms.send("lobby", large()).expect("a valid message");
    rooms.send("lobby", "last").expect("a valid message");
    let sessions = opened.sessions.clone();
    let drain = tokio::spawn(sessions.drain(Duration::from_secs(30)));
    until(|| opened.sessions.is_draining()).await;
    let first = Frame::read(&mut opened.peer).await;
    assert_eq!(first.payload.len(), 8 * 1024 * 1024);
    opened.expect(Frame::new(TEXT, "last")).await;
    opened.expect(Frame::close(1001, "")).await;
    opened.send(Frame::close(1001, "")).await;
    soon(drain).await.expect("no panic");
    assert_eq!(opened.ended().await, "drained");
    assert_eq!(rooms.subscriptions("lobby"), 0);
}

#[tokio::test]
async fn full_queue_closes_with_1013() {
    let rooms = Rooms::new(3);
    let mut slow = listener(&rooms, "lobby").await;
    let mut quick = listener(&rooms, "lobby").await;
    rooms.send("lobby", large()).expect("a valid message");
    quick_reads(&mut quick).await;
    for number in 0..5 {
        rooms.send("lobby", format!("{number}")).expect("valid");
        quick.expect(Frame::new(TEXT, format!("{number}"))).await;
    }
    until(|| rooms.subscriptions("lobby") == 1).await;
    quick_reads(&mut slow).await;
    slow.expect(Frame::close(1013, "")).await;
    slow.send(Frame::close(1013, "")).await;
    let ended = slow.ended().await;
    assert_eq!(ended, "failed: the peer read broadcasts too slowly");
}

async fn quick_reads(opened: &mut Opened) {
    let read = Frame::read(&mut opened.peer).await;
    assert_eq!(read.payload.len(), 8 * 1024 * 1024);
}

/// The handler is blocked in `send`.
#[tokio::test]
async fn blocked_send_fails_when_the_queue_overflows() {
    let rooms = Rooms::new(1).slow_consumer(SlowConsumer::Close(1008));
    let (note, mut noted) = notes();
    let joined = rooms.clone();
    let _opened = open(handler(move |mut socket: WebSocket| {
        let (rooms, note) = (joined.clone(), note.clone());
        async move {
            let _subscription = rooms.subscribe("lobby".into(), &socket);
            let error = socket.send(large()).await.expect_err("a slow peer");
            note(format!("{:?}", error.kind()));
            Err(error.into())
        }
    }))
    .await;
    until(|| rooms.subscriptions("lobby") == 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        rooms.send("lobby", "hello").expect("a valid message");
    }
    let kind = soon(noted.recv()).await.expect("an error");
    assert_eq!(kind, format!("{:?}", ErrorKind::TooSlow));
}

#[tokio::test]
async fn sender_waits_for_the_slow_consumer_after_serving_the_others() {
    let rooms = Rooms::new(1);
    let mut slow = listener(&rooms, "lobby").await;
    let mut quick = listener(&rooms, "lobby").await;
    rooms.send("lobby", large()).expect("a valid message");
    quick_reads(&mut quick).await;
    let sender = rooms.clone();
    let sending = tokio::spawn(async move {
        for number in 0..2 {
            let sent = sender.send_waiting("lobby", format!("{number}")).await;
            assert_eq!(sent.expect("a valid message"), 2);
        }
    });
    quick.expect(Frame::new(TEXT, "0")).await;
    quick.expect(Frame::new(TEXT, "1")).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished(), "the slow peer has not read");
    quick_reads(&mut slow).await;
    soon(sending).await.expect("no panic");
    slow.expect(Frame::new(TEXT, "0")).await;
    slow.expect(Frame::new(TEXT, "1")).await;
}

/// No other message of `send_waiting` overtakes the one that waits, and `send` does.
#[tokio::test]
async fn sender_that_does_not_wait_overtakes() {
    let rooms = Rooms::new(1).slow_consumer(SlowConsumer::DropNewest);
    let mut slow = listener(&rooms, "lobby").await;
    let mut quick = listener(&rooms, "lobby").await;
    rooms.send("lobby", large()).expect("a valid message");
    quick_reads(&mut quick).await;
    rooms.send("lobby", "queued").expect("a valid message");
    quick.expect(Frame::new(TEXT, "queued")).await;
    let sending = ["first", "second"].map(|text| {
        let sender = rooms.clone();
        tokio::spawn(async move { sender.send_waiting("lobby", text).await })
    });
    quick.expect(Frame::new(TEXT, "first")).await;
    assert_eq!(rooms.send("lobby", "dropped").expect("valid"), 1);
    quick.expect(Frame::new(TEXT, "dropped")).await;
    quick_reads(&mut slow).await;
    quick.expect(Frame::new(TEXT, "second")).await;
    for text in ["queued", "first", "second"] {
        slow.expect(Frame::new(TEXT, text)).await;
    }
    for sending in sending {
        let sent = soon(sending).await.expect("no panic");
        assert_eq!(sent.expect("a valid message"), 2);
    }
}

/// Each handler waits for the queues, and only the sessions can empty them.
#[tokio::test]
async fn handlers_that_wait_for_each_other_do_not_deadlock() {
    let rooms = Rooms::new(1);
    let send = |rooms: Rooms, room, text| async move { rooms.send_waiting(room, text).await };
    let mut first = listener_with(&rooms, "lobby", send).await;
    let mut second = listener_with(&rooms, "lobby", send).await;
    for _ in 0..20 {
        first.send(Frame::new(TEXT, "hello")).await;
        second.send(Frame::new(TEXT, "hello")).await;
    }
    for _ in 0..40 {
        first.expect(Frame::new(TEXT, "hello")).await;
        second.expect(Frame::new(TEXT, "hello")).await;
    }
}

#[tokio::test]
async fn waiting_sender_continues_when_the_slow_session_ends() {
    let rooms = Rooms::new(1);
    let slow = listener(&rooms, "lobby").await;
    rooms.send("lobby", large()).expect("a valid message");
    let sender = rooms.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..3 {
            sender.send_waiting("lobby", "hello").await.expect("valid");
        }
    });
    drop(slow.peer);
    soon(sending).await.expect("no panic");
    until(|| rooms.subscriptions("lobby") == 0).await;
}

/// The handler ignores the stop signal, and only the end of its session can close the queue.
#[tokio::test]
async fn waiting_sender_continues_when_the_slow_session_is_aborted() {
    let rooms = Rooms::new(1);
    let joined = rooms.clone();
    let (keep, _kept) = tokio::sync::mpsc::unbounded_channel();
    let opened = open(handler(move |socket: WebSocket| {
        // The subscription outlives the session.
        let _ = keep.send(joined.subscribe("lobby".into(), &socket));
        async move {
            let _socket = socket;
            std::future::pending().await
        }
    }))
    .await;
    until(|| rooms.subscriptions("lobby") == 1).await;
    rooms.send("lobby", large()).expect("a valid message");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    rooms.send("lobby", "queued").expect("valid");
    let sender = rooms.clone();
    let sending = tokio::spawn(async move { sender.send_waiting("lobby", "waits").await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished(), "the slow peer has not read");
    opened.sessions.drain(Duration::ZERO).await;
    let sent = soon(sending).await.expect("no panic");
    assert_eq!(sent.expect("a valid message"), 0);
    // The next message removes the listener.
    assert_eq!(rooms.send("lobby", "x").expect("valid"), 0);
    assert_eq!(rooms.subscriptions("lobby"), 0);
}

#[tokio::test]
async fn dropped_subscription_receives_no_more() {
    let rooms = Rooms::new(8);
    let joined = rooms.clone();
    let mut opened = open(handler(move |mut socket: WebSocket| {
        let rooms = joined.clone();
        async move {
            let subscription = rooms.subscribe("lobby".into(), &socket);
            rooms.send("lobby", "before")?;
            drop(subscription);
            assert_eq!(rooms.subscriptions("lobby"), 0);
            assert_eq!(rooms.send("lobby", "after")?, 0);
            socket.recv().await;
            Ok(())
        }
    }))
    .await;
    opened.expect(Frame::new(TEXT, "before")).await;
    opened.send(Frame::close(1000, "")).await;
    opened.expect(Frame::close(1000, "")).await;
}

#[tokio::test]
async fn end_of_the_session_unsubscribes_and_frees_the_messages() {
    let rooms = Rooms::new(8);
    let payload = Bytes::from(vec![7; 8 * 1024 * 1024]);
    for abort in [false, true] {
        let opened = listener(&rooms, "lobby").await;
        rooms.send("lobby", payload.clone()).expect("valid");
        rooms.send("lobby", payload.clone()).expect("valid");
        if abort {
            opened.sessions.drain(Duration::ZERO).await;
        } else {
            drop(opened.peer);
        }
        until(|| rooms.subscriptions("lobby") == 0).await;
        until(|| payload.is_unique()).await;
    }
}

#[tokio::test]
async fn close_frame_closes_all_listeners() {
    let rooms = Rooms::new(8);
    let listeners = [
        listener(&rooms, "lobby").await,
        listener(&rooms, "lobby").await,
    ];
    rooms.send("lobby", "bye").expect("a valid message");
    let close = Message::Close(Some(CloseFrame::new(4000, "moved")));
    assert_eq!(rooms.send("lobby", close).expect("valid"), 2);
    for mut listener in listeners {
        listener.expect(Frame::new(TEXT, "bye")).await;
        listener.expect(Frame::close(4000, "moved")).await;
        listener.send(Frame::close(4000, "")).await;
        assert_eq!(listener.ended().await, "finished");
    }
    assert_eq!(rooms.subscriptions("lobby"), 0);
}

#[tokio::test]
async fn invalid_messages_are_refused() {
    let rooms = Rooms::new(8);
    let sent = rooms.send("lobby", Message::Ping(vec![0; 126].into()));
    assert_eq!(sent.expect_err("too long").kind(), ErrorKind::TooLarge);
}

/// The server echoes, and closes the connection after a frame without a mask.
#[tokio::test]
async fn client_listener_masks_broadcasts() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("websocket", handler(echo));
    let server = Server::start_via(Via::Http1, layer.layer(service_fn(plain))).await;
    let uri = format!("ws://{}/", server.address).parse();
    let client = client::UpgradeLayer::new().layer(client::Dial::new(HttpConnector::new()));
    let connected = WebSocketRequest::new(uri.expect("a URI"))
        .connect(client)
        .await;
    let (mut socket, _) = connected.expect("a socket");
    let rooms = Rooms::new(8);
    let subscription = rooms.subscribe("lobby".into(), &socket);
    rooms.send("lobby", "first").expect("a valid message");
    socket.send("second").await.expect("a socket");
    let receiving = tokio::spawn(async move {
        let mut received = Vec::new();
        while received.len() < 3 {
            let message = socket.recv().await.expect("a message");
            received.extend(message.expect("a message").as_text().map(str::to_owned));
        }
        received
    });
    // The client writes in `recv`.
    tokio::task::yield_now().await;
    rooms.send("lobby", "third").expect("a valid message");
    let received = soon(receiving).await.expect("no panic");
    assert_eq!(received, ["first", "second", "third"]);
    // The socket is dropped.
    assert_eq!(rooms.send("lobby", "fourth").expect("valid"), 0);
    drop(subscription);
}
