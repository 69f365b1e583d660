//! The end of a relay between plain connections.

use crate::{
    suite::bytes,
    support::{Peer, soon, tcp, tls::Tls},
    wire::{Wire, join},
};
use std::{io, time::Duration};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    net::TcpStream,
    time::Instant,
};
use tower_upgrade::tunnel::{Relay, RelayEnd, Relayed};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn idle_timeout_ends_the_relay() {
    let (ours, mut first) = duplex(64);
    let (other, mut second) = duplex(64);
    let relay = tokio::spawn(Relay::new(ours, other).idle_timeout(MINUTE));
    // Bytes in either direction restart the timeout.
    for _ in 0..3 {
        tokio::time::sleep(MINUTE - Duration::from_secs(1)).await;
        first.write_all(b"x").await.expect("memory");
        assert_eq!(second.read_u8().await.expect("memory"), b'x');
        tokio::time::sleep(MINUTE - Duration::from_secs(1)).await;
        second.write_all(b"y").await.expect("memory");
        assert_eq!(first.read_u8().await.expect("memory"), b'y');
    }
    let start = Instant::now();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).await.expect("an end");
    assert_eq!(start.elapsed(), MINUTE);
    second.read_to_end(&mut rest).await.expect("an end");
    assert_eq!(rest, b"");
    drop((first, second));
    let relayed = relay.await.expect("no panic");
    assert!(matches!(relayed.end(), RelayEnd::Idle), "{relayed}");
    assert_eq!((relayed.a_to_b(), relayed.b_to_a()), (3, 3));
    let error = relayed.into_result().expect_err("idle");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn relay_without_idle_timeout_stays_open() {
    let (ours, mut first) = duplex(64);
    let (other, mut second) = duplex(64);
    let relay = tokio::spawn(Relay::new(ours, other));
    tokio::time::sleep(MINUTE * 60 * 24 * 365).await;
    first.write_all(b"x").await.expect("memory");
    assert_eq!(second.read_u8().await.expect("memory"), b'x');
    relay.abort();
}

#[tokio::test(start_paused = true)]
async fn quiet_relay_ends_one_second_after_the_stop_signal() {
    for idle_timeout in [None, Some(10 * MINUTE)] {
        let (ours, mut first) = duplex(64);
        let (other, second) = duplex(64);
        let stop = Instant::now() + MINUTE;
        let mut relay = Relay::new(ours, other).stop(tokio::time::sleep_until(stop));
        if let Some(timeout) = idle_timeout {
            relay = relay.idle_timeout(timeout);
        }
        let relay = tokio::spawn(relay);
        assert_eq!(first.read(&mut [0]).await.expect("an end"), 0);
        assert_eq!(Instant::now(), stop + Duration::from_secs(1));
        drop((first, second));
        let relayed = relay.await.expect("no panic");
        assert!(matches!(relayed.end(), RelayEnd::Stopped), "{relayed}");
        assert_eq!(relayed.into_result().expect("no failure"), (0, 0));
    }
}

/// Sends enough for the relay to splice where it can, and waits until all data has arrived.
async fn send(first: &mut TcpStream, second: &mut TcpStream, size: usize) {
    let sent = bytes(size);
    let mut received = vec![0; size];
    let all = async { tokio::join!(first.write_all(&sent), second.read_exact(&mut received)) };
    let (wrote, read) = soon(all).await;
    wrote.expect("the relay reads");
    read.expect("the relay writes");
}

async fn relay_reset(hide: bool) -> Relayed {
    let ((ours, mut first), (other, mut second)) = (tcp::pair().await, tcp::pair().await);
    let relay = match hide {
        true => Relay::new(ours, Box::new(other)),
        false => Relay::new(ours, other),
    };
    let relay = tokio::spawn(relay);
    send(&mut first, &mut second, 3_000_000).await;
    first.set_zero_linger().expect("a socket");
    drop(first);
    let error = soon(second.read(&mut [0])).await;
    if !hide {
        let error = error.expect_err("a reset instead of EOF");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    soon(relay).await.expect("no panic")
}

#[tokio::test]
async fn reset_is_forwarded_after_the_data() {
    for hide in [false, true] {
        let relayed = relay_reset(hide).await;
        assert_eq!(relayed.a_to_b(), 3_000_000);
        assert!(matches!(relayed.end(), RelayEnd::Failed(_)), "{relayed}");
        let error = relayed.into_result().expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

/// Writes until the relay stalls because its other peer does not read.
async fn hold_up(try_write: impl Fn(&[u8]) -> io::Result<usize>) {
    let piece = bytes(1_000_000);
    let mut blocked = 0;
    while blocked < 200 {
        match try_write(&piece) {
            Ok(_) => blocked = 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => blocked += 1,
            Err(error) => panic!("the relay reads: {error}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn reset_by_stalled_reader_resets_the_sender() {
    for hide in [false, true] {
        let ((ours, mut first), (other, mut second)) = (tcp::pair().await, tcp::pair().await);
        let relay = match hide {
            true => Relay::new(ours, Box::new(other)),
            false => Relay::new(ours, other),
        };
        let relay = tokio::spawn(relay);
        second.write_all(b"readable bytes").await.expect("loopback");
        let mut received = [0; 14];
        soon(first.read_exact(&mut received))
            .await
            .expect("the relay writes");
        hold_up(|piece| first.try_write(piece)).await;
        second.set_zero_linger().expect("a socket");
        drop(second);
        let error = soon(first.read(&mut [0])).await;
        let error = error.expect_err("a reset instead of EOF");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let relayed = soon(relay).await.expect("no panic");
        assert!(matches!(relayed.end(), RelayEnd::Failed(_)), "{relayed}");
    }
}

/// The relay does not read from a peer while its write to the other is blocked, so it does not see EOF.
#[tokio::test(start_paused = true)]
async fn reset_is_detected_while_writes_are_blocked() {
    for hide in [false, true] {
        let ((ours, first), (other, second)) = (tcp::pair().await, tcp::pair().await);
        let relay = match hide {
            true => Relay::new(ours, Box::new(other)),
            false => Relay::new(ours, other),
        };
        let relay = tokio::spawn(relay);
        hold_up(|piece| first.try_write(piece)).await;
        first.set_zero_linger().expect("a socket");
        drop(first);
        let relayed = soon(relay).await.expect("no panic");
        let error = relayed.into_result().expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        drop(second);
    }
}

/// Early bytes do not hide the socket from the relay.
#[tokio::test(start_paused = true)]
async fn reset_is_forwarded_while_early_bytes_are_unsent() {
    let early = bytes(24 * 1024 * 1024);
    let (relay, mut first, second) = join(Wire::Tcp, Wire::Tcp, &early).await;
    let relay = tokio::spawn(relay);
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    // The kernel resets a socket that is closed with unread bytes.
    drop(second);
    let error = soon(first.read(&mut [0])).await;
    let error = error.expect_err("a reset instead of EOF");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    soon(relay).await.expect("no panic");
}

/// Closing a Unix socket with unread data resets it.
#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn unix_reset_is_detected_while_writes_are_blocked() {
    let (ours, first) = UnixStream::pair().expect("sockets");
    let (other, mut second) = tcp::pair().await;
    let relay = tokio::spawn(Relay::new(ours, other));
    second.write_all(b"unread").await.expect("a socket");
    soon(first.readable()).await.expect("a socket");
    hold_up(|piece| first.try_write(piece)).await;
    drop(first);
    let relayed = soon(relay).await.expect("no panic");
    let error = relayed.into_result().expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// The relay does not mistake a stalled reader for a reset.
#[tokio::test(start_paused = true)]
async fn half_closed_relay_waits_for_a_stalled_reader() {
    let ((ours, mut first), (other, second)) = (tcp::pair().await, tcp::pair().await);
    let relay = tokio::spawn(Relay::new(ours, other));
    hold_up(|piece| first.try_write(piece)).await;
    first.shutdown().await.expect("a socket");
    tokio::time::sleep(MINUTE).await;
    assert!(!relay.is_finished());
    drop(second);
    relay.abort();
}

#[tokio::test]
async fn peer_that_rejects_writes_is_read_to_eof() {
    /// A peer that sends but rejects all writes.
    struct RejectsWrites<T>(T);
    impl<T: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for RejectsWrites<T> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }
    impl<T: Unpin> tokio::io::AsyncWrite for RejectsWrites<T> {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::task::Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }
    let (ours, mut first) = tcp::pair().await;
    let (other, mut second) = tcp::pair().await;
    let relay = tokio::spawn(Relay::new(ours, RejectsWrites(other)));
    first.write_all(b"rejected").await.expect("loopback");
    let answer = bytes(3_000_000);
    let mut received = Vec::new();
    let talk = async {
        tokio::join!(
            async {
                second.write_all(&answer).await.expect("loopback");
                second.shutdown().await.expect("loopback");
            },
            first.read_to_end(&mut received),
        )
    };
    soon(talk).await.1.expect("EOF, not a reset");
    assert!(received == answer);
    drop(first);
    let relayed = soon(relay).await.expect("no panic");
    assert_eq!((relayed.a_to_b(), relayed.b_to_a()), (0, 3_000_000));
    let error = relayed.into_result().expect_err("a rejected write");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn idle_relay_with_unsent_bytes_resets() {
    for wire in [Wire::Tcp, Wire::Hidden] {
        let (relay, mut first, mut second) = join(wire, wire, b"").await;
        let relay = relay.idle_timeout(Duration::from_millis(1));
        let relay = tokio::spawn(relay);
        // More than the buffers of the kernel hold, and the peer does not read.
        let sending = async { first.write_all(&bytes(64 * 1024 * 1024)).await };
        soon(sending).await.expect_err("the relay has ended");
        let relayed = soon(relay).await.expect("no panic");
        assert!(matches!(relayed.end(), RelayEnd::Idle), "{relayed}");
        if matches!(wire, Wire::Tcp) {
            let rest = soon(second.read_to_end(&mut Vec::new())).await;
            rest.expect_err("a reset: the rest is missing");
        }
    }
}

#[tokio::test]
async fn echo_returns_all_bytes() {
    for hide in [false, true] {
        let (ours, peer) = tcp::pair().await;
        let relay = match hide {
            true => Relay::echo(Box::new(ours)),
            false => Relay::echo(ours),
        };
        let relay = tokio::spawn(relay);
        let sent = bytes(10_000_000);
        let (mut reader, mut writer) = tokio::io::split(peer);
        let talk = async {
            tokio::join!(
                async {
                    writer.write_all(&sent).await.expect("loopback");
                    writer.shutdown().await.expect("loopback");
                },
                async {
                    let mut received = Vec::new();
                    let read = reader.read_to_end(&mut received).await;
                    read.map(|_| received)
                },
            )
        };
        let ((), received) = soon(talk).await;
        assert!(received.expect("an end") == sent);
        let relayed = soon(relay).await.expect("no panic");
        assert_eq!((relayed.a_to_b(), relayed.b_to_a()), (10_000_000, 0));
        assert!(matches!(relayed.end(), RelayEnd::Finished), "{relayed}");
    }
}

#[tokio::test(start_paused = true)]
async fn display_shows_byte_counts_and_end() {
    let (ours, mut first) = duplex(64);
    let (other, mut second) = duplex(64);
    let relay = tokio::spawn(Relay::new(ours, other));
    first.write_all(b"abc").await.expect("memory");
    first.shutdown().await.expect("memory");
    second.write_all(b"d").await.expect("memory");
    second.shutdown().await.expect("memory");
    let mut received = Vec::new();
    first.read_to_end(&mut received).await.expect("memory");
    second.read_to_end(&mut received).await.expect("memory");
    assert_eq!(received, b"dabc");
    let relayed = relay.await.expect("no panic");
    assert_eq!(
        relayed.to_string(),
        "3 bytes one way, 1 the other: finished"
    );
}

#[tokio::test]
async fn idle_relay_ends_tls_with_close_notify() {
    let (ours, mut first) = tcp::pair().await;
    let (under, over) = tcp::pair().await;
    let tls = Tls::new();
    let (acceptor, peer) = (tls.acceptor.accept(under), tls.connect(Peer::new(over)));
    let (other, mut second) = soon(async { tokio::join!(acceptor, peer) }).await;
    let relay =
        Relay::new(ours, other.expect("a handshake")).idle_timeout(Duration::from_millis(1));
    let relay = tokio::spawn(relay);
    // rustls returns EOF only after a close_notify.
    let mut rest = Vec::new();
    let read = soon(second.io.read_to_end(&mut rest)).await;
    assert_eq!(read.expect("an end"), 0);
    let read = soon(first.read_to_end(&mut rest)).await;
    assert_eq!(read.expect("an end"), 0);
    drop((first, second));
    let relayed = soon(relay).await.expect("no panic");
    assert!(matches!(relayed.end(), RelayEnd::Idle), "{relayed}");
}

/// The relay drops an urgent byte (RFC 9293 §3.8.5), and forwards the bytes after it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn urgent_byte_is_dropped_without_a_stall() {
    use rustix::net::{SendFlags, send as send_with};
    for hide in [false, true] {
        let ((ours, mut first), (other, mut second)) = (tcp::pair().await, tcp::pair().await);
        let relay = match hide {
            true => Relay::new(ours, Box::new(other)),
            false => Relay::new(ours, other),
        };
        let relay = tokio::spawn(relay);
        send(&mut first, &mut second, 3_000_000).await;
        assert_eq!(
            send_with(&first, b"!", SendFlags::OOB).expect("a socket"),
            1
        );
        send(&mut first, &mut second, 3_000_000).await;
        drop((first, second));
        let relayed = soon(relay).await.expect("no panic");
        assert_eq!(relayed.a_to_b(), 6_000_000);
    }
}

#[tokio::test]
async fn dropped_relay_with_unsent_bytes_resets_tcp() {
    for (wire, is_tcp) in [(Wire::Tcp, true), (Wire::Unix, false)] {
        let (relay, mut first, mut second) = join(wire, wire, b"").await;
        let relay = tokio::spawn(relay);
        let sending = tokio::spawn(async move { first.write_all(&bytes(24 * 1024 * 1024)).await });
        let mut some = vec![0; 100_000];
        soon(second.read_exact(&mut some))
            .await
            .expect("part of the bytes");
        // Yield until the kernel buffers are full.
        for _ in 0..5000 {
            tokio::task::yield_now().await;
        }
        relay.abort();
        assert!(soon(relay).await.expect_err("dropped").is_cancelled());
        soon(sending)
            .await
            .expect("no panic")
            .expect_err("the relay was dropped");
        let rest = soon(second.read_to_end(&mut some)).await;
        assert_eq!(rest.is_err(), is_tcp);
    }
}
