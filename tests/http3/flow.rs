//! Flow control: sessions on one connection.

use crate::{
    raw::{Client, DATA, End, frame},
    support::{h3::Server, handlers::echo, plain, until},
};
use futures_util::FutureExt as _;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::AsyncWriteExt as _;
use tower::{Layer as _, service_fn};
use tower_upgrade::{Session, UpgradeLayer, handler_fn};

/// All streams of a connection but one do not read. The last one is not affected.
#[tokio::test]
async fn sessions_that_do_not_read_do_not_stop_the_others() {
    let started = Arc::new(AtomicUsize::new(0));
    let stalls = handler_fn({
        let started = Arc::clone(&started);
        move |session: Session| {
            started.fetch_add(1, Ordering::SeqCst);
            async move {
                let _session = session;
                std::future::pending().await
            }
        }
    });
    let layer = UpgradeLayer::new()
        .protocol("stalls", stalls)
        .protocol("test", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    let mut stalled = Vec::new();
    // 100 streams are allowed.
    for _ in 0..99 {
        let mut stream = client.extended_connect("stalls").await;
        let part = frame(DATA as u8, &[0; 10_000]);
        // Write until the window of the stream is full.
        for _ in 0..100 {
            match stream.send.write_all(&part).now_or_never() {
                Some(written) => written.expect("an open stream"),
                None => break,
            }
        }
        stalled.push(stream);
    }
    until(|| started.load(Ordering::SeqCst) == 99).await;
    let mut session = client.extended_connect("test").await;
    let mut echoed = 0;
    for _ in 0..50 {
        session.write(&frame(DATA as u8, &[1; 10_000])).await;
        while echoed < 10_000 {
            echoed += session.data().await.len();
        }
        echoed -= 10_000;
    }
    // The stalled streams take no more than their windows.
    for stream in &mut stalled {
        assert!(stream.send.write(&[0; 100]).now_or_never().is_none());
    }
}

/// The window of a stream, which holds this many bytes of data without the headers of their frames.
const WINDOW: usize = 256 * 1024;

#[tokio::test]
async fn e8_data_arrives_without_a_flush() {
    let writes = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(&[1; WINDOW]).await?;
        std::future::pending().await
    });
    let layer = UpgradeLayer::new().protocol("writes", writes);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    let mut session = client.extended_connect("writes").await;
    let mut received = 0;
    while received < WINDOW {
        received += session.data().await.len();
    }
    assert_eq!(received, WINDOW);
}

#[tokio::test]
async fn e8_session_that_fails_within_a_frame_is_reset() {
    const H3_REQUEST_CANCELLED: u64 = 0x10c;
    let fails = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(&[1; WINDOW]).await?;
        Err("failed".into())
    });
    let layer = UpgradeLayer::new().protocol("fails", fails);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    let mut session = client.extended_connect("fails").await;
    assert_eq!(session.stopped().await, Some(H3_REQUEST_CANCELLED));
    assert_eq!(session.rest().await.1, End::Reset(H3_REQUEST_CANCELLED));
    client.expect_alive().await;
}
