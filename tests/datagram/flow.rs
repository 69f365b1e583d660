//! D3 and D6 on the wire: datagrams in both directions.

use crate::{
    capsules::assert_failed,
    proxy::{Echo, Proxy, VERSIONS, capsule, capsule_of, path, recv_from, target},
    support::{Server, head, log::Log, offer, plain, soon, tcp, tunnel::loopback, until},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, Rejection, Session, UpgradeLayer, UpgradeRequest, Upgraded, UpgradedParts, accept_fn,
    datagram::{ConnectUdp, HttpDatagrams},
};

#[tokio::test]
async fn d3_payloads_of_all_lengths_pass_in_both_directions() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        for length in [0, 1, 62, 63, 64, 1200, 1500, 9000, 16_382, 16_383, 65_507] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            flow.expect_echo(&payload).await;
        }
    }
}

#[tokio::test]
async fn d3_other_contexts_are_dropped_in_silence() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        for context in [&[1][..], &[0x40, 0x41], &[0x80, 0, 0, 2]] {
            let value = [context, b"other"].concat();
            flow.peer.send(capsule_of(0, &value)).await;
        }
        // The Context ID 0, in a longer encoding.
        flow.peer.send(capsule_of(0, b"\x40\0zero")).await;
        assert_eq!(flow.recv().await, b"zero");
    }
}

#[tokio::test]
async fn d3_payload_over_65527_bytes_aborts_the_stream() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let mut flow = proxy.open(echo.address).await;
        // The system refuses it, since the length of an IPv4 packet is 16 bits, and the proxy drops it.
        flow.send(&[0; 65_527]).await;
        flow.expect_echo(b"after").await;
        flow.send(&[0; 65_528]).await;
        flow.expect_abort().await;
        assert_failed(&proxy.closed().await, ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn d3_datagram_without_a_context_aborts_the_stream() {
    for via in VERSIONS {
        for value in [&[][..], &[0x40]] {
            let echo = Echo::start().await;
            let proxy = Proxy::start(via, echo.address).await;
            let mut flow = proxy.open(echo.address).await;
            flow.peer.send(capsule_of(0, value)).await;
            flow.expect_abort().await;
            assert_failed(&proxy.closed().await, ErrorKind::InvalidData);
        }
    }
}

#[tokio::test]
async fn d4_datagrams_of_other_senders_do_not_reach_the_client() {
    for via in VERSIONS {
        let (socket, address) = target().await;
        let (stranger, _) = target().await;
        let proxy = Proxy::start(via, address).await;
        let mut flow = proxy.open(address).await;
        flow.send(b"hello").await;
        let (payload, from) = recv_from(&socket).await;
        assert_eq!(payload, b"hello");
        // The first send may only report the error of the second: the port of the proxy refuses the stranger.
        let _ = stranger.send_to(b"stranger", from).await;
        let _ = stranger.send_to(b"stranger", from).await;
        socket.send_to(b"answer", from).await.expect("loopback");
        assert_eq!(flow.recv().await, b"answer");
    }
}

#[tokio::test]
async fn d6_nothing_is_sent_if_a_layer_replaces_the_response() {
    let (socket, address) = target().await;
    let handler = ConnectUdp::new(loopback(address.port()));
    let inner = UpgradeLayer::new().protocol("connect-udp", handler);
    let service = UpgradeLayer::new().layer(inner.layer(service_fn(plain)).map_response(
        |mut response: http::Response<_>| {
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        },
    ));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    let line = format!("GET {} HTTP/1.1", path(address));
    let request = head(&[
        &line,
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: connect-udp",
    ]);
    peer.send([request.as_bytes(), &capsule(b"early")].concat())
        .await;
    assert_eq!(peer.head().await.status, 403);
    server.connections_ended().await;
    // Anything that the proxy had sent would arrive before this.
    let (other, _) = target().await;
    other.send_to(b"last", address).await.expect("loopback");
    assert_eq!(recv_from(&socket).await.0, b"last");
}

#[tokio::test]
async fn d6_early_datagrams_are_sent_after_the_response() {
    for via in VERSIONS {
        let echo = Echo::start().await;
        let proxy = Proxy::start(via, echo.address).await;
        let early = capsule(b"early");
        let mut flow = proxy.ask_early(&path(echo.address), &[], &early).await;
        flow.assert_upgraded();
        assert_eq!(flow.recv().await, b"early");
    }
}

/// Time is paused: a sleep lasts until the proxy has read all datagrams that it can read.
#[tokio::test(start_paused = true)]
async fn d6_queue_keeps_the_latest_datagrams_while_the_client_does_not_read() {
    for via in VERSIONS {
        let (socket, address) = target().await;
        let proxy = Proxy::start(via, address).await;
        let mut flow = proxy.open(address).await;
        flow.send(b"hello").await;
        let (_, from) = recv_from(&socket).await;
        // More than the buffers of the connection hold.
        let total = 20_000_u32;
        for number in 0..total {
            let mut payload = [0; 1000];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            socket.send_to(&payload, from).await.expect("loopback");
            if number % 40 == 39 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let mut received = Vec::new();
        while received.last() != Some(&(total - 1)) {
            let payload = flow.recv().await;
            let number = payload[..4].try_into().expect("a number");
            received.push(u32::from_be_bytes(number));
        }
        assert!(received.is_sorted(), "{via:?}");
        assert!(received.len() < total as usize, "{via:?}: none dropped");
        // The queue has room for 61 datagrams of this size.
        let latest: Vec<u32> = (total - 61..total).collect();
        assert!(received.ends_with(&latest), "{via:?}");
    }
}

async fn accept(_request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    let run = |session: Session| async move {
        let mut datagrams = HttpDatagrams::from(session);
        while let Some(datagram) = datagrams.recv().await {
            datagrams.send(datagram?).await?;
        }
        Ok(())
    };
    let capsules = HeaderValue::from_static("?1");
    Ok(Accept::new(run).header("capsule-protocol", capsules))
}

#[tokio::test]
async fn handler_of_another_protocol_sends_and_receives_datagrams() {
    let layer = UpgradeLayer::new().protocol("echo-datagrams", accept_fn(accept));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo-datagrams", &[])).await;
    assert_eq!(peer.head().await.status, 101);
    peer.send(capsule_of(0, b"one")).await;
    assert_eq!(peer.exactly(5).await, b"\0\x03one");
    // The stream of the session ends with that of the client.
    peer.finish().await;
    peer.expect_end().await;
}

/// A violation is the client's fault, and needs no attention of the operator.
#[tokio::test]
async fn d1_violation_is_logged_at_debug() {
    let (log, _guard) = Log::start();
    let layer = UpgradeLayer::new().protocol("echo-datagrams", accept_fn(accept));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo-datagrams", &[])).await;
    assert_eq!(peer.head().await.status, 101);
    peer.send(&capsule_of(0, &vec![1; 70_000])[..5]).await;
    peer.rest().await.expect_err("a reset");
    until(|| !log.lines("session failed").is_empty()).await;
    let failed = log.lines("session failed");
    assert!(
        failed.len() == 1 && failed[0].contains("DEBUG"),
        "{failed:?}"
    );
}

fn pair(buffer: usize) -> (HttpDatagrams, tokio::io::DuplexStream) {
    let (io, peer) = tokio::io::duplex(buffer);
    let io = Upgraded::from_parts(UpgradedParts::new(io, Bytes::new()));
    (HttpDatagrams::new(io), peer)
}

#[tokio::test]
async fn d6_send_queue_is_bounded_and_drops_the_oldest() {
    let (mut datagrams, peer) = pair(100);
    for number in 0..100_u8 {
        // 1 KiB with the overhead of a datagram.
        let payload = vec![number; 1024 - 64].into();
        datagrams.send(payload).await.expect("an open stream");
    }
    // The first is being written, and 64 wait.
    assert_eq!(datagrams.dropped(), 35);
    let receive = async {
        let io = Upgraded::from_parts(UpgradedParts::new(peer, Bytes::new()));
        let mut peer = HttpDatagrams::new(io);
        let mut numbers = Vec::new();
        while let Some(datagram) = peer.recv().await {
            numbers.push(datagram.expect("a datagram")[0]);
        }
        numbers
    };
    let (closed, numbers) = soon(async { tokio::join!(datagrams.close(), receive) }).await;
    closed.expect("an open stream");
    let expected: Vec<u8> = [0].into_iter().chain(36..100).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn d1_dropped_sender_does_not_end_in_order_within_a_capsule() {
    let (ours, mut theirs) = tcp::pair().await;
    let mut datagrams =
        HttpDatagrams::new(Upgraded::from_parts(UpgradedParts::new(ours, Bytes::new())));
    let payload = Bytes::from(vec![7; 60_000]);
    while datagrams.dropped() == 0 {
        datagrams
            .send(payload.clone())
            .await
            .expect("an open stream");
    }
    drop(datagrams);
    let end = soon(theirs.read_to_end(&mut Vec::new())).await;
    assert_eq!(end.expect_err("a reset").kind(), ErrorKind::ConnectionReset);

    let (ours, mut theirs) = tcp::pair().await;
    let mut datagrams =
        HttpDatagrams::new(Upgraded::from_parts(UpgradedParts::new(ours, Bytes::new())));
    datagrams.send(payload).await.expect("an open stream");
    drop(datagrams);
    let mut received = Vec::new();
    let end = soon(theirs.read_to_end(&mut received)).await;
    assert_eq!((end.expect("an end"), received.len()), (60_005, 60_005));
}

#[tokio::test]
async fn many_datagrams_of_one_read_do_not_monopolize_the_thread() {
    let (mut datagrams, mut peer) = pair(1 << 20);
    peer.write_all(&b"\0\0".repeat(30_000))
        .await
        .expect("an open stream");
    let received = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&received);
    tokio::spawn(async move {
        while let Some(Ok(_)) = datagrams.recv().await {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::task::yield_now().await;
    let first = received.load(Ordering::Relaxed);
    assert!((1..30_000).contains(&first), "{first}");
    until(|| received.load(Ordering::Relaxed) == 30_000).await;
}

#[tokio::test]
async fn datagram_over_the_limit_is_not_sent() {
    let (mut datagrams, _peer) = pair(1 << 20);
    let error = datagrams.send(vec![0; 65_544].into()).await;
    assert_eq!(error.expect_err("too long").kind(), ErrorKind::InvalidInput);
    let sent = datagrams.send(vec![0; 65_543].into()).await;
    sent.expect("an open stream");
}

/// The proxy sends payloads of one length at once.
#[tokio::test]
async fn payloads_of_any_lengths_that_arrive_together_keep_their_order_and_lengths() {
    for via in VERSIONS {
        let (socket, address) = target().await;
        let proxy = Proxy::start(via, address).await;
        let mut flow = proxy.open(address).await;
        let lengths = [0, 0, 7, 7, 7, 3, 7, 1, 0, 100, 200, 200, 100, 9000, 9000, 1];
        let lengths = lengths.into_iter().chain([50; 70]);
        let payloads: Vec<_> = lengths
            .zip(1..)
            .map(|(length, byte)| vec![byte; length])
            .collect();
        let capsules: Vec<_> = payloads.iter().map(|payload| capsule(payload)).collect();
        flow.peer.send(capsules.concat()).await;
        let mut from = None;
        for payload in &payloads {
            let (received, sender) = recv_from(&socket).await;
            assert_eq!(&received, payload, "{via:?}");
            from = Some(sender);
        }
        for payload in &payloads {
            let sent = socket.send_to(payload, from.expect("a sender")).await;
            sent.expect("loopback");
        }
        for payload in &payloads {
            assert_eq!(&flow.recv().await, payload, "{via:?}");
        }
    }
}
