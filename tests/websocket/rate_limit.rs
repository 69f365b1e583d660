//! A client that sends too much.

use crate::{
    handler, notes, open,
    support::websocket::{Frame, PING, PONG, TEXT},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tower_upgrade::{
    BoxError,
    websocket::{RateLimit, WebSocket, WebSocketConfig},
};

const RATE: u32 = 10;

/// Notes when each message was received.
async fn times(
    mut socket: WebSocket,
    note: std::sync::Arc<dyn Fn(String) + Send + Sync>,
) -> Result<(), BoxError> {
    let start = Instant::now();
    while let Some(message) = socket.recv().await {
        message?;
        note(start.elapsed().as_secs().to_string());
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn messages_above_the_rate_wait_and_none_is_lost() {
    let (note, mut noted) = notes();
    let handler = handler(move |socket| times(socket, note.clone()));
    let limit = RateLimit::new(RATE);
    // A client that waits is not silent.
    let config = WebSocketConfig::new().rate_limit(limit);
    let handler = handler.config(config.keep_alive(Duration::from_millis(100)));
    let mut opened = open(handler).await;
    for _ in 0..50 {
        opened.send(Frame::new(TEXT, "hello")).await;
    }
    let mut of_second = [0; 6];
    for _ in 0..50 {
        let second: usize = noted
            .recv()
            .await
            .expect("a message")
            .parse()
            .expect("seconds");
        of_second[second] += 1;
    }
    // Those of the burst, and then the rate.
    assert!((19..=22).contains(&of_second[0]), "{of_second:?}");
    assert!(
        of_second[1..4].iter().all(|count| (9..=11).contains(count)),
        "{of_second:?}"
    );
    assert!(opened.closed.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn stop_signal_reaches_a_rate_limited_reader() {
    let (note, _noted) = notes();
    let handler = handler(move |socket| times(socket, note.clone()));
    let limit = RateLimit::new(1).burst(Duration::ZERO);
    let mut opened = open(handler.config(WebSocketConfig::new().rate_limit(limit))).await;
    for _ in 0..5 {
        opened.send(Frame::new(TEXT, "hello")).await;
    }
    sleep(Duration::from_millis(500)).await;
    let drain = tokio::spawn(opened.sessions.drain(Duration::from_secs(60)));
    opened.expect(Frame::close(1001, "")).await;
    opened.send(Frame::close(1001, "")).await;
    drop(opened.peer);
    assert_eq!(drain.await.expect("no panic").ended, 1);
}

#[tokio::test(start_paused = true)]
async fn closing_limit_ends_the_session_with_1008() {
    for (messages, frames) in [
        (true, vec![Frame::new(TEXT, "hello"); 12]),
        (true, vec![Frame::new(PING, ""); 12]),
        (false, vec![Frame::new(TEXT, [b'a'; 600]); 2]),
    ] {
        let (note, _noted) = notes();
        let handler = handler(move |socket| times(socket, note.clone()));
        let limit = match messages {
            true => RateLimit::new(RATE),
            false => RateLimit::new(1000).bytes_per_second(1000),
        };
        let mut opened =
            open(handler.config(WebSocketConfig::new().rate_limit(limit.close()))).await;
        for frame in frames {
            opened.send(frame).await;
        }
        let frame = loop {
            let frame = Frame::read(&mut opened.peer).await;
            if frame.opcode() != PONG {
                break frame;
            }
        };
        assert_eq!(frame, Frame::close(1008, ""));
        let reason = opened.ended().await;
        assert_eq!(reason, "failed: the peer exceeded the rate limit");
    }
}

#[test]
#[should_panic = "the rate limit is zero messages per second"]
fn rate_of_zero_is_refused() {
    let _ = RateLimit::new(0);
}
