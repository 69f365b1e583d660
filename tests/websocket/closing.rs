//! How it ends.

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
async fn the_peer_closes() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |socket| listen(socket, note.clone()))).await;
    opened.send(Frame::close(3001, "enough")).await;
    opened.expect(Frame::close(3001, "enough")).await;
    assert_eq!(opened.ended().await, "finished");
    assert_eq!(noted.recv().await.as_deref(), Some("close 3001 enough"));
    assert_eq!(noted.recv().await.as_deref(), Some("closed"));
}

#[tokio::test]
async fn the_peer_closes_and_nobody_receives_any_more() {
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
async fn a_handler_that_ends_closes_with_1000() {
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
async fn a_handler_that_fails_closes_with_1011() {
    let mut opened = open(handler(|_socket| async { Err("no luck".into()) })).await;
    opened.expect(Frame::close(1011, "")).await;
    opened.send(Frame::close(1011, "")).await;
    assert_eq!(opened.ended().await, "failed: no luck");
}

#[tokio::test]
async fn a_handler_closes_as_it_likes() {
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

/// It may be answered as well (RFC 6455 §5.5.1 forbids data only), but nobody needs that any more.
#[tokio::test]
async fn a_ping_behind_our_close_frame_disturbs_nothing() {
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
async fn an_order_to_stop_is_heeded_without_code() {
    let (note, mut noted) = notes();
    let mut opened = open(handler(move |socket| listen(socket, note.clone()))).await;
    opened.send(Frame::new(TEXT, "hello")).await;
    assert_eq!(noted.recv().await.as_deref(), Some("text hello"));
    let drain = opened.sessions.clone();
    let drain = tokio::spawn(async move { drain.drain(Duration::from_secs(60)).await });
    opened.expect(Frame::close(1001, "")).await;
    // What was on its way still arrives.
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
async fn an_order_to_stop_is_heeded_though_there_is_more_to_receive() {
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
async fn a_handler_that_takes_the_order_to_stop_closes_as_it_likes() {
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
async fn the_order_to_stop_is_taken_once() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        let stop = socket.take_stop();
        let never = socket.take_stop();
        tokio::select! {
            () = stop => {}
            () = never => return Err("it was taken twice".into()),
        }
        // Who takes it and then only ends says the same as without.
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
async fn one_who_only_sends_is_stopped_as_well() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        loop {
            socket.send("tick").await?;
            // What it would do without a `select!` is to miss the end.
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
    // To send behind the close frame is an error, which is none of the session's.
    assert_eq!(opened.ended().await, "drained");
    soon(drain).await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_the_close_frame_is_not_waited_for() {
    let layer = UpgradeLayer::new().shutdown_timeout(Duration::from_secs(3));
    let mut opened = open_with(layer, handler(|_socket| async { Ok(()) })).await;
    let start = Instant::now();
    opened.expect(Frame::close(1000, "")).await;
    assert_eq!(opened.ended().await, "finished");
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn a_connection_that_ends_without_a_close_frame_is_an_error() {
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
async fn after_an_error_there_is_nothing_more() {
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
async fn the_session_beside_the_socket_has_all_but_the_io() {
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
async fn a_peer_that_does_not_answer_an_order_to_stop_is_not_waited_for() {
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
async fn a_handler_that_closes_waits_for_the_answer_no_longer_than_that() {
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
async fn an_order_to_stop_is_heeded_while_the_peer_never_stops_sending() {
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
async fn the_error_of_a_handler_is_not_lost_while_the_peer_is_waited_for() {
    let layer = UpgradeLayer::new()
        .idle_timeout(Duration::from_secs(1))
        .shutdown_timeout(Duration::from_secs(3));
    let mut opened = open_with(layer, handler(|_socket| async { Err("no luck".into()) })).await;
    opened.expect(Frame::close(1011, "")).await;
    assert_eq!(opened.ended().await, "failed: no luck");
}

#[tokio::test]
async fn a_control_frame_that_is_too_long_is_not_sent() {
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
async fn one_who_sends_when_the_peer_has_closed_has_not_failed() {
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        loop {
            // It does not look at what it receives.
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
async fn a_reason_that_is_too_long_is_not_sent() {
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
async fn a_close_frame_that_was_sent_is_waited_for_no_longer_than_that() {
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
async fn without_a_limit_it_is_waited_for() {
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
async fn a_handler_that_ends_at_the_order_to_stop_closes_with_1001() {
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
