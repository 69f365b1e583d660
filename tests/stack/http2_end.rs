//! HTTP/2: how a stream ends, through this crate.

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

/// The flag of a DATA frame that is its sender's last.
const END_STREAM: u8 = 1;

struct Refuse;

impl ProtocolHandler for Refuse {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you"))
    }
}

/// Manual: "A stream ends with `NO_ERROR`".
#[tokio::test]
async fn a_refused_connect_ends_with_its_response_and_a_reset_that_is_no_error() {
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
async fn a_session_that_ends_first_waits_a_second_for_the_client_and_resets_with_no_error() {
    let (_connection, peer) = http2_in_memory(brief("brief").layer(service_fn(plain)));
    let mut client = Client::connect(peer).await;
    let before = Instant::now();
    let mut peer = ask(&mut client, "brief").await.expect_switched();
    assert_eq!(peer.rest().await.expect("an END_STREAM"), b"brief");
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(peer.io.reset().await, Reason::NO_ERROR);
    assert_eq!(before.elapsed(), Duration::from_secs(1));
}

/// Manual: "A stream ends with `NO_ERROR`".
#[tokio::test(start_paused = true)]
async fn a_session_whose_client_ends_as_well_is_not_reset() {
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
    // Longer than all timers of the session, so no further bytes follow.
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
