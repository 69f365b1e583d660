//! Behaviour of the relay for all kinds of connections, copied and spliced.

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

/// Enough for many turns in the second gear, and for buffers of the kernel to fill up.
const MUCH: usize = 24 * 1024 * 1024 + 7;

pub(crate) async fn suite(a: Wire, b: Wire) {
    much_goes_both_ways_at_once(a, b).await;
    early_bytes_come_first(a, b).await;
    an_end_leaves_the_other_direction_alone(a, b).await;
    an_end_leaves_the_other_direction_alone(b, a).await;
    who_takes_nothing_for_a_while_misses_nothing(a, b).await;
    small_and_large_messages_take_turns(a, b).await;
    it_stops_when_it_has_become_quiet(a, b).await;
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

async fn much_goes_both_ways_at_once(a: Wire, b: Wire) {
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

async fn early_bytes_come_first(a: Wire, b: Wire) {
    // So many that there would be a second gear before they are all gone.
    let all = bytes(MUCH);
    let (early, late) = all.split_at(1_000_001);
    let (relay, first, second) = join(a, b, early).await;
    let (first_reads, first_writes) = split(first);
    let (second_reads, second_writes) = split(second);
    let all_of_it = async {
        tokio::join!(
            relay,
            send(first_writes, late),
            send(second_writes, b""),
            receive(second_reads),
            receive(first_reads),
        )
    };
    let (relayed, (), (), at_second, _) = soon(all_of_it).await;
    assert!(at_second == all, "{a:?} to {b:?}");
    assert_eq!(relayed.a_to_b(), all.len() as u64);
}

async fn an_end_leaves_the_other_direction_alone(a: Wire, b: Wire) {
    let (relay, mut first, mut second) = join(a, b, b"").await;
    let relay = tokio::spawn(relay);
    send(&mut first, b"the last of it").await;
    assert_eq!(text(&soon(receive(&mut second)).await), "the last of it");
    // The second has seen the end of the first, and has all the time it wants.
    let back = bytes(MUCH);
    let sent = async { tokio::join!(send(&mut second, &back), receive(&mut first)) };
    let ((), at_first) = soon(sent).await;
    assert!(at_first == back, "{b:?} to {a:?}");
    let relayed = soon(relay).await.expect("no panic");
    assert_eq!((relayed.a_to_b(), relayed.b_to_a()), (14, MUCH as u64));
    assert!(matches!(relayed.end(), RelayEnd::Finished), "{relayed}");
}

async fn who_takes_nothing_for_a_while_misses_nothing(a: Wire, b: Wire) {
    let (relay, first, mut second) = join(a, b, b"").await;
    let there = bytes(MUCH);
    let mut relay = tokio::spawn(relay);
    let (_first_reads, first_writes) = split(first);
    let sending = tokio::spawn({
        let there = there.clone();
        async move { send(first_writes, &there).await }
    });
    let mut received = Vec::new();
    // Each time the relay has filled what there is to be filled, and waits.
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

async fn small_and_large_messages_take_turns(a: Wire, b: Wire) {
    let (relay, mut first, mut second) = join(a, b, b"").await;
    let relay = tokio::spawn(relay);
    for size in [1, 700_000, 16, 5_000_000, 1, 1, 300_000, 2_000_000, 3] {
        say(&mut first, &mut second, size).await;
        say(&mut second, &mut first, 16).await;
    }
    drop((first, second));
    let relayed = soon(relay).await.expect("no panic");
    assert_eq!(relayed.b_to_a(), 9 * 16);
}

async fn say(from: &mut Peer, to: &mut Peer, size: usize) {
    let message = bytes(size);
    let mut received = vec![0; size];
    let said = async { tokio::join!(from.write_all(&message), to.read_exact(&mut received)) };
    let (sent, read) = soon(said).await;
    sent.expect("the relay reads");
    read.expect("all of it");
    assert!(received == message, "{size} bytes");
}

async fn it_stops_when_it_has_become_quiet(a: Wire, b: Wire) {
    let (relay, mut first, mut second) = join(a, b, b"").await;
    let (stop, stopped) = oneshot::channel::<()>();
    let there = bytes(MUCH);
    let relay = relay.stop(async { drop(stopped.await) });
    let mut relay = tokio::spawn(relay);
    say(&mut second, &mut first, 16).await;
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
        // First it hears of it, and then it has waited for longer than it would if it had nothing to send.
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    assert!(!relay.is_finished());
    tokio::time::resume();
    let mut received = vec![0; MUCH];
    soon(second.read_exact(&mut received))
        .await
        .expect("all of it");
    assert!(received == there, "{a:?} to {b:?}");
    let mut first = soon(sending).await.expect("no panic");
    // Both see an end, and not a reset.
    tokio::time::pause();
    assert_eq!(soon(receive(&mut first)).await, b"");
    assert_eq!(soon(receive(&mut second)).await, b"");
    drop((first, second));
    let relayed = soon(&mut relay).await.expect("no panic");
    tokio::time::resume();
    assert!(matches!(relayed.end(), RelayEnd::Stopped), "{relayed}");
    assert_eq!((relayed.a_to_b(), relayed.b_to_a()), (MUCH as u64, 16));
}
