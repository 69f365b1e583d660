//! Messages in both directions.

use crate::{
    echo, handler, open,
    support::{
        soon,
        websocket::{BINARY, CONTINUATION, FIN, Frame, PING, PONG, TEXT},
    },
};
use futures_util::{SinkExt as _, StreamExt as _};
use std::{sync::Mutex, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tower_upgrade::websocket::{Message, WebSocket};

#[tokio::test]
async fn messages_of_any_size_come_back() {
    let mut opened = open(handler(echo)).await;
    for length in [
        0,
        1,
        125,
        126,
        2047,
        2048,
        2049,
        65535,
        65536,
        100_000,
        1 << 20,
        5,
    ] {
        let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
        opened.send(Frame::new(BINARY, &payload)).await;
        opened.expect(Frame::new(BINARY, &payload)).await;
    }
    opened.send(Frame::new(TEXT, "grüß dich")).await;
    opened.expect(Frame::new(TEXT, "grüß dich")).await;
}

#[tokio::test]
async fn messages_may_come_in_any_pieces() {
    let mut stream = Vec::new();
    for frame in [
        Frame::new(TEXT, "one"),
        Frame::part(TEXT, "tw"),
        Frame::new(PING, "in between"),
        Frame::part(FIN | CONTINUATION, "o"),
        Frame::new(BINARY, [7; 300]),
        Frame::new(TEXT, ""),
        Frame::new(BINARY, [8; 70_000]),
        Frame::new(TEXT, "the last"),
    ] {
        stream.extend(frame.masked());
    }
    for piece in [1, 2, 3, 5, 7, 14, 100, 4096, 70_000, stream.len()] {
        let mut opened = open(handler(echo)).await;
        let (mut reader, mut writer) = tokio::io::split(&mut opened.peer.io);
        let sending = async {
            for piece in stream.chunks(piece) {
                tokio::io::AsyncWriteExt::write_all(&mut writer, piece)
                    .await
                    .expect("a peer");
            }
        };
        let receiving = async {
            let mut expected = Vec::new();
            for frame in [
                Frame::new(TEXT, "one"),
                Frame::new(PONG, "in between"),
                Frame::new(TEXT, "two"),
                Frame::new(BINARY, [7; 300]),
                Frame::new(TEXT, ""),
                Frame::new(BINARY, [8; 70_000]),
                Frame::new(TEXT, "the last"),
            ] {
                expected.extend(frame.unmasked());
            }
            let mut read = vec![0; expected.len()];
            tokio::io::AsyncReadExt::read_exact(&mut reader, &mut read)
                .await
                .expect("a peer");
            assert!(read == expected, "in pieces of {piece}");
        };
        soon(async { tokio::join!(sending, receiving) }).await;
    }
}

#[tokio::test]
async fn ping_is_answered_while_no_message_arrives() {
    let mut opened = open(handler(echo)).await;
    opened.send(Frame::new(PING, "are you there?")).await;
    opened.expect(Frame::new(PONG, "are you there?")).await;
}

#[tokio::test]
async fn cancelled_recv_loses_no_bytes() {
    // Drops the future before each part of a frame.
    let mut opened = open(handler(|mut socket: WebSocket| async move {
        loop {
            let message = tokio::select! {
                biased;
                message = socket.recv() => message,
                () = tokio::task::yield_now() => continue,
            };
            match message {
                Some(message) => socket.send(message?).await?,
                None => return Ok(()),
            }
        }
    }))
    .await;
    let frame = Frame::new(TEXT, "piece by piece").masked();
    for byte in &frame {
        opened.peer.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    opened.expect(Frame::new(TEXT, "piece by piece")).await;
}

/// Both halves wait to write when the peer begins to read: the one with messages, the other with pongs.
#[tokio::test]
async fn two_tasks_that_wait_to_write_are_both_woken() {
    let (sent_all, is_sent) = oneshot::channel();
    let sent_all = Mutex::new(Some(sent_all));
    let mut opened = open(handler(move |socket: WebSocket| {
        let sent_all = sent_all
            .lock()
            .expect("no panic")
            .take()
            .expect("one session");
        async move {
            let (mut sink, mut stream) = socket.split();
            let sending = tokio::spawn(async move {
                for _ in 0..100 {
                    sink.send(Message::binary(vec![0; 64 * 1024])).await?;
                }
                let _ = sent_all.send(());
                Ok::<_, tower_upgrade::websocket::Error>(sink)
            });
            while let Some(message) = stream.next().await {
                if message?.as_text() == Some("done") {
                    break;
                }
            }
            drop(sending.await??);
            Ok(())
        }
    }))
    .await;
    for _ in 0..1000 {
        opened.send(Frame::new(PING, "answer me")).await;
        tokio::task::yield_now().await;
    }
    let mut messages = 0;
    while messages < 100 {
        let frame = Frame::read(&mut opened.peer).await;
        messages += usize::from(frame.opcode() == BINARY);
    }
    soon(is_sent).await.expect("it has sent all");
    opened.send(Frame::new(TEXT, "done")).await;
}

#[tokio::test]
async fn send_waits_for_a_peer_that_does_not_read() {
    let (sent, mut is_sent) = mpsc::unbounded_channel();
    let mut opened = open(handler(move |mut socket: WebSocket| {
        let sent = sent.clone();
        async move {
            loop {
                socket.feed(Message::binary(vec![0; 16 * 1024])).await?;
                let _ = sent.send(());
            }
        }
    }))
    .await;
    let mut before = 0;
    loop {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut now = before;
        while is_sent.try_recv().is_ok() {
            now += 1;
        }
        if now == before {
            break;
        }
        before = now;
    }
    // The buffer between the peers, and the limit of the queue.
    assert!(before < 20, "{before}");
    for _ in 0..100 {
        let frame = Frame::read(&mut opened.peer).await;
        assert_eq!(frame.payload.len(), 16 * 1024);
    }
}

#[tokio::test(start_paused = true)]
async fn unread_pongs_stop_reading() {
    let mut opened = open(handler(echo)).await;
    let ping = Frame::new(PING, [b'a'; 125]).masked();
    let flood = ping.repeat(20_000);
    let mut sent = 0;
    while let Ok(written) =
        timeout(Duration::from_secs(1), opened.peer.io.write(&flood[sent..])).await
    {
        sent += written.expect("it is open");
        assert!(sent < flood.len(), "all of it is taken");
    }
    // The buffers between the peers, and the limit of the queue.
    assert!(sent < 300_000, "{sent}");
    // Once it reads, nothing is missing.
    for _ in 0..sent / ping.len() {
        opened.expect(Frame::new(PONG, [b'a'; 125])).await;
    }
}

/// They are not answered, and are received like messages.
#[tokio::test(start_paused = true)]
async fn unreceived_pongs_are_not_read() {
    let mut opened = open(handler(|socket: WebSocket| async move {
        std::future::pending::<()>().await;
        drop(socket);
        Ok(())
    }))
    .await;
    let flood = Frame::new(PONG, [b'a'; 125]).masked().repeat(20_000);
    let mut sent = 0;
    while let Ok(written) =
        timeout(Duration::from_secs(1), opened.peer.io.write(&flood[sent..])).await
    {
        sent += written.expect("it is open");
        assert!(sent < flood.len(), "all of it is taken");
    }
    // The buffers between both ends.
    assert!(sent < 200_000, "{sent}");
}
