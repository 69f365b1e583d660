//! IO that a handler moved to another task.

use crate::{
    closed::{next, reporting},
    drain::{open, secs},
    support::{Server, offer, plain, soon, until},
};
use std::io::ErrorKind;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Session, Sessions, UpgradeLayer, Upgraded, handler_fn};

#[tokio::test]
async fn escaped_reader_wakes_with_an_error_when_the_session_ends() {
    let sessions = Sessions::new();
    let (sender, mut waiting) = mpsc::unbounded_channel::<JoinHandle<std::io::Result<usize>>>();
    let leaves = handler_fn(move |session: Session| {
        let sender = sender.clone();
        async move {
            let (mut reader, mut writer) = tokio::io::split(session.into_io());
            sender.send(tokio::spawn(async move { reader.read(&mut [0; 8]).await }))?;
            // The other task is waiting now.
            tokio::task::yield_now().await;
            writer.write_all(b"bye").await?;
            Ok(())
        }
    });
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("leave", leaves);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("leave", &[])).await;
    peer.head().await.assert_upgraded("leave");
    let read = soon(waiting.recv()).await.expect("a session");
    let error = soon(read)
        .await
        .expect("no panic")
        .expect_err("the session has ended");
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(error.to_string(), "the session has ended");
    assert_eq!(peer.rest().await.expect("an orderly end"), b"bye");
    until(|| sessions.is_empty()).await;
}

type Halves = (ReadHalf<Upgraded>, WriteHalf<Upgraded>);

/// Ends a session whose handler sent its IO to the test.
async fn ended() -> (Server, crate::support::Peer<TcpStream>, Halves) {
    let (layer, mut reports) = reporting();
    let sessions = Sessions::new();
    let (sender, mut escaped) = mpsc::unbounded_channel::<Halves>();
    let leaves = handler_fn(move |session: Session| {
        let sender = sender.clone();
        async move {
            sender.send(tokio::io::split(session.into_io()))?;
            Ok(())
        }
    });
    let layer = layer
        .sessions(sessions.clone())
        .shutdown_timeout(None)
        .protocol("leave", leaves);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("leave", &[])).await;
    peer.head().await.assert_upgraded("leave");
    let halves = soon(escaped.recv()).await.expect("a session");
    assert_eq!(next(&mut reports).await.reason, "finished");
    // The permit is released although the test holds the IO.
    until(|| sessions.is_empty()).await;
    (server, peer, halves)
}

#[tokio::test]
async fn escaped_io_fails_and_its_first_use_closes_the_connection() {
    let (_server, mut peer, (mut reader, mut writer)) = ended().await;
    let error = writer
        .write(b"more")
        .await
        .expect_err("the session has ended");
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    peer.expect_end().await;
    let error = writer.flush().await.expect_err("the session has ended");
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    let error = reader
        .read(&mut [0])
        .await
        .expect_err("the session has ended");
    assert_eq!(error.kind(), ErrorKind::NotConnected);
}

#[tokio::test]
async fn dropped_escaped_io_closes_the_connection() {
    let (_server, mut peer, halves) = ended().await;
    drop(halves);
    peer.expect_end().await;
}

#[tokio::test]
async fn escaped_io_cannot_be_downcast_after_the_session() {
    let (_server, mut peer, (reader, writer)) = ended().await;
    let io = reader.unsplit(writer);
    let mut io = io
        .downcast::<TcpStream>()
        .expect_err("the session has ended");
    let error = io.write(b"more").await.expect_err("the session has ended");
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    peer.expect_end().await;

    let (_server, mut peer, (reader, writer)) = ended().await;
    let mut io = reader.unsplit(writer).into_parts().io;
    let error = io.write(b"more").await.expect_err("the session has ended");
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    peer.expect_end().await;
}

#[tokio::test]
async fn escaped_writer_wakes_with_an_error_when_the_session_ends() {
    let (sender, mut waiting) = mpsc::unbounded_channel::<JoinHandle<std::io::Result<()>>>();
    let leaves = handler_fn(move |session: Session| {
        let sender = sender.clone();
        async move {
            let (reader, mut writer) = tokio::io::split(session.into_io());
            // More than the socket buffers hold: the peer does not read.
            let much = vec![0; 64 * 1024 * 1024];
            let writing = tokio::spawn(async move { writer.write_all(&much).await });
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            drop(reader);
            sender.send(writing)?;
            Ok(())
        }
    });
    let layer = UpgradeLayer::new().protocol("leave", leaves);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("leave", &[])).await;
    peer.head().await.assert_upgraded("leave");
    let writing = soon(waiting.recv()).await.expect("a session");
    let error = soon(writing).await.expect("no panic");
    assert_eq!(
        error.expect_err("the session has ended").kind(),
        ErrorKind::NotConnected
    );
}

/// A `SessionInfo` does not keep the connection open.
#[tokio::test(start_paused = true)]
async fn escaped_io_is_dropped_while_the_session_is_listed() {
    let sessions = Sessions::new();
    let (sender, mut escaped) = mpsc::unbounded_channel::<Halves>();
    let leaves = handler_fn(move |session: Session| {
        let (sender, stop) = (sender.clone(), session.stop());
        async move {
            sender.send(tokio::io::split(session.into_io()))?;
            stop.await;
            Ok(())
        }
    });
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("leave", leaves);
    let mut peer = open(&layer, "leave").await;
    let halves = soon(escaped.recv()).await.expect("a session");
    let known = sessions.list();
    assert!(sessions.close(known[0].id(), secs(1)));
    // The session no longer waits for the IO.
    tokio::time::sleep(secs(60)).await;
    drop(halves);
    let read = soon(peer.read(&mut [0])).await;
    assert_eq!(read.expect("an end"), 0);
    drop(known);
}
