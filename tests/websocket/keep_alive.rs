//! A peer that is silent.

use crate::{
    echo, handler, open,
    support::websocket::{Frame, PING, PONG, TEXT},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const INTERVAL: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_stays() {
    let mut opened = open(handler(echo).keep_alive(INTERVAL)).await;
    for _ in 0..10 {
        opened.expect(Frame::new(PING, "")).await;
        opened.send(Frame::new(PONG, "")).await;
    }
    opened.send(Frame::new(TEXT, "still here")).await;
    opened.expect(Frame::new(TEXT, "still here")).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_is_closed_as_idle() {
    let start = Instant::now();
    let mut opened = open(handler(echo).keep_alive(INTERVAL)).await;
    opened.expect(Frame::new(PING, "")).await;
    assert_eq!(start.elapsed(), INTERVAL);
    assert_eq!(
        crate::support::soon(opened.closed.recv()).await.as_deref(),
        Some("idle")
    );
    assert_eq!(start.elapsed(), 2 * INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_is_not_pinged() {
    let mut opened = open(handler(echo).keep_alive(INTERVAL)).await;
    for _ in 0..100 {
        sleep(INTERVAL / 2).await;
        opened.send(Frame::new(TEXT, "hello")).await;
        opened.expect(Frame::new(TEXT, "hello")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_message_that_comes_slowly_is_no_silence() {
    let mut opened = open(handler(echo).keep_alive(INTERVAL)).await;
    let message = Frame::new(TEXT, [b'a'; 100]);
    for byte in message.masked() {
        sleep(INTERVAL / 2).await;
        opened.peer.send([byte]).await;
    }
    opened.expect(message).await;
}

#[tokio::test(start_paused = true)]
async fn by_default_it_may_be_silent() {
    let mut opened = open(handler(echo)).await;
    sleep(Duration::from_secs(1_000_000)).await;
    opened.send(Frame::new(TEXT, "hello")).await;
    opened.expect(Frame::new(TEXT, "hello")).await;
}

#[test]
#[should_panic = "the interval of pings is zero"]
fn pings_without_a_pause_are_refused() {
    drop(handler(echo).keep_alive(Duration::ZERO));
}
