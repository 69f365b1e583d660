//! Closing a WebSocket.

use crate::{
    brief, echo, handler, listen, notes, open, open_with,
    support::{
        soon,
        websocket::{Frame, PING, TEXT},
    },
};
use std::time::Duration;
use tokio::time::Instant;
use tower_upgrade::{
    UpgradeLayer,
    websocket::{CloseFrame, ErrorKind, Message, WebSocket, websocket},
};

#[tokio::test]
async fn close_of_the_peer_is_received_and_answered() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |socket| listen(socket, note.clone()))).await;
    opened.send(Frame::close(3001, "enough")).await;
    opened.expect(Frame::close(3001, "enough")).await;
    assert_eq!(opened.ended().await, "finished");
    assert_eq!(noted.recv().await.as_deref(), Some("close 3001 enough"));
    assert_eq!(noted.recv().await.as_deref(), Some("closed"));
}

#[tokio::test]
async fn close_of_the_peer_is_answered_after_the_handler() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        socket.recv().await;
        Ok(())
    }))
    .await;
    opened.send(Frame::close(1000, "")).await;
    opened.expect(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn handler_that_returns_ok_closes_with_1000() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        socket.send("hello").await?;
        Ok(())
    }))
    .await;
    opened.expect(Frame::new(TEXT, "hello")).await;
    opened.expect(Frame::close(1000, "")).await;
    opened.send(Frame::new(TEXT, "not heard any more")).await;
    opened.send(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn handler_that_returns_an_error_closes_with_1011() {
    let mut opened = open(handler(|_socket| async { Err("no luck".into()) })).await;
    opened.expect(Frame::close(1011, "")).await;
    opened.send(Frame::close(1011, "")).await;
    assert_eq!(opened.ended().await, "failed: no luck");
}

#[tokio::test]
async fn handler_chooses_code_and_reason() {
    let mut opened = open(handler(|socket: WebSocket| async move {
        socket.close(CloseFrame::new(3000, "go away")).await?;
        Ok(())
    }))
    .await;
    opened.expect(Frame::close(3000, "go away")).await;
    opened.send(Frame::new(TEXT, "wait")).await;
    opened.send(Frame::close(3000, "go away")).await;
    assert_eq!(opened.ended().await, "finished");
}

/// A pong would be allowed (RFC 6455 §5.5.1 forbids only data), but is not needed.
#[tokio::test]
async fn ping_after_our_close_frame_is_ignored() {
    let mut opened = open(handler(|socket: WebSocket| async move {
        Ok(socket.close(CloseFrame::new(3000, "")).await?)
    }))
    .await;
    opened.expect(Frame::close(3000, "")).await;
    opened.send(Frame::new(PING, "are you there?")).await;
    opened.send(Frame::new(TEXT, "hello?")).await;
    opened.send(Frame::close(3000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn nothing_is_sent_behind_a_close_frame() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |mut socket: WebSocket| {
        let note = note.clone();
        async move {
            socket.send(Message::Close(None)).await?;
            let error = socket.send("more").await.expect_err("it is closed");
            note(format!("{:?}", error.kind()));
            Ok(())
        }
    }))
    .await;
    assert_eq!(noted.recv().await.as_deref(), Some("Closed"));
    opened.expect(Frame::new(8, "")).await;
    opened.send(Frame::new(8, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn stop_signal_closes_with_1001() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |socket| listen(socket, note.clone()))).await;
    opened.send(Frame::new(TEXT, "hello")).await;
    assert_eq!(noted.recv().await.as_deref(), Some("text hello"));
    let drain = opened.sessions.clone();
    let drain = tokio::spawn(async move { drain.drain(Duration::from_secs(60)).await });
    opened.expect(Frame::close(1001, "")).await;
    // Messages sent before the close frame still arrive.
    opened.send(Frame::new(TEXT, "one more")).await;
    opened.send(Frame::close(1001, "")).await;
    assert_eq!(opened.ended().await, "drained");
    for expected in ["text one more", "close 1001 ", "closed"] {
        assert_eq!(noted.recv().await.as_deref(), Some(expected));
    }
    let report = soon(drain).await.expect("no panic");
    assert_eq!((report.ended, report.aborted), (1, 0));
}

#[tokio::test]
async fn stop_signal_closes_while_messages_are_queued() {
    let (note, mut noted) = notes();
    let mut opened = open(websocket(move |mut socket, session| {
        let note = note.clone();
        async move {
            note(brief(&socket.recv().await));
            session.stop().await;
            note(brief(&socket.recv().await));
            std::future::pending().await
        }
    }))
    .await;
    let frames = ["one", "two", "three"].map(|text| Frame::new(TEXT, text).masked());
    opened.peer.send(frames.concat()).await;
    assert_eq!(noted.recv().await.as_deref(), Some("text one"));
    let drain = opened.sessions.clone();
    let drain = tokio::spawn(async move { drain.drain(Duration::from_secs(60)).await });
    opened.expect(Frame::close(1001, "")).await;
    assert_eq!(noted.recv().await.as_deref(), Some("text two"));
    drain.abort();
}

#[tokio::test]
async fn handler_that_takes_the_stop_signal_chooses_the_code() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        let mut stop = socket.take_stop();
        loop {
            tokio::select! {
                // Where it would be heeded first.
                biased;
                message = socket.recv() => match message.transpose()? {
                    Some(message) => socket.send(message).await?,
                    None => return Ok(()),
                },
                () = &mut stop => {
                    socket.send("goodbye").await?;
                    return Ok(socket.close(CloseFrame::new(4000, "moved")).await?);
                }
            }
        }
    }))
    .await;
    opened.send(Frame::new(TEXT, "hello")).await;
    opened.expect(Frame::new(TEXT, "hello")).await;
    let drain = opened.sessions.clone();
    let drain = tokio::spawn(async move { drain.drain(Duration::from_secs(60)).await });
    opened.expect(Frame::new(TEXT, "goodbye")).await;
    opened.expect(Frame::close(4000, "moved")).await;
    opened.send(Frame::close(4000, "moved")).await;
    assert_eq!(opened.ended().await, "drained");
    soon(drain).await.expect("no panic");
}

#[tokio::test]
async fn stop_signal_is_taken_once() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        let stop = socket.take_stop();
        let never = socket.take_stop();
        tokio::select! {
            () = stop => {}
            () = never => return Err("it was taken twice".into()),
        }
        // A handler that takes the signal and then ends closes with the same code.
        Ok(())
    }))
    .await;
    let drain = opened.sessions.clone();
    let drain = tokio::spawn(async move { drain.drain(Duration::from_secs(60)).await });
    opened.expect(Frame::close(1001, "")).await;
    opened.send(Frame::close(1001, "")).await;
    assert_eq!(opened.ended().await, "drained");
    soon(drain).await.expect("no panic");
}

#[tokio::test]
async fn stop_signal_fails_the_next_send() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        loop {
            socket.send("tick").await?;
            // Without a `select!` the handler would miss the signal.
            while let Ok(Some(message)) =
                tokio::time::timeout(Duration::from_millis(1), socket.recv()).await
            {
                message?;
            }
        }
    }))
    .await;
    opened.expect(Frame::new(TEXT, "tick")).await;
    let drain = opened.sessions.clone();
    let drain = tokio::spawn(async move { drain.drain(Duration::from_secs(60)).await });
    loop {
        let frame = Frame::read(&mut opened.peer).await;
        if frame == Frame::close(1001, "") {
            break;
        }
        assert_eq!(frame, Frame::new(TEXT, "tick"));
    }
    opened.send(Frame::close(1001, "")).await;
    // Sending after the close frame is an error, but not a failure of the session.
    assert_eq!(opened.ended().await, "drained");
    soon(drain).await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn unanswered_close_ends_after_shutdown_timeout() {
    let layer = UpgradeLayer::new().shutdown_timeout(Duration::from_secs(3));
    let mut opened = open_with(layer, handler(|_socket| async { Ok(()) })).await;
    let start = Instant::now();
    opened.expect(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn end_without_a_close_frame_is_an_error() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |socket| listen(socket, note.clone()))).await;
    opened.send(Frame::new(TEXT, "hello")).await;
    opened.peer.finish().await;
    assert_eq!(noted.recv().await.as_deref(), Some("text hello"));
    assert_eq!(noted.recv().await.as_deref(), Some("Io"));
    let reason = opened.ended().await;
    assert!(reason.starts_with("failed: "), "{reason}");
}

#[tokio::test]
async fn recv_after_an_error_returns_none_and_send_fails() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |mut socket: WebSocket| {
        let note = note.clone();
        async move {
            note(brief(&socket.recv().await));
            note(brief(&socket.recv().await));
            let error = socket.send("more").await.expect_err("it has ended");
            assert_eq!(error.kind(), ErrorKind::Closed);
            Ok(())
        }
    }))
    .await;
    opened.send(Frame::part(0x80 | 3, "reserved")).await;
    assert_eq!(noted.recv().await.as_deref(), Some("Protocol"));
    assert_eq!(noted.recv().await.as_deref(), Some("closed"));
    opened.expect(Frame::close(1002, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn session_argument_has_everything_but_the_io() {
    use tokio::io::AsyncReadExt as _;
    let opened = open(websocket(|socket, mut session| async move {
        assert_eq!(session.protocol().expect("a protocol"), &"websocket");
        let read = session.io_mut().read(&mut [0]).await;
        assert_eq!(
            read.expect_err("no IO").kind(),
            std::io::ErrorKind::NotConnected
        );
        drop(session);
        echo(socket).await
    }))
    .await;
    let mut opened = opened;
    opened.send(Frame::new(PING, "")).await;
    opened.expect(Frame::new(10, "")).await;
}

#[tokio::test(start_paused = true)]
async fn unanswered_close_at_the_stop_signal_ends_in_time() {
    let layer = UpgradeLayer::new().shutdown_timeout(Duration::from_secs(3));
    let mut opened = open_with(layer, handler(echo)).await;
    let start = Instant::now();
    let drain = opened.sessions.clone();
    let drain = tokio::spawn(async move { drain.drain(Duration::from_secs(3600)).await });
    opened.expect(Frame::close(1001, "")).await;
    assert_eq!(opened.ended().await, "drained");
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    let report = drain.await.expect("no panic");
    assert_eq!((report.ended, report.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn close_waits_at_most_the_shutdown_timeout() {
    let (note, mut noted) = notes();
    let layer = UpgradeLayer::new().shutdown_timeout(Duration::from_secs(3));
    let handler = handler(move |socket: WebSocket| {
        let note = note.clone();
        async move {
            let closed = socket.close(CloseFrame::new(3000, "go away")).await;
            note(format!("{:?}", closed.expect_err("no answer").kind()));
            Ok(())
        }
    });
    let mut opened = open_with(layer, handler).await;
    let start = Instant::now();
    opened.expect(Frame::close(3000, "go away")).await;
    assert_eq!(opened.ended().await, "finished");
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert_eq!(noted.recv().await.as_deref(), Some("Io"));
}

#[tokio::test]
async fn stop_signal_ends_a_peer_that_keeps_sending() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        while let Some(message) = socket.recv().await {
            message?;
            // It works, and the peer sends more in the meantime.
            tokio::task::yield_now().await;
        }
        Ok(())
    }))
    .await;
    let (mut reader, mut writer) = tokio::io::split(&mut opened.peer.io);
    let flood = Frame::new(TEXT, "hello").masked().repeat(1000);
    let flooding = async {
        while tokio::io::AsyncWriteExt::write_all(&mut writer, &flood)
            .await
            .is_ok()
        {}
    };
    let sessions = opened.sessions.clone();
    let stopping = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let drain = tokio::spawn(sessions.drain(Duration::from_secs(60)));
        let mut frame = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut frame)
            .await
            .expect("a close frame");
        drain.abort();
        frame
    };
    let frame = tokio::select! {
        () = flooding => panic!("it ended"),
        frame = soon(stopping) => frame,
    };
    assert_eq!(frame.to_vec(), Frame::close(1001, "").unmasked());
}

#[tokio::test(start_paused = true)]
async fn handler_error_survives_the_wait_for_the_peer() {
    let layer = UpgradeLayer::new()
        .idle_timeout(Duration::from_secs(1))
        .shutdown_timeout(Duration::from_secs(3));
    let mut opened = open_with(layer, handler(|_socket| async { Err("no luck".into()) })).await;
    opened.expect(Frame::close(1011, "")).await;
    assert_eq!(opened.ended().await, "failed: no luck");
}

#[tokio::test]
async fn long_control_frame_is_an_error() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |mut socket: WebSocket| {
        let note = note.clone();
        async move {
            let sent = socket.send(Message::Ping(vec![0; 126].into())).await;
            note(format!("{}", sent.is_err()));
            socket.send("still here").await?;
            Ok(())
        }
    }))
    .await;
    assert_eq!(noted.recv().await.as_deref(), Some("true"));
    opened.expect(Frame::new(TEXT, "still here")).await;
}

#[tokio::test]
async fn send_after_the_peers_close_is_not_a_failure() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        loop {
            // The handler ignores received messages.
            socket.recv().await;
            socket.send("news").await?;
        }
    }))
    .await;
    opened.send(Frame::new(TEXT, "hello")).await;
    opened.expect(Frame::new(TEXT, "news")).await;
    opened.send(Frame::close(1000, "")).await;
    opened.expect(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn long_close_reason_is_an_error() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |mut socket: WebSocket| {
        let note = note.clone();
        async move {
            let long = CloseFrame::new(3000, "a".repeat(124));
            let sent = socket.send(Message::Close(Some(long.clone()))).await;
            note(format!("{:?}", sent.expect_err("too long").kind()));
            let closed = socket.close(long).await;
            note(format!("{:?}", closed.expect_err("too long").kind()));
            Ok(())
        }
    }))
    .await;
    assert_eq!(noted.recv().await.as_deref(), Some("TooLarge"));
    assert_eq!(noted.recv().await.as_deref(), Some("TooLarge"));
    opened.expect(Frame::close(1000, "")).await;
}

#[tokio::test(start_paused = true)]
async fn sent_close_frame_waits_at_most_the_shutdown_timeout() {
    let (note, mut noted) = notes();
    let layer = UpgradeLayer::new().shutdown_timeout(Duration::from_secs(3));
    let handler = handler(move |mut socket: WebSocket| {
        let note = note.clone();
        async move {
            socket.send(Message::Close(None)).await?;
            listen(socket, note).await
        }
    });
    let mut opened = open_with(layer, handler).await;
    let start = Instant::now();
    opened.expect(Frame::new(8, "")).await;
    assert_eq!(noted.recv().await.as_deref(), Some("Io"));
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    let reason = opened.ended().await;
    assert_eq!(reason, "failed: the peer did not answer the close frame");
}

#[tokio::test(start_paused = true)]
async fn close_without_shutdown_timeout_waits_for_the_answer() {
    let layer = UpgradeLayer::new().shutdown_timeout(None);
    let handler = handler(|socket: WebSocket| async move {
        socket.close(CloseFrame::new(3000, "")).await?;
        Ok(())
    });
    let mut opened = open_with(layer, handler).await;
    opened.expect(Frame::close(3000, "")).await;
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    opened.send(Frame::close(3000, "")).await;
    assert_eq!(opened.ended().await, "finished");
}

#[tokio::test]
async fn handler_that_ends_at_the_stop_signal_closes_with_1001() {
    let mut opened = open(tower_upgrade::websocket::websocket(
        |_socket, session| async move {
            session.stop().await;
            Ok(())
        },
    ))
    .await;
    let drain = opened.sessions.clone();
    let drain = tokio::spawn(async move { drain.drain(Duration::from_secs(60)).await });
    opened.expect(Frame::close(1001, "")).await;
    opened.send(Frame::close(1001, "")).await;
    assert_eq!(opened.ended().await, "drained");
    soon(drain).await.expect("no panic");
}
