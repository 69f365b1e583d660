//! D5 on the wire: activity, bytes, and the end of sessions.

use crate::{
    proxy::{Echo, Proxy, VERSIONS, recv_from, target},
    support::{Via, soon, tunnel::loopback, until},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tower_upgrade::{CloseReason, Sessions, UpgradeLayer, datagram::ConnectUdp};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn d5_datagrams_count_as_bytes() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        for _ in 0..3 {
            flow.expect_echo(&[7; 100]).await;
        }
        flow.peer.finish().await;
        flow.peer.expect_end().await;
        let closed = proxy.closed().await;
        assert!(
            matches!(closed.reason(), CloseReason::Finished),
            "{closed:?}"
        );
        // A capsule of the client has a type, a length of 4 bytes and a Context ID; the proxy's length has 2 bytes.
        let bytes = (closed.bytes_read(), closed.bytes_written());
        assert_eq!(bytes, (3 * 106, 3 * 104), "{via:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn d5_session_ends_after_two_minutes_without_a_datagram() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        for _ in 0..3 {
            sleep(MINUTE).await;
            flow.expect_echo(b"hello").await;
        }
        let start = Instant::now();
        sleep(MINUTE + MINUTE * 9 / 10).await;
        flow.peer.expect_end().await;
        assert_eq!(start.elapsed().as_secs(), 120, "{via:?}");
        let closed = proxy.closed().await;
        assert!(matches!(closed.reason(), CloseReason::Idle), "{closed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn d5_datagram_in_one_direction_is_activity() {
    for via in VERSIONS {
        let (socket, address) = target().await;
        let handler = ConnectUdp::new(loopback(address.port())).idle_timeout(2 * MINUTE);
        let proxy = Proxy::start_with(via, handler).await;
        let mut flow = proxy.open(address).await;
        for _ in 0..3 {
            sleep(MINUTE + MINUTE / 2).await;
            flow.send(b"to the target").await;
        }
        let mut from = None;
        for _ in 0..3 {
            from = Some(recv_from(&socket).await.1);
        }
        for _ in 0..3 {
            sleep(MINUTE + MINUTE / 2).await;
            let sent = socket.send_to(b"to the client", from.expect("a sender"));
            sent.await.expect("loopback");
            assert_eq!(flow.recv().await, b"to the client");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d5_datagrams_are_activity_for_the_layer() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let handler = ConnectUdp::new(loopback(echo.address.port())).idle_timeout(None);
        let layer = UpgradeLayer::new()
            .idle_timeout(MINUTE)
            .protocol("connect-udp", handler);
        let proxy = Proxy::start_layer(via, layer).await;
        let mut flow = proxy.open(echo.address).await;
        for _ in 0..4 {
            sleep(MINUTE / 2).await;
            flow.expect_echo(b"hello").await;
        }
        let start = Instant::now();
        sleep(MINUTE * 9 / 10).await;
        flow.peer.expect_end().await;
        assert_eq!(start.elapsed().as_secs(), 60, "{via:?}");
        let closed = proxy.closed().await;
        assert!(matches!(closed.reason(), CloseReason::Idle), "{closed:?}");
    }
}

#[tokio::test]
async fn idle_timeout_can_be_disabled() {
    // Without a timer in the session, paused time does not advance, and the wait below fails.
    tokio::time::pause();
    let longest = Duration::MAX - Duration::from_nanos(1);
    for timeout in [None, Some(longest)] {
        let echo = Echo::start().await;
        let handler = ConnectUdp::new(loopback(echo.address.port())).idle_timeout(timeout);
        let proxy = Proxy::start_with(Via::Http1, handler).await;
        let mut flow = proxy.open(echo.address).await;
        sleep(1000 * MINUTE).await;
        flow.expect_echo(b"hello").await;
    }
}

#[tokio::test]
async fn end_of_the_client_ends_the_session_and_closes_the_socket() {
    for via in VERSIONS {
        let (socket, address) = target().await;
        let proxy = Proxy::start(via, address).await;
        let mut flow = proxy.open(address).await;
        flow.send(b"hello").await;
        let (_, from) = recv_from(&socket).await;
        flow.peer.finish().await;
        flow.peer.expect_end().await;
        let closed = proxy.closed().await;
        assert!(
            matches!(closed.reason(), CloseReason::Finished),
            "{closed:?}"
        );
        // The port of the session is free again.
        let bound = soon(tokio::net::UdpSocket::bind(("0.0.0.0", from.port()))).await;
        bound.expect("the socket is closed");
    }
}

#[tokio::test]
async fn drain_ends_sessions_in_order() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let sessions = Sessions::new();
        let layer = UpgradeLayer::new().sessions(sessions.clone()).protocol(
            "connect-udp",
            ConnectUdp::new(loopback(echo.address.port())),
        );
        let proxy = Proxy::start_layer(via, layer).await;
        let mut flow = proxy.open(echo.address).await;
        flow.expect_echo(b"hello").await;
        until(|| sessions.len() == 1).await;
        let drain = sessions.drain(Duration::from_secs(10));
        let client = async {
            flow.peer.expect_end().await;
            flow.peer.finish().await;
        };
        let (report, ()) = tokio::join!(soon(drain), client);
        assert_eq!((report.ended, report.aborted, report.left), (1, 0, 0));
        let closed = proxy.closed().await;
        assert!(
            matches!(closed.reason(), CloseReason::Drained),
            "{closed:?}"
        );
    }
}

/// Time is paused: a sleep lasts until the proxy has read all datagrams that it can read.
#[tokio::test(start_paused = true)]
async fn d1_drain_completes_the_capsule_that_is_being_written() {
    let (socket, address) = target().await;
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("connect-udp", ConnectUdp::new(loopback(address.port())));
    let proxy = Proxy::start_layer(Via::Http1, layer).await;
    let mut flow = proxy.open(address).await;
    flow.send(b"hello").await;
    let (_, from) = recv_from(&socket).await;
    // More than the buffers of the connection hold.
    for _ in 0..500 {
        for _ in 0..40 {
            let sent = socket.send_to(&[7; 1000], from).await;
            sent.expect("loopback");
        }
        sleep(Duration::from_millis(1)).await;
    }
    let drain = sessions.drain(Duration::from_secs(10));
    let client = async {
        let rest = flow.peer.rest().await.expect("an orderly end");
        flow.peer.finish().await;
        rest
    };
    let (report, rest) = tokio::join!(soon(drain), client);
    assert_eq!((report.ended, report.aborted, report.left), (1, 0, 0));
    // The header of each capsule has 4 bytes.
    assert!(!rest.is_empty() && rest.len() % 1004 == 0, "{}", rest.len());
}
