//! HTTP/2: how this crate ends a stream.

use crate::connection::{http2, http2_in_memory};
use crate::http2::{EXTENDED_CONNECT, ask};
use crate::support::{frames, h2::Client, plain, text};
use h2::Reason;
use http::StatusCode;
use std::time::Duration;
use tokio::{io::AsyncWriteExt as _, time::Instant};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest, handler_fn,
};

/// The END_STREAM flag of a DATA frame (RFC 9113 §6.1).
const END_STREAM: u8 = 1;

struct Refuse;

impl ProtocolHandler for Refuse {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you"))
    }
}

/// Manual: "A stream ends with `NO_ERROR`".
#[tokio::test]
async fn rejected_connect_ends_with_response_and_no_error_reset() {
    let layer = UpgradeLayer::new().protocol("listen", Refuse);
    let (_connection, peer) = http2(layer.layer(service_fn(plain))).await;
    let mut client = frames::Connection::connect(peer).await;
    let stream = client.request(&EXTENDED_CONNECT).await;
    let head = client.frame_of(stream).await;
    assert_eq!((head.kind, head.flags & END_STREAM), (frames::HEADERS, 0));
    let body = client.frame_of(stream).await;
    assert_eq!((body.kind, body.flags), (frames::DATA, END_STREAM));
    assert_eq!(text(&body.payload), "not you");
    let reset = client.frame_of(stream).await;
    assert_eq!(reset.kind, frames::RST_STREAM);
    assert_eq!(reset.payload, u32::from(Reason::NO_ERROR).to_be_bytes());
}

fn brief(protocol: &str) -> UpgradeLayer {
    let brief = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(b"brief").await?;
        Ok(())
    });
    UpgradeLayer::new().protocol(protocol, brief)
}

/// Manual: "A stream ends with `NO_ERROR`".
#[tokio::test(start_paused = true)]
async fn session_that_ends_first_resets_with_no_error_after_a_second() {
    let (_connection, peer) = http2_in_memory(brief("brief").layer(service_fn(plain)));
    let mut client = Client::connect(peer).await;
    let before = Instant::now();
    let mut peer = ask(&mut client, "brief").await.expect_upgraded();
    assert_eq!(peer.rest().await.expect("an END_STREAM"), b"brief");
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(peer.io.reset().await, Reason::NO_ERROR);
    assert_eq!(before.elapsed(), Duration::from_secs(1));
}

/// Manual: "A stream ends with `NO_ERROR`".
#[tokio::test(start_paused = true)]
async fn session_is_not_reset_if_client_has_ended_its_side() {
    let (_connection, peer) = http2_in_memory(brief("listen").layer(service_fn(plain)));
    let mut client = frames::Connection::connect(peer).await;
    let stream = client.request(&EXTENDED_CONNECT).await;
    assert_eq!(client.frame_of(stream).await.kind, frames::HEADERS);
    let data = client.frame_of(stream).await;
    assert_eq!(
        (data.kind, text(&data.payload)),
        (frames::DATA, "brief".into())
    );
    let end = client.frame_of(stream).await;
    assert_eq!((end.kind, end.flags), (frames::DATA, END_STREAM));
    client.send(frames::DATA, END_STREAM, stream, &[]).await;
    // Longer than any timer of the session: a reset would arrive before the next response.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let other = client.request(&EXTENDED_CONNECT).await;
    loop {
        let frame = client.frame().await.expect("the connection goes on");
        assert_ne!(frame.stream, stream, "{frame:?}");
        if frame.stream == other {
            break;
        }
    }
}
