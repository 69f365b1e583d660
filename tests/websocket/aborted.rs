//! The close frame of a handler that its session drops.

use crate::{
    handler, open, open_with,
    support::websocket::{Frame, TEXT},
};
use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower_upgrade::{
    UpgradeLayer,
    websocket::{Message, WebSocket},
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn aborted_handler_closes_with_1001() {
    let layer = UpgradeLayer::new().idle_timeout(SECOND);
    let mut opened = open_with(layer, handler(|_socket| pending())).await;
    opened.expect(Frame::close(1001, "")).await;
    assert_eq!(opened.ended().await, "idle");

    let mut opened = open(handler(|_socket| pending())).await;
    let report = opened.sessions.drain(SECOND).await;
    assert_eq!(report.aborted, 1, "{report}");
    opened.expect(Frame::close(1001, "")).await;
}

#[tokio::test(start_paused = true)]
async fn aborted_handler_puts_no_close_frame_into_a_message() {
    let layer = UpgradeLayer::new().idle_timeout(SECOND);
    let mut opened = open_with(
        layer,
        handler(|mut socket: WebSocket| async move {
            // Longer than the buffers between the peers.
            socket.send(Message::binary(vec![7; 10_000_000])).await?;
            pending().await
        }),
    )
    .await;
    tokio::time::sleep(2 * SECOND).await;
    let sent = opened.peer.rest().await.expect("an orderly end");
    assert!(sent.len() < 10_000_000);
    assert!(sent[10..].iter().all(|byte| *byte == 7));
    assert_eq!(opened.ended().await, "idle");
}

#[tokio::test(start_paused = true)]
async fn aborted_handler_closes_a_socket_that_another_task_holds() {
    let kept = Arc::new(Mutex::new(None));
    let lent = Arc::clone(&kept);
    let layer = UpgradeLayer::new().idle_timeout(SECOND);
    let mut opened = open_with(
        layer,
        handler(move |mut socket: WebSocket| {
            let task = tokio::spawn(async move { socket.recv().await.is_none() });
            *lent.lock().expect("no panic") = Some(task);
            pending()
        }),
    )
    .await;
    opened.expect(Frame::close(1001, "")).await;
    let task = kept.lock().expect("no panic").take().expect("a task");
    assert!(task.await.expect("no panic"), "`recv` has ended");
    opened.send(Frame::new(TEXT, "late")).await;
    assert_eq!(opened.ended().await, "idle");
}
