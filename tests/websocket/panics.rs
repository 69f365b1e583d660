//! Panicking handlers: the peer receives 1011, and the close reason is the panic.

use crate::{
    handler, notes, open, open_with,
    support::{
        soon,
        websocket::{BINARY, Frame, TEXT},
    },
};
use futures_util::SinkExt as _;
use std::{future::Ready, time::Duration};
use tokio::{sync::oneshot, time::Instant};
use tower_upgrade::{
    BoxError, UpgradeLayer,
    websocket::{CloseFrame, Message, WebSocket},
};

#[tokio::test]
async fn panicking_handler_closes_with_1011() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        socket.feed("on its way".into()).await?;
        panic!("oh no")
    }))
    .await;
    opened.expect(Frame::new(TEXT, "on its way")).await;
    opened.expect(Frame::close(1011, "")).await;
    opened.send(Frame::close(1011, "")).await;
    let reason = opened.ended().await;
    assert!(reason.contains("panicked"), "{reason}");
    assert!(reason.contains("oh no"), "{reason}");
}

#[tokio::test]
async fn panic_before_the_future_closes_with_1011() {
    let mut opened = open(handler(|_socket| -> Ready<Result<(), BoxError>> {
        panic!("at once")
    }))
    .await;
    opened.expect(Frame::close(1011, "")).await;
    opened.send(Frame::close(1011, "")).await;
    let reason = opened.ended().await;
    assert!(reason.contains("at once"), "{reason}");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("too late")
    }
}

#[tokio::test]
async fn panic_in_drop_after_completion_closes_with_1011() {
    let mut opened = open(handler(|_socket| {
        let bomb = Bomb;
        // It is not the function's, but the future's.
        let mut done = Some(bomb);
        std::future::poll_fn(move |_| {
            let _ = &mut done;
            std::task::Poll::Ready(Ok(()))
        })
    }))
    .await;
    opened.expect(Frame::close(1011, "")).await;
    opened.send(Frame::close(1011, "")).await;
    let reason = opened.ended().await;
    assert!(reason.contains("too late"), "{reason}");
}

#[tokio::test]
async fn second_panic_in_drop_closes_with_1011() {
    let mut opened = open(handler(|_socket| {
        let mut owned = Some(Bomb);
        std::future::poll_fn(move |_| -> std::task::Poll<Result<(), BoxError>> {
            let _ = &mut owned;
            panic!("too early")
        })
    }))
    .await;
    opened.expect(Frame::close(1011, "")).await;
    opened.send(Frame::close(1011, "")).await;
    let reason = opened.ended().await;
    assert!(reason.contains("too early"), "{reason}");
}

#[tokio::test]
async fn partly_written_message_is_completed_before_the_close_frame() {
    let (panic, may_panic) = oneshot::channel::<()>();
    let may_panic = std::sync::Mutex::new(Some(may_panic));
    let mut opened = open(handler(move |mut socket: WebSocket| {
        let may_panic = may_panic.lock().expect("no panic").take();
        async move {
            tokio::select! {
                sent = socket.send(Message::binary(vec![7; 1_000_000])) => sent?,
                _ = may_panic.expect("one session") => panic!("oh no"),
            }
            Ok(())
        }
    }))
    .await;
    // The message is partly written, and longer than the buffers between the peers.
    let head = opened.peer.exactly(2).await;
    assert_eq!(head, [0x80 | BINARY, 127]);
    panic.send(()).expect("it waits");
    let rest = opened.peer.exactly(8 + 1_000_000).await;
    assert!(rest[8..].iter().all(|byte| *byte == 7));
    opened.expect(Frame::close(1011, "")).await;
    opened.send(Frame::close(1011, "")).await;
    assert!(opened.ended().await.contains("oh no"));
}

#[tokio::test(start_paused = true)]
async fn unanswered_close_after_panic_ends_after_shutdown_timeout() {
    let layer = UpgradeLayer::new()
        .idle_timeout(Duration::from_secs(1))
        .shutdown_timeout(Duration::from_secs(3));
    let mut opened = open_with(layer, handler(|_socket| async { panic!("oh no") })).await;
    let start = Instant::now();
    opened.expect(Frame::close(1011, "")).await;
    assert!(opened.ended().await.contains("oh no"));
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn panic_after_a_close_frame_sends_no_second_one() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |socket: WebSocket| {
        let note = note.clone();
        async move {
            let closed = socket.close(CloseFrame::new(4000, "bye")).await;
            note(format!("{}", closed.is_ok()));
            panic!("oh no")
        }
    }))
    .await;
    opened.expect(Frame::close(4000, "bye")).await;
    opened.send(Frame::close(4000, "bye")).await;
    assert_eq!(soon(noted.recv()).await.as_deref(), Some("true"));
    assert!(opened.ended().await.contains("oh no"));
}
