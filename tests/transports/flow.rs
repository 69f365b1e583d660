//! Flow control on one HTTP/2 connection: a stalled session does not block the others.

use crate::support::{
    Peer, Server, Via,
    h2::{Client, Stream, extended_connect},
    handlers::echo,
    plain, soon,
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Session, UpgradeLayer, handler_fn};

const SESSIONS: usize = 24;

/// The bytes that each session echoes: 16 times its stream's window.
const EACH: usize = 1024 * 1024;

const STREAM_WINDOW: usize = 64 * 1024;

async fn open(client: &mut Client, protocol: &str) -> Peer<Stream> {
    let request = extended_connect(protocol).body(()).expect("a request");
    client.ask(request).await.expect_upgraded()
}

/// Sends `EACH` bytes to each session at the same time, and expects them back.
async fn assert_all_echo(peers: Vec<Peer<Stream>>) {
    let mut echoes = tokio::task::JoinSet::new();
    for (number, peer) in peers.into_iter().enumerate() {
        echoes.spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(peer.io);
            let bytes = vec![number as u8; EACH];
            let write = async {
                writer.write_all(&bytes).await?;
                writer.shutdown().await
            };
            let mut echo = Vec::new();
            let (wrote, read) = tokio::join!(write, reader.read_to_end(&mut echo));
            wrote.and(read.map(drop)).expect("an open session");
            assert!(echo == bytes, "{number}: {} of {EACH}", echo.len());
        });
    }
    while let Some(echo) = soon(echoes.join_next()).await {
        echo.expect("no panic");
    }
}

#[tokio::test]
async fn session_that_does_not_read_blocks_only_its_stream() {
    let resume = Arc::new(Notify::new());
    let stalls = handler_fn({
        let resume = Arc::clone(&resume);
        move |mut session: Session| {
            let resume = Arc::clone(&resume);
            async move {
                resume.notified().await;
                let mut all = Vec::new();
                session.io_mut().read_to_end(&mut all).await?;
                session
                    .io_mut()
                    .write_all(all.len().to_string().as_bytes())
                    .await?;
                Ok(())
            }
        }
    });
    let layer = UpgradeLayer::new()
        .protocol("stall", stalls)
        .protocol("echo", echo());
    let server = Server::start_via(Via::Http2SmallStreams, layer.layer(service_fn(plain))).await;
    let mut client = Client::connect(server.connect().await).await;
    let mut stalled = open(&mut client, "stall").await;
    let bytes = vec![b'x'; EACH];
    let mut sent = 0;
    while sent < STREAM_WINDOW {
        let wrote = soon(stalled.io.write(&bytes[sent..])).await;
        sent += wrote.expect("an open stream");
    }

    let mut others = Vec::new();
    for _ in 0..SESSIONS {
        others.push(open(&mut client, "echo").await);
    }
    assert_all_echo(others).await;

    // The stalled session has accepted exactly its window, and still accepts no more.
    let more = stalled.io.write(&bytes[sent..]);
    assert!(futures_util::FutureExt::now_or_never(more).is_none());
    assert_eq!(sent, STREAM_WINDOW);
    resume.notify_one();
    soon(stalled.io.write_all(&bytes[sent..]))
        .await
        .expect("an open session");
    stalled.finish().await;
    let read = stalled.rest().await.expect("an orderly end");
    assert_eq!(read, EACH.to_string().as_bytes());
}

#[tokio::test]
async fn peer_that_does_not_read_blocks_only_its_stream() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start_via(Via::Http2SmallStreams, layer.layer(service_fn(plain))).await;
    // The client's connection window must hold the windows of all its streams.
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(16 * 1024 * 1024);
    let mut client = Client::connect_with(server.connect().await, &builder).await;
    let stalled = open(&mut client, "echo").await;
    let (mut reader, mut writer) = tokio::io::split(stalled.io);
    let bytes = vec![b'x'; EACH];
    let writing = tokio::spawn({
        let bytes = bytes.clone();
        async move {
            writer.write_all(&bytes).await?;
            writer.shutdown().await
        }
    });

    let mut others = Vec::new();
    for _ in 0..SESSIONS {
        others.push(open(&mut client, "echo").await);
    }
    assert_all_echo(others).await;

    // The echo blocks on writing and reads no more, so its peer blocks on writing too.
    assert!(!writing.is_finished());
    let mut echo = Vec::new();
    soon(reader.read_to_end(&mut echo))
        .await
        .expect("an orderly end");
    assert!(echo == bytes, "{}", echo.len());
    soon(writing)
        .await
        .expect("no panic")
        .expect("all bytes written");
}
