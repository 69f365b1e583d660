//! A WebSocket, or a half of it, in a task that its handler does not wait for.

use crate::{
    brief, echo, handler, notes, open,
    support::{
        soon,
        websocket::{BINARY, Frame, TEXT},
    },
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tower_upgrade::websocket::{ErrorKind, Message, WebSocket};

#[tokio::test]
async fn session_closes_an_escaped_websocket() {
    let (escaped, mut has_escaped) = mpsc::unbounded_channel();
    let mut opened = open(handler(move |socket: WebSocket| {
        let _ = escaped.send(socket);
        async { Ok(()) }
    }))
    .await;
    let mut socket = has_escaped.recv().await.expect("a socket");
    opened.expect(Frame::close(1000, "")).await;
    assert_eq!(brief(&soon(socket.recv()).await), "closed");
    let error = socket.send("more").await.expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    opened.send(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

/// The use of an escaped half by a task, and its result.
type Halves = fn(
    futures_util::stream::SplitSink<WebSocket, Message>,
    futures_util::stream::SplitStream<WebSocket>,
    std::sync::Arc<dyn Fn(String) + Send + Sync>,
);

/// Opens a session whose handler ends on demand while other tasks hold halves of its WebSocket.
async fn with_halves_elsewhere(
    halves: Halves,
) -> (
    crate::Opened,
    mpsc::UnboundedReceiver<String>,
    mpsc::UnboundedSender<bool>,
) {
    let (note, noted) = notes();
    let (end, may_end) = mpsc::unbounded_channel();
    let may_end = std::sync::Arc::new(tokio::sync::Mutex::new(may_end));
    let opened = open(handler(move |socket: WebSocket| {
        let (note, may_end) = (note.clone(), may_end.clone());
        async move {
            let (sink, stream) = socket.split();
            halves(sink, stream, note);
            match may_end.lock().await.recv().await {
                Some(true) => Ok(()),
                _ => Err("no luck".into()),
            }
        }
    }))
    .await;
    (opened, noted, end)
}

#[tokio::test]
async fn escaped_halves_wake_and_the_peer_receives_a_close_frame() {
    for (is_well, code, reason) in [(true, 1000, "finished"), (false, 1011, "failed: no luck")] {
        let (mut opened, mut noted, end) = with_halves_elsewhere(|mut sink, mut stream, note| {
            tokio::spawn(async move {
                loop {
                    let received = stream.next().await;
                    note(brief(&received));
                    match received {
                        Some(Ok(message)) => sink.send(message).await.expect("it is open"),
                        _ => break,
                    }
                }
                let error = sink.send("more".into()).await.expect_err("it is closed");
                note(format!("{:?}", error.kind()));
            });
        })
        .await;
        opened.send(Frame::new(TEXT, "hello")).await;
        opened.expect(Frame::new(TEXT, "hello")).await;
        assert_eq!(soon(noted.recv()).await.as_deref(), Some("text hello"));
        end.send(is_well).expect("it waits");
        opened.expect(Frame::close(code, "")).await;
        assert_eq!(soon(noted.recv()).await.as_deref(), Some("closed"));
        assert_eq!(soon(noted.recv()).await.as_deref(), Some("Closed"));
        opened.send(Frame::close(code, "")).await;
        assert_eq!(opened.ended().await, reason);
    }
}

#[tokio::test]
async fn escaped_sender_wakes_and_its_message_is_complete() {
    let (mut opened, mut noted, end) = with_halves_elsewhere(|mut sink, stream, note| {
        tokio::spawn(async move {
            let sent = sink.send(Message::binary(vec![7; 1_000_000])).await;
            note(format!("{:?}", sent.expect_err("it is closed").kind()));
            drop(stream);
        });
    })
    .await;
    assert_eq!(opened.peer.exactly(2).await, [0x80 | BINARY, 127]);
    end.send(true).expect("it waits");
    assert_eq!(soon(noted.recv()).await.as_deref(), Some("Closed"));
    let rest = opened.peer.exactly(8 + 1_000_000).await;
    assert!(rest[8..].iter().all(|byte| *byte == 7));
    opened.expect(Frame::close(1000, "")).await;
    opened.send(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn unused_halves_do_not_delay_the_end() {
    let (mut opened, _noted, end) = with_halves_elsewhere(|sink, stream, _note| {
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop((sink, stream));
        });
    })
    .await;
    end.send(true).expect("it waits");
    opened.expect(Frame::close(1000, "")).await;
    opened.send(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn dropped_websocket_closes_when_the_handler_ends() {
    let (end, may_end) = tokio::sync::oneshot::channel::<()>();
    let may_end = std::sync::Mutex::new(Some(may_end));
    let mut opened = open(handler(move |socket: WebSocket| {
        let may_end = may_end.lock().expect("no panic").take();
        async move {
            drop(socket);
            Ok(may_end.expect("one session").await?)
        }
    }))
    .await;
    opened.send(Frame::new(TEXT, "unreceived")).await;
    end.send(()).expect("it waits");
    opened.expect(Frame::close(1000, "")).await;
    opened.send(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn halves_that_their_handler_keeps_work_as_a_whole() {
    let mut opened = open(handler(|socket: WebSocket| async move {
        let (sink, stream) = socket.split();
        echo(sink.reunite(stream)?).await
    }))
    .await;
    opened.send(Frame::new(TEXT, "hello")).await;
    opened.expect(Frame::new(TEXT, "hello")).await;
}
