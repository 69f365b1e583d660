//! Streams of quinn.

use crate::support::{h3::Server, plain, soon};
use quinn::{Connection, ReadError, VarInt};
use tower::service_fn;

/// Both sides of a connection without HTTP.
async fn pair() -> (Connection, Connection) {
    Server::start(service_fn(plain)).await.pair().await
}

/// The manual: "A dropped stream looks like an end".
#[tokio::test]
async fn dropped_send_stream_sends_fin() {
    let (one, other) = pair().await;
    let (mut send, _recv) = one.open_bi().await.expect("a stream");
    soon(send.write_all(b"half of a message"))
        .await
        .expect("written");
    drop(send);
    let (_send, mut recv) = soon(other.accept_bi()).await.expect("a stream");
    let read = soon(recv.read_to_end(100)).await;
    assert_eq!(read.expect("an end"), b"half of a message");
}

/// The manual: "A dropped stream looks like an end".
#[tokio::test]
async fn dropped_receive_stream_sends_stop_sending_with_code_0() {
    let (one, other) = pair().await;
    let (mut send, _recv) = one.open_bi().await.expect("a stream");
    soon(send.write_all(b"x")).await.expect("written");
    let (_send, recv) = soon(other.accept_bi()).await.expect("a stream");
    drop(recv);
    let stopped = soon(send.stopped()).await.expect("a connection");
    assert_eq!(stopped, Some(VarInt::from_u32(0)));
}

/// The manual: "A read after a reset returns the end".
#[tokio::test]
async fn second_read_after_a_reset_returns_the_end() {
    let (one, other) = pair().await;
    let (mut send, _recv) = one.open_bi().await.expect("a stream");
    soon(send.write_all(b"x")).await.expect("written");
    let (_send, mut recv) = soon(other.accept_bi()).await.expect("a stream");
    send.reset(VarInt::from_u32(7)).expect("an open stream");
    let mut bytes = [0; 10];
    let error = loop {
        match soon(recv.read(&mut bytes)).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, ReadError::Reset(VarInt::from_u32(7)));
    assert_eq!(soon(recv.read(&mut bytes)).await, Ok(None));
}
