//! A client that connects again, with paused time.

use crate::{
    reconnect_script::{Answer, connected, disconnected, request, script, text},
    support::{
        soon,
        websocket::{FIN, Frame, PING, PONG, TEXT},
    },
};
use futures_util::{FutureExt as _, StreamExt as _};
use http::HeaderValue;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tower_upgrade::{
    client,
    websocket::{
        CloseFrame, ErrorKind, Message, WebSocketConfig,
        reconnect::{Backoff, Cause, Disconnected, Event, Reconnecting, State},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// The wait after the server has closed with this code.
async fn wait_after_close(code: u16) -> Option<Duration> {
    let (mut socket, mut server) = script([Answer::Accept]);
    connected(&mut socket).await;
    let mut peer = server.peer();
    peer.send(Frame::close(code, "bye").unmasked()).await;
    let failure = disconnected(&mut socket).await;
    assert_eq!(failure.cause.close_code(), Some(code));
    // The client answers while it waits.
    let _ = timeout(Duration::ZERO, socket.recv()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(code, "bye"));
    failure.retry_in
}

/// The wait after the server has refused.
async fn wait_after_refusal(head: &'static str) -> Option<Duration> {
    let (mut socket, _server) = script([Answer::Refuse(head)]);
    let failure = disconnected(&mut socket).await;
    let refused = matches!(&failure.cause, Cause::Handshake(error) if error.kind() == client::ErrorKind::Refused);
    assert!(refused, "{failure}");
    failure.retry_in
}

/// Panics unless the smallest and the largest of many waits are near the bounds.
async fn expect_between<Fut>(least: u64, most: u64, wait: impl Fn() -> Fut)
where
    Fut: Future<Output = Option<Duration>>,
{
    let (least, most) = (least as f64, most as f64);
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    // All in one half: with a probability of 2 in 2^100.
    for _ in 0..100 {
        let wait = wait().await.expect("another attempt").as_secs_f64();
        assert!((least..=most).contains(&wait), "{wait}");
        (low, high) = (low.min(wait), high.max(wait));
    }
    let middle = least.midpoint(most);
    assert!(low < middle && middle < high, "{low} to {high}");
}

#[tokio::test(start_paused = true)]
async fn waits_are_random_and_double_up_to_max() {
    const BOUNDS: [u32; 8] = [1, 2, 4, 8, 16, 30, 30, 30];
    let mut highest = [Duration::ZERO; BOUNDS.len()];
    for _ in 0..100 {
        let (mut socket, server) = script([]);
        let mut due = Instant::now();
        for (index, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!(
                socket.state(),
                match index {
                    0 => State::Connecting { attempt: 1 },
                    _ => State::Waiting {
                        remaining: due - Instant::now()
                    },
                }
            );
            let failure = disconnected(&mut socket).await;
            assert_eq!(failure.failures as usize, index + 1);
            let at = server.attempts()[index];
            // The timer has a resolution of 1 ms.
            assert!(at >= due && at - due <= Duration::from_millis(2));
            let wait = failure.retry_in.expect("another attempt");
            assert!(wait <= bound * SECOND, "{wait:?}");
            highest[index] = highest[index].max(wait);
            due = Instant::now() + wait;
        }
    }
    for (highest, bound) in highest.into_iter().zip(BOUNDS) {
        assert!(highest > bound * SECOND / 2, "{highest:?} of {bound} s");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_added_to_the_wait() {
    expect_between(20, 21, || {
        wait_after_refusal("503 Service Unavailable\r\nretry-after: 20")
    })
    .await;
    expect_between(60, 61, || {
        wait_after_refusal(
            "429 Too Many Requests\r\ndate: Sun, 06 Nov 1994 08:48:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT",
        )
    })
    .await;
    // A day, bounded.
    expect_between(300, 301, || {
        wait_after_refusal("503 Service Unavailable\r\nretry-after: 86400")
    })
    .await;
    expect_between(0, 1, || wait_after_refusal("502 Bad Gateway")).await;
}

#[tokio::test(start_paused = true)]
async fn service_restart_and_overload_wait_longer() {
    expect_between(5, 30, || wait_after_close(1012)).await;
    expect_between(30, 60, || wait_after_close(1013)).await;
    expect_between(0, 1, || wait_after_close(1001)).await;
    expect_between(0, 1, || wait_after_close(1011)).await;
}

#[tokio::test(start_paused = true)]
async fn permanent_failure_ends_the_client() {
    for code in [1000, 1002, 1003, 1008, 1009, 3000, 4001] {
        assert_eq!(wait_after_close(code).await, None, "{code}");
    }
    for head in [
        "401 Unauthorized",
        "404 Not Found",
        "501 Not Implemented\r\nretry-after: 1",
        "200 OK",
    ] {
        assert_eq!(wait_after_refusal(head).await, None, "{head}");
    }
    let (mut socket, server) = script([Answer::Refuse("403 Forbidden"), Answer::Accept]);
    let failure = disconnected(&mut socket).await;
    assert_eq!(
        failure.to_string(),
        "the handshake failed: refused with 403 Forbidden; no attempt follows"
    );
    assert_eq!(socket.state(), State::Ended);
    for _ in 0..2 {
        assert!(socket.recv().await.is_none());
    }
    assert_eq!(server.attempts().len(), 1);
    let error = socket.send("hello").await.expect_err("it has ended");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn retry_if_replaces_the_table() {
    let (socket, mut server) = script([
        Answer::Refuse("401 Unauthorized"),
        Answer::Accept,
        Answer::Accept,
    ]);
    let mut socket = socket.retry_if(|cause| {
        let status = cause.status().map(|status| status.as_u16());
        status == Some(401) || cause.close_code() == Some(4001)
    });
    assert!(disconnected(&mut socket).await.retry_in.is_some());
    // The next attempt sends the new credentials.
    let token = HeaderValue::from_static("Bearer of-good-news");
    socket.set_request(request().header("authorization", token));
    connected(&mut socket).await;
    let heads = server.heads();
    let has_token = heads.iter().map(|head| head.contains("of-good-news"));
    assert_eq!(has_token.collect::<Vec<_>>(), [false, true]);
    let mut peer = server.peer();
    peer.send(Frame::close(4001, "").unmasked()).await;
    assert!(disconnected(&mut socket).await.retry_in.is_some());
    connected(&mut socket).await;
    // By default another attempt would follow.
    drop(server.peer());
    assert!(disconnected(&mut socket).await.retry_in.is_none());
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_backoff_end_the_client() {
    let (socket, server) = script([]);
    let mut socket = socket.backoff(Backoff::new().max_failures(3));
    for is_last in [false, false, true] {
        let failure = disconnected(&mut socket).await;
        assert_eq!(failure.retry_in.is_none(), is_last);
    }
    assert!(socket.recv().await.is_none());
    assert_eq!(server.attempts().len(), 3);

    let (socket, server) = script([]);
    let backoff = Backoff::new().first(10 * SECOND).max_elapsed(100 * SECOND);
    let mut socket = socket.backoff(backoff);
    let start = Instant::now();
    while let Some(event) = socket.recv().await {
        assert!(matches!(event, Event::Disconnected(_)), "{event:?}");
    }
    assert!(start.elapsed() <= 101 * SECOND);
    // The longest wait is 30 seconds.
    assert!(server.attempts().len() >= 4);
}

#[tokio::test(start_paused = true)]
async fn only_a_stable_connection_restarts_the_backoff() {
    let (mut socket, mut server) = script([
        Answer::Break,
        Answer::Break,
        Answer::Accept,
        Answer::Accept,
        Answer::Break,
    ]);
    for failures in [1, 2] {
        assert_eq!(disconnected(&mut socket).await.failures, failures);
    }
    for (open, failures) in [
        (10 * SECOND - Duration::from_millis(1), 3),
        (10 * SECOND, 1),
    ] {
        connected(&mut socket).await;
        assert_eq!(socket.state(), State::Connected);
        sleep(open).await;
        drop(server.peer());
        assert_eq!(disconnected(&mut socket).await.failures, failures);
    }
    assert_eq!(disconnected(&mut socket).await.failures, 2);
}

#[tokio::test(start_paused = true)]
async fn messages_of_all_connections_arrive_in_order() {
    let (mut socket, mut server) = script([Answer::Accept, Answer::Accept]);
    connected(&mut socket).await;
    let mut peer = server.peer();
    socket.send("resume 0").await.expect("sent");
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "resume 0"));
    for message in ["one", "two"] {
        peer.send(Frame::new(TEXT, message).unmasked()).await;
    }
    // A message that the client never receives in full.
    peer.send(&Frame::new(TEXT, "three").unmasked()[..4]).await;
    drop(peer);
    assert_eq!(text(&mut socket).await, "one");
    assert_eq!(text(&mut socket).await, "two");
    let failure = disconnected(&mut socket).await;
    assert!(matches!(failure.cause, Cause::Failed(_)), "{failure}");
    let error = socket.send("lost?").await.expect_err("not connected");
    assert_eq!(error.kind(), ErrorKind::Closed);

    connected(&mut socket).await;
    let mut peer = server.peer();
    // Nothing was queued.
    socket.send("resume 2").await.expect("sent");
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "resume 2"));
    peer.send(Frame::new(TEXT, "three").unmasked()).await;
    peer.send(Frame::close(1000, "").unmasked()).await;
    peer.send(Frame::new(TEXT, "after the end").unmasked())
        .await;
    drop(peer);
    let rest: Vec<_> = soon(socket.collect()).await;
    match &rest[..] {
        [
            Event::Message(message),
            Event::Disconnected(Disconnected { retry_in: None, .. }),
        ] => {
            assert_eq!(*message, Message::text("three"));
        }
        rest => panic!("{rest:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn failed_send_ends_the_connection() {
    let (mut socket, mut server) = script([Answer::Accept, Answer::Accept]);
    connected(&mut socket).await;
    let mut peer = server.peer();
    peer.send(Frame::new(TEXT, "before").unmasked()).await;
    // More than the connection buffers.
    let (sent, ()) = tokio::join!(socket.send("a".repeat(5000)), async {
        sleep(SECOND).await;
        drop(peer);
    });
    let error = sent.expect_err("the connection broke");
    assert_eq!(error.kind(), ErrorKind::Io);
    let again = socket.send("again").await.expect_err("it is broken");
    assert_eq!(again.kind(), ErrorKind::Closed);
    assert_eq!(text(&mut socket).await, "before");
    let failure = disconnected(&mut socket).await;
    assert!(failure.retry_in.is_some(), "{failure}");
    connected(&mut socket).await;

    // An invalid frame does not end the connection.
    let invalid = Message::Close(Some(CloseFrame::new(1006, "")));
    let error = socket.send(invalid).await.expect_err("no code");
    assert_eq!(error.kind(), ErrorKind::InvalidCode);
    let mut peer = server.peer();
    socket.send_uncompressed("valid").await.expect("sent");
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "valid"));
}

#[tokio::test(start_paused = true)]
async fn error_of_the_application_is_a_failure() {
    let (mut socket, mut server) = script([Answer::Break, Answer::Accept, Answer::Accept]);
    socket.reconnect("ignored while not connected");
    assert_eq!(disconnected(&mut socket).await.failures, 1);
    connected(&mut socket).await;
    let mut peer = server.peer();
    peer.send(Frame::new(TEXT, "no such room").unmasked()).await;
    let error = text(&mut socket).await;
    socket.reconnect(error);
    let error = socket.send("late").await.expect_err("given up");
    assert_eq!(error.kind(), ErrorKind::Closed);
    let failure = disconnected(&mut socket).await;
    assert_eq!(failure.cause.to_string(), "no such room");
    assert!(matches!(failure.cause, Cause::Abandoned(_)));
    assert_eq!(failure.failures, 2);
    assert!(failure.retry_in.is_some());
    connected(&mut socket).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1001, ""));
}

#[tokio::test(start_paused = true)]
async fn dropped_recv_loses_nothing() {
    let (mut socket, mut server) = script([Answer::Break, Answer::Accept]);
    let mut events = Vec::new();
    let mut due = Instant::now();
    while events.len() < 2 {
        assert!(due.elapsed() < 2 * SECOND);
        match timeout(SECOND / 10, socket.recv()).await {
            Ok(Some(Event::Disconnected(failure))) => {
                due = Instant::now() + failure.retry_in.expect("another attempt");
                events.push("disconnected");
            }
            Ok(Some(Event::Connected(_))) => events.push("connected"),
            Ok(event) => panic!("{event:?}"),
            Err(_) => {}
        }
    }
    assert_eq!(events, ["disconnected", "connected"]);
    let attempts = server.attempts();
    assert_eq!(attempts.len(), 2);
    // The subtraction of a later time is zero.
    assert!(attempts[1] >= due && attempts[1] - due <= Duration::from_millis(2));

    let mut peer = server.peer();
    let frames = [
        Frame::new(TEXT, "one"),
        Frame::part(TEXT, "t"),
        Frame::part(FIN, "wo"),
    ];
    let mut texts = Vec::new();
    for byte in frames.iter().flat_map(Frame::unmasked) {
        peer.send([byte]).await;
        tokio::task::yield_now().await;
        if let Some(event) = socket.recv().now_or_never() {
            texts.push(event);
        }
    }
    match &texts[..] {
        [Some(Event::Message(one)), Some(Event::Message(two))] => {
            assert_eq!([one, two], [&Message::text("one"), &Message::text("two")]);
        }
        texts => panic!("{texts:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_recv_does_not_restart_the_attempt() {
    let (mut socket, server) = script([Answer::Silence, Answer::Accept]);
    let start = Instant::now();
    let failure = loop {
        match timeout(SECOND, socket.recv()).await {
            Ok(Some(Event::Disconnected(failure))) => break failure,
            Ok(event) => panic!("{event:?}"),
            Err(_) => assert_eq!(socket.state(), State::Connecting { attempt: 1 }),
        }
    };
    // The time limit of the handshake.
    assert_eq!(start.elapsed(), 30 * SECOND);
    let is_timeout = matches!(&failure.cause, Cause::Handshake(error) if error.kind() == client::ErrorKind::Timeout);
    assert!(is_timeout && failure.retry_in.is_some(), "{failure}");
    assert_eq!(server.attempts().len(), 1);
    connected(&mut socket).await;
}

#[tokio::test(start_paused = true)]
async fn keep_alive_detects_a_silent_server() {
    let (mut socket, mut server) = script([Answer::Accept, Answer::Accept]);
    socket.set_request(request().config(WebSocketConfig::new().keep_alive(10 * SECOND)));
    connected(&mut socket).await;
    let mut peer = server.peer();
    let start = Instant::now();
    let receiving = async {
        match socket.recv().await {
            Some(Event::Message(Message::Pong(_))) => {}
            event => panic!("{event:?}"),
        }
        disconnected(&mut socket).await
    };
    let (failure, ()) = tokio::join!(receiving, async {
        assert_eq!(Frame::read(&mut peer).await, Frame::new(PING, ""));
        peer.send(Frame::new(PONG, "").unmasked()).await;
        assert_eq!(Frame::read(&mut peer).await, Frame::new(PING, ""));
    });
    assert!(
        matches!(&failure.cause, Cause::Failed(error) if error.kind() == ErrorKind::Idle),
        "{failure}"
    );
    assert!(start.elapsed() >= 30 * SECOND && failure.retry_in.is_some());
    connected(&mut socket).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_or_closing_ends_everything() {
    let (mut socket, mut server) = script([Answer::Accept, Answer::Accept]);
    connected(&mut socket).await;
    let mut peer = server.peer();
    let closing = tokio::spawn(socket.close(CloseFrame::new(1000, "bye")));
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1000, "bye"));
    peer.send(Frame::close(1000, "bye").unmasked()).await;
    drop(peer);
    closing.await.expect("no panic").expect("an orderly end");
    sleep(1000 * SECOND).await;
    assert_eq!(server.attempts().len(), 1);

    let (mut socket, mut server) = script([Answer::Accept]);
    connected(&mut socket).await;
    let mut peer = server.peer();
    drop(socket);
    peer.expect_end().await;

    // During a wait.
    let (mut socket, server) = script([]);
    disconnected(&mut socket).await;
    let frame = CloseFrame::new(1000, "");
    socket.close(frame).await.expect("nothing to close");
    sleep(1000 * SECOND).await;
    assert_eq!(server.attempts().len(), 1);
}

#[allow(dead_code)]
fn is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Reconnecting>();
    check::<Event>();
}
