//! The end of connections.

use crate::{
    raw::{Client, DATA, End, GET, GOAWAY, frame},
    support::{h3, handlers::echo, plain, soon},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    task::JoinHandle,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Session, UpgradeLayer, handler_fn, http3};

/// A server of one connection, which is told to shut down.
struct One {
    client: Client,
    shut_down: Arc<Notify>,
    serving: JoinHandle<Result<(), http3::Error>>,
    _server: h3::Server,
}

async fn start(builder: http3::Builder, layer: UpgradeLayer, timeout: Duration) -> One {
    // The certificate and the client of another server.
    let server = h3::Server::start(layer.clone().layer(service_fn(plain))).await;
    let (connection, client) = server.pair().await;
    let shut_down = Arc::new(Notify::new());
    let serving = tokio::spawn({
        let shut_down = Arc::clone(&shut_down);
        async move {
            let service = layer.layer(service_fn(plain));
            let mut connection = builder.serve_connection(connection, service);
            tokio::select! {
                ended = &mut connection => return ended,
                () = shut_down.notified() => connection.graceful_shutdown(timeout),
            }
            connection.await
        }
    });
    let control = crate::raw::send_uni(&client, &[0, 4, 0]).await;
    One {
        client: Client {
            connection: client,
            control,
        },
        shut_down,
        serving,
        _server: server,
    }
}

fn echo_layer() -> UpgradeLayer {
    UpgradeLayer::new().protocol("test", echo())
}

/// Reads the frames of the server's control stream.
async fn control(client: &Client) -> crate::raw::Stream {
    let mut recv = soon(client.connection.accept_uni())
        .await
        .expect("a stream");
    let mut kind = [0];
    soon(recv.read_exact(&mut kind)).await.expect("a type");
    assert_eq!(kind, [0]);
    crate::raw::Stream::reading(&client.connection, recv).await
}

#[tokio::test]
async fn graceful_shutdown_waits_for_sessions_and_refuses_later_requests() {
    let one = start(http3::Builder::new(), echo_layer(), Duration::from_secs(60)).await;
    let mut control = control(&one.client).await;
    assert_eq!(control.frame().await.expect("settings").0, 4);
    let mut session = one.client.extended_connect("test").await;
    one.shut_down.notify_one();
    // The first GOAWAY allows the requests that are on their way, the second one no further ones.
    let max = [0xff; 7].iter().fold(vec![0xff], |mut id, byte| {
        id.push(*byte);
        id
    });
    let (kind, id) = control.frame().await.expect("a frame");
    assert_eq!(kind, GOAWAY);
    assert_eq!((&id[..7], id[7]), (&max[..7], 0xfc));
    let (kind, id) = control.frame().await.expect("a frame");
    assert_eq!((kind, id.len()), (GOAWAY, 1));
    assert_eq!(u64::from(id[0]), session_id(&session) + 4);
    let mut late = one.client.request(&GET).await;
    assert_eq!(late.frame().await, Err(End::Reset(0x10b)));
    // The session goes on to its end.
    session.write(&frame(DATA as u8, b"more")).await;
    assert_eq!(session.data().await, b"more");
    assert!(!one.serving.is_finished());
    session.send.finish().expect("an open stream");
    assert_eq!(session.rest().await, (Vec::new(), End::Finished));
    assert_eq!(one.client.closed().await, 0x100);
    soon(one.serving)
        .await
        .expect("no panic")
        .expect("an orderly end");
}

fn session_id(stream: &crate::raw::Stream) -> u64 {
    quinn::VarInt::from(stream.send.id()).into_inner()
}

#[tokio::test]
async fn shutdown_at_its_deadline_closes_the_connection() {
    let one = start(
        http3::Builder::new(),
        echo_layer(),
        Duration::from_millis(50),
    )
    .await;
    let _session = one.client.extended_connect("test").await;
    one.shut_down.notify_one();
    assert_eq!(one.client.closed().await, 0x100);
    let error = soon(one.serving)
        .await
        .expect("no panic")
        .expect_err("late");
    assert_eq!(error.kind(), http3::ErrorKind::Timeout);
}

/// Data of a session that has ended must arrive before the connection closes.
#[tokio::test]
async fn shutdown_loses_no_data_of_ended_sessions() {
    const LENGTH: usize = 200_000;
    let writes = handler_fn(|mut session: Session| async move {
        session.io_mut().read_u8().await?;
        session.io_mut().write_all(&vec![7; LENGTH]).await?;
        Ok(())
    });
    let layer = UpgradeLayer::new().protocol("test", writes);
    let one = start(http3::Builder::new(), layer, Duration::from_secs(60)).await;
    let mut session = one.client.extended_connect("test").await;
    one.shut_down.notify_one();
    session.write(&frame(DATA as u8, b"x")).await;
    session.send.finish().expect("an open stream");
    let (data, end) = session.rest().await;
    assert_eq!((data.len(), end), (LENGTH, End::Finished));
    assert_eq!(one.client.closed().await, 0x100);
}

#[tokio::test]
async fn idle_connection_closes_and_one_with_a_session_does_not() {
    let builder = http3::Builder::new().idle_timeout(Duration::from_millis(50));
    let one = start(builder.clone(), echo_layer(), Duration::from_secs(60)).await;
    let mut session = one.client.extended_connect("test").await;
    // The same time passes for a connection without a session, which closes.
    let idle = start(builder, echo_layer(), Duration::from_secs(60)).await;
    assert_eq!(idle.client.closed().await, 0x100);
    // No GOAWAY was sent.
    one.client.expect_alive().await;
    session.write(&frame(DATA as u8, b"x")).await;
    assert_eq!(session.data().await, b"x");
    session.send.finish().expect("an open stream");
    assert_eq!(session.rest().await, (Vec::new(), End::Finished));
    assert_eq!(one.client.closed().await, 0x100);
    soon(one.serving)
        .await
        .expect("no panic")
        .expect("an orderly end");
}

#[tokio::test]
async fn dropped_connection_closes_with_its_sessions() {
    let one = start(http3::Builder::new(), echo_layer(), Duration::ZERO).await;
    let _session = one.client.extended_connect("test").await;
    one.serving.abort();
    assert_eq!(one.client.closed().await, 0x100);
}

#[tokio::test]
async fn close_by_the_client_is_an_orderly_end() {
    for (code, is_orderly) in [(0x100u32, true), (0, true), (0x102, false)] {
        let one = start(http3::Builder::new(), echo_layer(), Duration::ZERO).await;
        one.client.expect_alive().await;
        one.client.connection.close(code.into(), b"");
        let ended = soon(one.serving).await.expect("no panic");
        assert_eq!(ended.is_ok(), is_orderly, "{code:#x}");
        if let Err(error) = ended {
            assert_eq!(error.kind(), http3::ErrorKind::Connection);
        }
    }
}
