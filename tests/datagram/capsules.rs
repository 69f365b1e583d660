//! D1 on the wire: capsules.

use crate::proxy::{Echo, Proxy, VERSIONS, capsule, capsule_of};
use std::io::ErrorKind;

#[tokio::test]
async fn d1_capsules_parse_at_every_split() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        let stream = [
            capsule(b"one"),
            capsule_of(0x17, b"unknown"),
            capsule(b""),
            capsule(&[7; 100]),
        ]
        .concat();
        for split in 1..stream.len() {
            flow.peer.send(&stream[..split]).await;
            flow.peer.send(&stream[split..]).await;
            for payload in [&b"one"[..], b"", &[7; 100]] {
                assert_eq!(flow.recv().await, payload, "{via:?} {split}");
            }
        }
        for byte in &stream {
            flow.peer.send([*byte]).await;
        }
        for payload in [&b"one"[..], b"", &[7; 100]] {
            assert_eq!(flow.recv().await, payload, "{via:?}");
        }
    }
}

#[tokio::test]
async fn d1_long_unknown_capsule_is_skipped() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        flow.peer.send(capsule_of(0x29, &vec![0; 300_000])).await;
        flow.expect_echo(b"after").await;
    }
}

#[tokio::test]
async fn d1_datagram_over_the_limit_aborts_the_stream() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        // Only the header: the proxy does not wait for the value.
        let capsule = capsule_of(0, &vec![1; 65_535 + 9]);
        flow.peer.send(&capsule[..5]).await;
        flow.expect_abort().await;
        let closed = proxy.closed().await;
        assert_failed(&closed, ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn d1_datagram_at_the_limit_with_another_context_is_dropped() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        flow.peer.send(capsule_of(0, &vec![1; 65_535 + 8])).await;
        flow.expect_echo(b"after").await;
    }
}

#[tokio::test]
async fn d1_capsule_cut_off_by_the_end_aborts_the_stream() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        for capsule in [capsule(b"cut off"), capsule_of(0x17, b"cut off")] {
            for end in [1, 3, 7] {
                let mut flow = proxy.open(echo.address).await;
                flow.peer.send(&capsule[..end]).await;
                flow.peer.finish().await;
                flow.expect_abort().await;
                let closed = proxy.closed().await;
                assert_failed(&closed, ErrorKind::UnexpectedEof);
            }
        }
    }
}

/// Asserts that a session failed with an `io::Error` of this kind.
#[track_caller]
pub(crate) fn assert_failed(closed: &tower_upgrade::Closed, kind: ErrorKind) {
    let error = closed.reason().error().expect("an error");
    let error = error.downcast_ref::<std::io::Error>();
    assert_eq!(error.map(std::io::Error::kind), Some(kind), "{closed:?}");
}
