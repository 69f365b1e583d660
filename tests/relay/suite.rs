//! The behaviour that copying and splicing relays share, for every kind of connection.

use crate::{
    support::{soon, text},
    wire::{Peer, Wire, join},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, split},
    sync::oneshot,
};
use tower_upgrade::tunnel::RelayEnd;

/// Enough for many calls of `splice(2)`, and more than the kernel buffers.
const MUCH: usize = 24 * 1024 * 1024 + 7;

pub(crate) async fn suite(a: Wire, b: Wire) {
    concurrent_bulk_transfers_complete(a, b).await;
    early_bytes_are_sent_first(a, b).await;
    half_close_keeps_the_other_direction_open(a, b).await;
    half_close_keeps_the_other_direction_open(b, a).await;
    slow_reader_receives_every_byte(a, b).await;
    small_and_large_messages_alternate(a, b).await;
    stop_waits_for_unsent_bytes(a, b).await;
}

/// Bytes with a period that does not divide the length of any buffer.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    let word = |i: u32| i.wrapping_mul(0x9e37_79b9).to_le_bytes();
    let block: Vec<u8> = (0..25_013).flat_map(word).collect();
    let mut bytes = block.repeat(length.div_ceil(block.len()));
    bytes.truncate(length);
    bytes
}

async fn send(mut to: impl tokio::io::AsyncWrite + Unpin, bytes: &[u8]) {
    to.write_all(bytes).await.expect("the relay reads");
    to.shutdown().await.expect("a socket");
}

async fn receive(mut from: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut received = Vec::new();
    from.read_to_end(&mut received).await.expect("an end");
    received
}

async fn concurrent_bulk_transfers_complete(a: Wire, b: Wire) {
    let (relay, first, second) = join(a, b, b"").await;
    let (there, back) = (bytes(MUCH), bytes(MUCH + 1000));
    let ((first_reads, first_writes), (second_reads, second_writes)) =
        (split(first), split(second));
    let all = async {
        tokio::join!(
            relay,
            send(first_writes, &there),
            send(second_writes, &back),
            receive(second_reads),
            receive(first_reads),
        )
    };
    let (relayed, (), (), at_second, at_first) = soon(all).await;
    assert!(at_second == there, "{a:?} to {b:?}");
    assert!(at_first == back, "{b:?} to {a:?}");
    assert_eq!(relayed.a_to_b(), there.len() as u64);
    assert_eq!(relayed.b_to_a(), back.len() as u64);
    assert!(matches!(relayed.end(), RelayEnd::Finished), "{relayed}");
}

async fn early_bytes_are_sent_first(a: Wire, b: Wire) {
    // More early bytes than the relay copies before it would splice.
    let all = bytes(MUCH);
    let (early, late) = all.split_at(1_000_001);
    let (relay, first, second) = join(a, b, early).await;
    let (first_reads, first_writes) = split(first);
    let (second_reads, second_writes) = split(second);
    let transfer = async {
        tokio::join!(
            relay,
            send(first_writes, late),
            send(second_writes, b""),
            receive(second_reads),
            receive(first_reads),
        )
    };
    let (relayed, (), (), at_second, _) = soon(transfer).await;
    assert!(at_second == all, "{a:?} to {b:?}");
    assert_eq!(relayed.a_to_b(), all.len() as u64);
}

async fn half_close_keeps_the_other_direction_open(a: Wire, b: Wire) {
    let (relay, mut first, mut second) = join(a, b, b"").await;
    let relay = tokio::spawn(relay);
    send(&mut first, b"last bytes").await;
    assert_eq!(text(&soon(receive(&mut second)).await), "last bytes");
    // The second peer sends only after it has read EOF.
    let back = bytes(MUCH);
    let sent = async { tokio::join!(send(&mut second, &back), receive(&mut first)) };
    let ((), at_first) = soon(sent).await;
    assert!(at_first == back, "{b:?} to {a:?}");
    let relayed = soon(relay).await.expect("no panic");
    assert_eq!((relayed.a_to_b(), relayed.b_to_a()), (10, MUCH as u64));
    assert!(matches!(relayed.end(), RelayEnd::Finished), "{relayed}");
}

async fn slow_reader_receives_every_byte(a: Wire, b: Wire) {
    let (relay, first, mut second) = join(a, b, b"").await;
    let there = bytes(MUCH);
    let mut relay = tokio::spawn(relay);
    let (_first_reads, first_writes) = split(first);
    let sending = tokio::spawn({
        let there = there.clone();
        async move { send(first_writes, &there).await }
    });
    let mut received = Vec::new();
    // In each pause the relay fills all buffers and stalls.
    for pause in 0..3 {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        assert!(!relay.is_finished(), "pause {pause}");
        let mut piece = vec![0; 3 * 1024 * 1024];
        soon(second.read_exact(&mut piece)).await.expect("more");
        received.extend(piece);
    }
    received.extend(soon(receive(&mut second)).await);
    assert!(received == there, "{a:?} to {b:?}");
    soon(sending).await.expect("no panic");
    drop(second);
    let relayed = soon(&mut relay).await.expect("no panic");
    assert_eq!(relayed.a_to_b(), MUCH as u64);
}

async fn small_and_large_messages_alternate(a: Wire, b: Wire) {
    let (relay, mut first, mut second) = join(a, b, b"").await;
    let relay = tokio::spawn(relay);
    for size in [1, 700_000, 16, 5_000_000, 1, 1, 300_000, 2_000_000, 3] {
        send_message(&mut first, &mut second, size).await;
        send_message(&mut second, &mut first, 16).await;
    }
    drop((first, second));
    let relayed = soon(relay).await.expect("no panic");
    assert_eq!(relayed.b_to_a(), 9 * 16);
}

async fn send_message(from: &mut Peer, to: &mut Peer, size: usize) {
    let message = bytes(size);
    let mut received = vec![0; size];
    let exchange = async { tokio::join!(from.write_all(&message), to.read_exact(&mut received)) };
    let (sent, read) = soon(exchange).await;
    sent.expect("the relay reads");
    read.expect("all bytes");
    assert!(received == message, "{size} bytes");
}

async fn stop_waits_for_unsent_bytes(a: Wire, b: Wire) {
    let (relay, mut first, mut second) = join(a, b, b"").await;
    let (stop, stopped) = oneshot::channel::<()>();
    let there = bytes(MUCH);
    let relay = relay.stop(async { drop(stopped.await) });
    let mut relay = tokio::spawn(relay);
    send_message(&mut second, &mut first, 16).await;
    let sending = tokio::spawn({
        let there = there.clone();
        async move {
            first.write_all(&there).await.expect("the relay reads");
            first
        }
    });
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    // The stop signal fires while the peer does not read. The relay still sends the bytes that it has read.
    tokio::time::pause();
    drop(stop);
    for _ in 0..3 {
        // The relay sees the signal first. Without unsent bytes it would end within the time that passes here.
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    assert!(!relay.is_finished());
    tokio::time::resume();
    let mut received = vec![0; MUCH];
    soon(second.read_exact(&mut received))
        .await
        .expect("all bytes");
    assert!(received == there, "{a:?} to {b:?}");
    let mut first = soon(sending).await.expect("no panic");
    // Both peers read EOF, not a reset.
    tokio::time::pause();
    assert_eq!(soon(receive(&mut first)).await, b"");
    assert_eq!(soon(receive(&mut second)).await, b"");
    drop((first, second));
    let relayed = soon(&mut relay).await.expect("no panic");
    tokio::time::resume();
    assert!(matches!(relayed.end(), RelayEnd::Stopped), "{relayed}");
    assert_eq!((relayed.a_to_b(), relayed.b_to_a()), (MUCH as u64, 16));
}
