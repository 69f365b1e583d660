//! A peer that is silent.

use crate::{
    echo, handler, notes, open,
    support::websocket::{BINARY, Frame, PING, PONG, TEXT},
};
use futures_util::{SinkExt as _, StreamExt as _};
use std::{future::pending, time::Duration};
use tokio::time::{Instant, interval, sleep};
use tower_upgrade::websocket::{Error, Message, WebSocket, WebSocketConfig};

const INTERVAL: Duration = Duration::from_secs(10);

const KEEP_ALIVE: WebSocketConfig = WebSocketConfig::new().keep_alive(INTERVAL);

#[tokio::test(start_paused = true)]
async fn peer_that_answers_pings_stays_open() {
    let mut opened = open(handler(echo).config(KEEP_ALIVE)).await;
    for _ in 0..10 {
        opened.expect(Frame::new(PING, "")).await;
        opened.send(Frame::new(PONG, "")).await;
    }
    opened.send(Frame::new(TEXT, "still here")).await;
    opened.expect(Frame::new(TEXT, "still here")).await;
}

#[tokio::test(start_paused = true)]
async fn unanswered_ping_closes_as_idle() {
    let start = Instant::now();
    let mut opened = open(handler(echo).config(KEEP_ALIVE)).await;
    opened.expect(Frame::new(PING, "")).await;
    assert_eq!(start.elapsed(), INTERVAL);
    assert_eq!(opened.closed.recv().await.as_deref(), Some("idle"));
    assert_eq!(start.elapsed(), 2 * INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn peer_that_sends_is_not_pinged() {
    let mut opened = open(handler(echo).config(KEEP_ALIVE)).await;
    for _ in 0..100 {
        sleep(INTERVAL / 2).await;
        opened.send(Frame::new(TEXT, "hello")).await;
        opened.expect(Frame::new(TEXT, "hello")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn slow_long_message_counts_as_activity() {
    let mut opened = open(handler(echo).config(KEEP_ALIVE)).await;
    let message = Frame::new(TEXT, [b'a'; 100]);
    for byte in message.masked() {
        sleep(INTERVAL / 2).await;
        opened.peer.send([byte]).await;
    }
    opened.expect(message).await;
}

#[tokio::test(start_paused = true)]
async fn silent_peer_stays_open_by_default() {
    let mut opened = open(handler(echo)).await;
    sleep(Duration::from_secs(1_000_000)).await;
    opened.send(Frame::new(TEXT, "hello")).await;
    opened.expect(Frame::new(TEXT, "hello")).await;
}

/// Several times as long as the buffers of a connection in memory.
fn long() -> Message {
    Message::binary(vec![7; 256 * 1024])
}

fn kind<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// The shape of each broadcast: the handler receives until it has a message to send.
#[tokio::test(start_paused = true)]
async fn s11_peer_that_stops_reading_ends_the_session_as_idle() {
    let (note, mut noted) = notes();
    let handler = handler(move |mut socket: WebSocket| {
        let note = note.clone();
        async move {
            let mut tick = interval(INTERVAL / 10);
            loop {
                tokio::select! {
                    received = socket.recv() => drop(received.expect("not closed")?),
                    _ = tick.tick() => {
                        let sent = socket.send(long()).await;
                        if let Err(error) = &sent {
                            note(format!("{:?}", error.kind()));
                        }
                        sent?;
                    }
                }
            }
        }
    });
    let start = Instant::now();
    let mut opened = open(handler.config(KEEP_ALIVE)).await;
    assert_eq!(opened.closed.recv().await.as_deref(), Some("idle"));
    assert!(start.elapsed() <= 3 * INTERVAL, "{:?}", start.elapsed());
    assert_eq!(noted.recv().await.as_deref(), Some("Idle"));
}

/// A peer that sends, and answers no ping because it does not read.
#[tokio::test(start_paused = true)]
async fn s11_peer_that_sends_and_does_not_read_ends_the_session_as_idle() {
    let handler = handler(|mut socket: WebSocket| async move {
        socket.send(long()).await?;
        echo(socket).await
    });
    let mut opened = open(handler.config(KEEP_ALIVE)).await;
    let start = Instant::now();
    let closed = loop {
        tokio::select! {
            closed = opened.closed.recv() => break closed,
            () = sleep(INTERVAL / 4) => {
                // The connection may have ended in between.
                let ping = Frame::new(PING, "").masked();
                let _ = tokio::io::AsyncWriteExt::write_all(&mut opened.peer.io, &ping).await;
            }
        }
    };
    assert_eq!(closed.as_deref(), Some("idle"));
    assert!(start.elapsed() <= 3 * INTERVAL, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn slow_reader_that_reads_on_stays() {
    let handler = handler(|mut socket: WebSocket| async move {
        for _ in 0..4 {
            socket.send(long()).await?;
        }
        echo(socket).await
    });
    let mut opened = open(handler.config(KEEP_ALIVE)).await;
    let mut read = 0;
    // Bytes arrive in each interval, but no pong: the ping is queued behind a long message.
    while read < 1024 * 1024 {
        sleep(INTERVAL * 2 / 3).await;
        read += opened.peer.exactly(64 * 1024).await.len();
    }
    opened.send(Frame::new(TEXT, "done")).await;
    assert!(opened.closed.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn handler_that_does_not_receive_keeps_a_peer_that_answers() {
    let handler = handler(|mut socket: WebSocket| async move {
        sleep(20 * INTERVAL).await;
        socket.send("late").await?;
        echo(socket).await
    });
    let mut opened = open(handler.config(KEEP_ALIVE)).await;
    loop {
        let frame = Frame::read(&mut opened.peer).await;
        match frame.opcode() {
            PING => opened.send(Frame::new(PONG, "")).await,
            _ => {
                assert_eq!(frame, Frame::new(TEXT, "late"));
                break;
            }
        }
    }
    opened.send(Frame::new(TEXT, "hello")).await;
    opened.expect(Frame::new(TEXT, "hello")).await;
}

#[tokio::test(start_paused = true)]
async fn handler_that_does_not_receive_loses_a_peer_that_does_not_answer() {
    // The handler does not notice, and is aborted 10 seconds later.
    for (is_waiting, grace) in [(true, Duration::from_secs(10)), (false, INTERVAL / 3)] {
        let handler = handler(move |mut socket: WebSocket| async move {
            if is_waiting {
                return pending().await;
            }
            loop {
                socket.send("tick").await?;
                sleep(INTERVAL / 3).await;
            }
        });
        let start = Instant::now();
        let mut opened = open(handler.config(KEEP_ALIVE)).await;
        assert_eq!(opened.closed.recv().await.as_deref(), Some("idle"));
        assert!(
            start.elapsed() <= 2 * INTERVAL + grace,
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn message_that_comes_while_nothing_receives_is_received_later() {
    let handler = handler(|mut socket: WebSocket| async move {
        sleep(2 * INTERVAL).await;
        for expected in ["one", "two", "three"] {
            assert_eq!(socket.recv().await.expect("open")?, Message::text(expected));
        }
        socket.send("done").await?;
        Ok(())
    });
    let mut opened = open(handler.config(KEEP_ALIVE)).await;
    for text in ["one", "two", "three"] {
        opened.send(Frame::new(TEXT, text)).await;
    }
    loop {
        let frame = Frame::read(&mut opened.peer).await;
        if frame.opcode() != PING {
            assert_eq!(frame, Frame::new(TEXT, "done"));
            break;
        }
    }
}

/// The close frame and the end of the connection are there, and the handler does not receive them.
#[tokio::test(start_paused = true)]
async fn s11_handler_that_does_not_receive_ends_when_its_peer_has_closed() {
    for sends_close_frame in [true, false] {
        let handler = handler(|_socket: WebSocket| pending());
        let mut opened = open(handler.config(KEEP_ALIVE)).await;
        if sends_close_frame {
            opened.send(Frame::close(1000, "")).await;
        } else {
            opened.peer.finish().await;
        }
        let closed = tokio::time::timeout(100 * INTERVAL, opened.closed.recv()).await;
        assert_eq!(closed.expect("it ends").as_deref(), Some("idle"));
    }
}

#[tokio::test(start_paused = true)]
async fn handler_that_cleans_up_after_the_end_is_not_aborted() {
    let handler = handler(|mut socket: WebSocket| async move {
        while let Some(message) = socket.recv().await {
            message?;
        }
        sleep(100 * INTERVAL).await;
        Ok(())
    });
    let mut opened = open(handler.config(KEEP_ALIVE)).await;
    opened.send(Frame::close(1000, "")).await;
    opened.expect(Frame::close(1000, "")).await;
    let closed = tokio::time::timeout(101 * INTERVAL, opened.closed.recv()).await;
    assert_eq!(closed.expect("it ends").as_deref(), Some("finished"));
}

/// Only the keep-alive writes the rest: the handler waits for something else, and a message waits to be received.
#[tokio::test(start_paused = true)]
async fn rest_of_a_message_whose_send_was_dropped_is_written() {
    let handler = handler(|mut socket: WebSocket| async move {
        let sent = tokio::time::timeout(INTERVAL / 2, socket.send(long())).await;
        assert!(sent.is_err(), "it does not fit");
        pending().await
    });
    let mut opened = open(handler.config(KEEP_ALIVE)).await;
    opened.send(Frame::new(TEXT, "hello")).await;
    sleep(INTERVAL * 3 / 4).await;
    assert_eq!(Frame::read(&mut opened.peer).await.opcode(), BINARY);
    assert!(opened.closed.try_recv().is_err());
}

/// The reader waits in another task, which the session's task does not wake.
#[tokio::test(start_paused = true)]
async fn halves_in_other_tasks_are_served_and_end_as_idle() {
    let (note, mut noted) = notes();
    let handler = handler(move |socket: WebSocket| {
        let note = note.clone();
        async move {
            let (mut sink, mut stream) = socket.split();
            let reader = tokio::spawn(async move {
                while let Some(received) = stream.next().await {
                    note(kind(received));
                }
            });
            let writer = tokio::spawn(async move {
                let mut sent = Ok(());
                while sent.is_ok() {
                    sleep(8 * INTERVAL).await;
                    sent = sink.send(long()).await;
                }
                sent
            });
            reader.await?;
            assert_eq!(kind(writer.await?), "Idle");
            Ok(())
        }
    });
    let mut opened = open(handler.config(KEEP_ALIVE)).await;
    for _ in 0..3 {
        opened.expect(Frame::new(PING, "")).await;
        opened.send(Frame::new(PONG, "")).await;
        opened.send(Frame::new(TEXT, "hello")).await;
        assert_eq!(noted.recv().await.as_deref(), Some("ok"));
    }
    assert_eq!(opened.closed.recv().await.as_deref(), Some("idle"));
    while noted.recv().await.expect("the reader is told") != "Idle" {}
}
