//! Ends and resets of tunnels.

use crate::{
    raw::{Client, DATA, End, HEADERS, frame, section},
    server,
    support::{h3::Server, handlers::Counted, plain, soon, until},
};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Session, UpgradeLayer, handler_fn};

const NO_ERROR: u64 = 0x100;
const REQUEST_CANCELLED: u64 = 0x10c;
const CONNECT_ERROR: u64 = 0x10f;

#[tokio::test]
async fn e8_data_is_echoed_and_fin_is_a_half_close() {
    let server = server().await;
    let client = Client::connect(&server).await;
    for is_tunnel in [false, true] {
        let mut stream = match is_tunnel {
            true => client.tunnel().await,
            false => client.extended_connect("test").await,
        };
        // Empty DATA frames and unknown frames are not the end.
        let bytes = [
            frame(DATA as u8, b""),
            frame(DATA as u8, b"one"),
            frame(0x21, b"unknown"),
            frame(DATA as u8, b""),
            frame(DATA as u8, b"two"),
        ];
        stream.write(&bytes.concat()).await;
        let mut echo = Vec::new();
        while echo.len() < 6 {
            echo.extend(stream.data().await);
        }
        assert_eq!(echo, b"onetwo");
        stream.write(&frame(DATA as u8, b"three")).await;
        stream.send.finish().expect("an open stream");
        assert_eq!(stream.rest().await, (b"three".to_vec(), End::Finished));
    }
}

#[tokio::test]
async fn e4_data_with_the_head_is_for_the_tunnel() {
    let server = server().await;
    let client = Client::connect(&server).await;
    let head = crate::raw::headers(&crate::raw::CONNECT);
    let mut stream = client
        .open(&[head, frame(DATA as u8, b"early")].concat())
        .await;
    assert_eq!(stream.status().await, 200);
    assert_eq!(stream.data().await, b"early");
}

#[tokio::test]
async fn e8_fin_of_the_server_is_a_half_close() {
    let resume = Arc::new(Notify::new());
    let first = handler_fn({
        let resume = Arc::clone(&resume);
        move |mut session: Session| {
            let resume = Arc::clone(&resume);
            async move {
                session.io_mut().write_all(b"bye").await?;
                session.io_mut().shutdown().await?;
                let mut rest = Vec::new();
                session.io_mut().read_to_end(&mut rest).await?;
                assert_eq!(rest, b"still here");
                resume.notify_one();
                Ok(())
            }
        }
    });
    let layer = UpgradeLayer::new().protocol("test", first);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    let mut stream = client.extended_connect("test").await;
    assert_eq!(stream.rest().await, (b"bye".to_vec(), End::Finished));
    stream.write(&frame(DATA as u8, b"still here")).await;
    stream.send.finish().expect("an open stream");
    soon(resume.notified()).await;
}

/// Sessions that end as the first byte from the client says.
fn ends() -> impl tower_upgrade::ProtocolHandler + Clone {
    handler_fn(|mut session: Session| async move {
        match session.io_mut().read_u8().await? {
            b'p' => panic!("on purpose"),
            b'e' => Err("on purpose".into()),
            _ => Ok(()),
        }
    })
}

#[tokio::test]
async fn e8_failed_session_is_a_reset_and_the_connection_continues() {
    let layer = UpgradeLayer::new().protocol("test", ends()).connect(ends());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    for (how, is_tunnel, end, stop) in [
        ("p", false, End::Reset(REQUEST_CANCELLED), REQUEST_CANCELLED),
        ("e", false, End::Reset(REQUEST_CANCELLED), REQUEST_CANCELLED),
        ("p", true, End::Reset(CONNECT_ERROR), CONNECT_ERROR),
        ("e", true, End::Reset(CONNECT_ERROR), CONNECT_ERROR),
        ("r", false, End::Finished, NO_ERROR),
        ("r", true, End::Finished, NO_ERROR),
    ] {
        let mut stream = match is_tunnel {
            true => client.tunnel().await,
            false => client.extended_connect("test").await,
        };
        stream.write(&frame(DATA as u8, how.as_bytes())).await;
        assert_eq!(stream.rest().await, (Vec::new(), end), "{how} {is_tunnel}");
        assert_eq!(stream.stopped().await, Some(stop), "{how} {is_tunnel}");
    }
    client.expect_alive().await;
}

#[tokio::test]
async fn s8_aborted_session_is_a_reset() {
    let sessions = tower_upgrade::Sessions::new();
    let hangs = handler_fn(|session: Session| async move {
        let _session = session;
        std::future::pending().await
    });
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("test", hangs);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    let mut stream = client.extended_connect("test").await;
    let report = sessions.drain(std::time::Duration::from_millis(10)).await;
    assert_eq!(report.aborted, 1);
    assert_eq!(stream.frame().await, Err(End::Reset(REQUEST_CANCELLED)));
    client.expect_alive().await;
}

#[tokio::test]
async fn e8_reset_by_the_client_ends_its_session_only() {
    let handler = Counted::default();
    let layer = UpgradeLayer::new().protocol("test", handler.clone());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    let mut other = client.extended_connect("test").await;
    let mut stream = client.extended_connect("test").await;
    stream.write(&frame(DATA as u8, b"x")).await;
    assert_eq!(stream.data().await, b"x");
    stream.send.reset(0x10cu32.into()).expect("an open stream");
    let _ = stream.recv.stop(0x10cu32.into());
    until(|| handler.held() == 1).await;
    other.write(&frame(DATA as u8, b"y")).await;
    assert_eq!(other.data().await, b"y");
}

#[tokio::test]
async fn e8_handler_reads_the_reset_as_an_error() {
    let read = Arc::new(Notify::new());
    let handler = handler_fn({
        let read = Arc::clone(&read);
        move |mut session: Session| {
            let read = Arc::clone(&read);
            async move {
                let mut bytes = [0; 10];
                // Data that arrived with the reset does not hide it.
                let error = loop {
                    match session.io_mut().read(&mut bytes).await {
                        Ok(0) => panic!("an end instead of the reset"),
                        Ok(_) => {}
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                let again = session.io_mut().read(&mut bytes).await;
                assert!(again.is_err(), "an end after the reset");
                read.notify_one();
                Ok(())
            }
        }
    });
    let layer = UpgradeLayer::new().protocol("test", handler);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    let mut stream = client.extended_connect("test").await;
    stream.write(&frame(DATA as u8, b"x")).await;
    stream.send.reset(0x10cu32.into()).expect("an open stream");
    soon(read.notified()).await;
}

#[tokio::test]
async fn e8_stop_by_the_client_fails_writes_and_not_the_connection() {
    let written = Arc::new(Notify::new());
    let handler = handler_fn({
        let written = Arc::clone(&written);
        move |mut session: Session| {
            let written = Arc::clone(&written);
            async move {
                let error = loop {
                    if let Err(error) = session.io_mut().write_all(&[0; 1000]).await {
                        break error;
                    }
                    tokio::task::yield_now().await;
                };
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                written.notify_one();
                // Ending the stopped stream must not end the connection.
                session.io_mut().shutdown().await?;
                Ok(())
            }
        }
    });
    let layer = UpgradeLayer::new().protocol("test", handler);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let client = Client::connect(&server).await;
    let mut stream = client.extended_connect("test").await;
    stream.recv.stop(0x10cu32.into()).expect("an open stream");
    soon(written.notified()).await;
    client.expect_alive().await;
}

#[tokio::test]
async fn e8_other_frames_in_a_tunnel_close_the_connection() {
    let server = server().await;
    for bytes in [
        frame(HEADERS as u8, &section(&[("a", "b")])),
        frame(4, b""),
        frame(9, b""),
    ] {
        let client = Client::connect(&server).await;
        let mut stream = client.tunnel().await;
        stream.write(&bytes).await;
        assert_eq!(client.closed().await, 0x105);
    }
    // A truncated DATA frame.
    let client = Client::connect(&server).await;
    let mut stream = client.tunnel().await;
    stream.write(&[DATA as u8, 5, b'x']).await;
    stream.send.finish().expect("an open stream");
    assert_eq!(client.closed().await, 0x106);
}

#[tokio::test]
async fn e8_rejected_upgrade_stops_the_client_without_an_error() {
    let server = server().await;
    let client = Client::connect(&server).await;
    let mut stream = client
        .request(&crate::raw::extended_connect("unknown"))
        .await;
    assert_eq!(stream.status().await, 501);
    let (_, end) = stream.rest().await;
    assert_eq!(end, End::Finished);
    assert_eq!(stream.stopped().await, Some(NO_ERROR));
}
