//! HTTP/2: when writes, flushes and shutdowns complete, and which streams a full window blocks.

use crate::connection::{Offered, answering, http2, http2_in_memory};
use crate::http2::{EXTENDED_CONNECT, ask, round_trip};
use crate::support::{Server, Via, frames, h2::Client, handlers::echo, plain, soon, text};
use futures_util::FutureExt as _;
use h2::Reason;
use http::StatusCode;
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Session, UpgradeLayer, handler_fn};

const END_STREAM: u8 = 1;

/// Sets the client's initial stream window to 0.
async fn close_window<Io>(client: &mut frames::Connection<Io>)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    let setting = [&INITIAL_WINDOW_SIZE[..], &0_u32.to_be_bytes()].concat();
    client.send(frames::SETTINGS, 0, 0, &setting).await;
}

async fn open_window<Io>(client: &mut frames::Connection<Io>, stream: u32, count: u32)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let count = count.to_be_bytes();
    client.send(frames::WINDOW_UPDATE, 0, stream, &count).await;
}

/// Starts a session over plain hyper, with a client window of 0.
async fn start_blocked(
    client: &mut frames::Connection,
    mut offered: Offered,
) -> (u32, TokioIo<hyper::upgrade::Upgraded>) {
    close_window(client).await;
    let stream = client.request(&EXTENDED_CONNECT).await;
    assert_eq!(client.frame_of(stream).await.kind, frames::HEADERS);
    (stream, offered.io().await)
}

async fn data_of(client: &mut frames::Connection, stream: u32) -> frames::Frame {
    let frame = client.frame_of(stream).await;
    assert_eq!(frame.kind, frames::DATA, "{frame:?}");
    frame
}

/// Manual: "A flush does not mean that data was sent". The documentation of `Upgraded` says the same of
/// HTTP/2.
#[tokio::test]
async fn flush_waits_for_room_in_the_channel_and_not_for_sending() {
    let (service, offered) = answering(StatusCode::OK);
    let (_connection, peer) = http2(service).await;
    let mut client = frames::Connection::connect(peer).await;
    let (stream, mut io) = start_blocked(&mut client, offered).await;
    for text in ["one, ", "two, "] {
        soon(io.write_all(text.as_bytes())).await.expect("room");
        soon(io.flush()).await.expect("room");
        round_trip(&mut client).await;
    }
    // The channel accepts a third write; then it is full.
    soon(io.write_all(b"three")).await.expect("room");
    round_trip(&mut client).await;
    assert!(io.flush().now_or_never().is_none());
    assert!(io.write(b"four").now_or_never().is_none());

    open_window(&mut client, stream, 1024).await;
    soon(io.flush()).await.expect("room");
    let mut heard = String::new();
    while heard.len() < 15 {
        heard.push_str(&text(&data_of(&mut client, stream).await.payload));
    }
    assert_eq!(heard, "one, two, three");
}

/// Manual: "A flush does not mean that data was sent".
#[tokio::test]
async fn write_of_any_length_is_accepted_as_a_whole() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let (service, offered) = answering(StatusCode::OK);
    let (_connection, peer) = http2(service).await;
    let mut client = frames::Connection::connect(peer).await;
    let (_stream, mut io) = start_blocked(&mut client, offered).await;
    for _ in 0..2 {
        let written = soon(io.write(&vec![0; LENGTH])).await.expect("room");
        assert_eq!(written, LENGTH);
        round_trip(&mut client).await;
    }
}

/// Manual: "A flush does not mean that data was sent".
#[tokio::test]
async fn shutdown_waits_until_peer_receives_one_byte_of_last_write() {
    let (service, offered) = answering(StatusCode::OK);
    let (_connection, peer) = http2(service).await;
    let mut client = frames::Connection::connect(peer).await;
    let (stream, mut io) = start_blocked(&mut client, offered).await;
    soon(io.write_all(b"words")).await.expect("room");
    soon(io.flush()).await.expect("room");
    round_trip(&mut client).await;
    assert!(io.shutdown().now_or_never().is_none());
    round_trip(&mut client).await;
    assert!(io.shutdown().now_or_never().is_none());

    open_window(&mut client, stream, 1).await;
    let data = data_of(&mut client, stream).await;
    assert_eq!((text(&data.payload).as_str(), data.flags), ("w", 0));
    soon(io.shutdown()).await.expect("handed to h2");
    open_window(&mut client, stream, 1024).await;
    let data = data_of(&mut client, stream).await;
    assert_eq!(text(&data.payload), "ords");
    if data.flags != END_STREAM {
        let end = data_of(&mut client, stream).await;
        assert_eq!((end.payload.len(), end.flags), (0, END_STREAM));
    }
}

/// Manual: "A stream outlives its session". If hyper resets the stream when its `Upgraded` is dropped, the
/// shutdown timeout ends the stream: remove the section.
#[tokio::test(start_paused = true)]
async fn unsent_data_outlives_the_shutdown_timeout() {
    let brief = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(b"brief").await?;
        Ok(())
    });
    let layer = UpgradeLayer::new()
        .protocol("listen", brief)
        .shutdown_timeout(Duration::from_secs(1));
    let (connection, peer) = http2_in_memory(layer.layer(service_fn(plain)));
    let mut client = frames::Connection::connect(peer).await;
    close_window(&mut client).await;
    let stream = client.request(&EXTENDED_CONNECT).await;
    assert_eq!(client.frame_of(stream).await.kind, frames::HEADERS);
    // All timers of the session have expired, and the client receives nothing.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let served = connection.shut_down().await;
    let ping = client.next(frames::PING).await;
    client
        .send(frames::PING, frames::ACK, 0, &ping.payload)
        .await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!served.is_finished());

    open_window(&mut client, stream, 1024).await;
    let data = client.frame_of(stream).await;
    assert_eq!(
        (data.kind, text(&data.payload)),
        (frames::DATA, "brief".into())
    );
    let end = client.frame_of(stream).await;
    assert_eq!((end.kind, end.flags), (frames::DATA, END_STREAM));
    let ended = soon(served).await.expect("no panic");
    ended.expect("a graceful end");
}

/// Serves two protocols: `hold` reads nothing and ends when the `Notify` is notified, `echo` echoes.
async fn start(via: Via) -> (Server, Client, Arc<Notify>) {
    let end = Arc::new(Notify::new());
    let holds = handler_fn({
        let end = Arc::clone(&end);
        move |session: Session| {
            let end = Arc::clone(&end);
            async move {
                end.notified().await;
                drop(session);
                Ok(())
            }
        }
    });
    let layer = UpgradeLayer::new()
        .protocol("hold", holds)
        .protocol("echo", echo());
    let server = Server::start_via(via, layer.layer(service_fn(plain))).await;
    let client = Client::connect(server.connect().await).await;
    (server, client, end)
}

/// Manual: "One session that does not read stops all the others". If hyper's default windows change, update
/// the numbers in that section.
#[tokio::test]
async fn default_windows_make_one_stalled_session_block_the_others() {
    let (_server, mut client, end) = start(Via::Http2).await;
    let mut holds = ask(&mut client, "hold").await.expect_upgraded();
    let mut other = ask(&mut client, "echo").await.expect_upgraded();
    // The default windows admit 1 MiB that the session does not read.
    holds.send(vec![b'x'; 1024 * 1024]).await;
    other.io.send.reserve_capacity(1);
    assert_eq!(client.get_text("/x").await, "plain GET /x");
    assert_eq!(other.io.send.capacity(), 0);
    // The end of the session frees the window.
    end.notify_one();
    other.expect_echo(b"at last").await;
}

/// Manual: "One session that does not read stops all the others".
#[tokio::test]
async fn small_stream_windows_make_a_stalled_session_block_only_itself() {
    let (_server, mut client, end) = start(Via::Http2SmallStreams).await;
    let mut other = ask(&mut client, "echo").await.expect_upgraded();
    let mut held = Vec::new();
    for _ in 0..15 {
        let mut holds = ask(&mut client, "hold").await.expect_upgraded();
        holds.send(vec![b'x'; 64 * 1024]).await;
        holds.io.send.reserve_capacity(1);
        held.push(holds);
    }
    for _ in 0..64 {
        other.expect_echo(&[b'y'; 32 * 1024]).await;
    }
    assert!(held.iter().all(|holds| holds.io.send.capacity() == 0));

    // The sixteenth session uses the rest of the connection's window.
    let mut last = ask(&mut client, "hold").await.expect_upgraded();
    for byte in [b'z'; 64 * 1024].chunks(1024) {
        last.io.send.reserve_capacity(byte.len());
        assert_eq!(client.get_text("/x").await, "plain GET /x");
        if last.io.send.capacity() < byte.len() {
            break;
        }
        last.send(byte).await;
    }
    other.io.send.reserve_capacity(1);
    assert_eq!(client.get_text("/x").await, "plain GET /x");
    assert_eq!(other.io.send.capacity(), 0);
    end.notify_one();
    other.expect_echo(b"at last").await;
}

/// Manual: "Small messages that are not read end the connection". h2 counts each unread frame of one byte as
/// 255 bytes, and the limit is half of the connection's window.
#[tokio::test]
async fn unread_small_frames_end_the_connection_and_all_its_sessions() {
    let (_server, mut client, _end) = start(Via::Http2).await;
    let mut holds = ask(&mut client, "hold").await.expect_upgraded();
    let mut other = ask(&mut client, "echo").await.expect_upgraded();
    // One less, because the frame of the other session counts until it is read.
    for _ in 0..512 * 1024 / 255 - 1 {
        holds.send("x").await;
    }
    other.expect_echo(b"as yet").await;
    holds.send("x").await;
    holds.send("x").await;
    let error = client.ended().await.expect_err("the connection broke");
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    let read = soon(other.io.read(&mut [0])).await;
    read.expect_err("the other session has not ended");
}

/// Manual: "A connection has at most 200 sessions".
#[tokio::test]
async fn stream_above_200_is_refused() {
    let (service, mut offered) = answering(StatusCode::OK);
    let (_connection, peer) = http2(service).await;
    let mut client = frames::Connection::connect(peer).await;
    let mut sessions = Vec::new();
    for _ in 0..200 {
        let stream = client.request(&EXTENDED_CONNECT).await;
        assert_eq!(client.frame_of(stream).await.kind, frames::HEADERS);
        sessions.push(offered.io().await);
    }
    let stream = client.request(&EXTENDED_CONNECT).await;
    let refused = client.frame_of(stream).await;
    assert_eq!(refused.kind, frames::RST_STREAM);
    let reason = u32::from(Reason::REFUSED_STREAM).to_be_bytes();
    assert_eq!(refused.payload, reason);
    assert!(offered.is_empty());
}
