//! The pipes of a splicing relay. The test counts all pipes of its process, so it needs a separate process.

#![cfg(target_os = "linux")]

#[path = "support/mod.rs"]
mod support;

use hyper_util::client::legacy::connect::HttpConnector;
use std::{net::Shutdown, time::Duration};
use support::{Server, Via, offer, plain, soon, tcp, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    BoxError, Session, Sessions, UpgradeLayer, client, handler_fn,
    tunnel::{Relay, Relayed, ReverseProxy},
};

/// More than the kernel buffers for a connection.
const MUCH: usize = 12 * 1024 * 1024;

/// The maximum number of pipes in a process.
const MOST: usize = 32;

/// The number of idle pipes that a thread keeps.
const POOLED: usize = 1;

/// Returns the number of open pipes. Each pipe has two file descriptors.
fn pipes() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("procfs");
    let targets = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("pipe:"))
        .count()
        / 2
}

struct Tunnel {
    relay: JoinHandle<Relayed>,
    sending: JoinHandle<TcpStream>,
    receiver: TcpStream,
}

impl Tunnel {
    /// Sends `MUCH` bytes to a receiver that does not read.
    async fn open() -> Self {
        let ((ours, mut sender), (other, receiver)) = (tcp::pair().await, tcp::pair().await);
        Self {
            relay: tokio::spawn(Relay::new(ours, other)),
            sending: tokio::spawn(async move {
                sender
                    .write_all(&vec![7; MUCH])
                    .await
                    .expect("the relay reads");
                sender
            }),
            receiver,
        }
    }

    /// Receives all bytes.
    async fn finish(mut self) {
        let mut received = vec![0; MUCH];
        soon(self.receiver.read_exact(&mut received))
            .await
            .expect("all bytes");
        assert!(received == vec![7; MUCH]);
        drop((soon(self.sending).await, self.receiver));
        let relayed = soon(self.relay).await.expect("no panic");
        assert_eq!(relayed.a_to_b(), MUCH as u64);
    }

    /// Drops the relay while bytes are in its pipe.
    async fn drop(self) {
        self.sending.abort();
        self.relay.abort();
        let _ = soon(self.relay).await;
    }
}

#[tokio::test]
async fn pipes_are_pooled_limited_and_released() {
    let before = pipes();
    let open = || pipes() - before;

    // The relay joins a server session and a client session, both of which are based on sockets.
    relay_through_reverse_proxy(open).await;

    // A peer that stops reading for good receives no more bytes, and may still send.
    relay_to_peer_that_stopped_reading(open).await;

    // A stalled relay keeps the bytes in its pipe.
    let tunnel = Tunnel::open().await;
    until(|| open() == 1).await;
    tunnel.finish().await;
    assert_eq!(open(), 1, "the idle pipe stays in the pool");

    // A relay dropped with bytes in its pipe does not pass the pipe to other relays.
    let mut tunnels = Vec::new();
    for _ in 0..5 {
        tunnels.push(Tunnel::open().await);
    }
    until(|| open() == 5).await;
    for tunnel in tunnels.drain(..) {
        tunnel.drop().await;
    }
    // The last relay's pipe may still have been empty.
    assert!(open() <= 1, "{}", open());

    // The number of pipes is limited. The remaining tunnels copy.
    for _ in 0..MOST + 8 {
        tunnels.push(Tunnel::open().await);
    }
    until(|| open() == MOST).await;
    for tunnel in tunnels.drain(..) {
        tunnel.finish().await;
    }
    assert_eq!(open(), POOLED);

    // Dropped relays no longer count towards the limit.
    for _ in 0..MOST + 8 {
        tunnels.push(Tunnel::open().await);
    }
    until(|| open() == MOST).await;
    for tunnel in tunnels.drain(..) {
        tunnel.drop().await;
    }
    until(|| open() <= POOLED).await;
    tunnels.push(Tunnel::open().await);
    until(|| open() >= 1).await;
    for tunnel in tunnels.drain(..) {
        tunnel.finish().await;
    }

    // A new thread has no idle pipes, and the file limit prevents it from opening one.
    let limit = rlimit::Resource::NOFILE.get().expect("a limit");
    let copied = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let tunnel = Tunnel::open().await;
            let before = pipes();
            rlimit::Resource::NOFILE
                .set(0, limit.1)
                .expect("a lower limit");
            tunnel.finish().await;
            rlimit::Resource::NOFILE
                .set(limit.0, limit.1)
                .expect("the previous limit");
            assert_eq!(pipes(), before);
        });
    });
    copied.join().expect("no panic");
}

async fn relay_to_peer_that_stopped_reading(open: impl Fn() -> usize) {
    let ((ours, first), (other, mut second)) =
        (tcp::pair().await, UnixStream::pair().expect("sockets"));
    let relay = tokio::spawn(Relay::new(ours, other));
    let (mut first_reads, mut first_writes) = first.into_split();
    let sending = tokio::spawn(async move {
        // Sends until the relay stalls for good.
        let _ = first_writes.write_all(&vec![7; 64 * MUCH]).await;
    });
    while open() == 0 {
        let mut piece = vec![0; 1024 * 1024];
        soon(second.read_exact(&mut piece)).await.expect("more");
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    let second = second.into_std().expect("a socket");
    second.shutdown(Shutdown::Read).expect("a socket");
    let mut second = UnixStream::from_std(second).expect("a socket");
    // The relay's write side wakes when the socket has room again.
    soon(second.read_to_end(&mut Vec::new()))
        .await
        .expect("an end");
    until(|| open() == 0).await;
    second.write_all(b"still here").await.expect("a socket");
    let mut received = [0; 10];
    soon(first_reads.read_exact(&mut received))
        .await
        .expect("the relay writes");
    assert_eq!(&received, b"still here");
    sending.abort();
    relay.abort();
}

async fn relay_through_reverse_proxy(open: impl Fn() -> usize) {
    let backend = UpgradeLayer::new().protocol("swallow", handler_fn(swallow));
    let backend = Server::start(backend.layer(service_fn(plain))).await;
    let at = format!("http://{}", backend.address);
    let client = client::Dial::new(HttpConnector::new()).destination(at.parse().expect("a URI"));
    let proxy = ReverseProxy::new(client);
    for via in [Via::Http1, Via::Auto] {
        let sessions = Sessions::new();
        let layer = UpgradeLayer::new().any_protocol(proxy.clone());
        let layer = layer.sessions(sessions.clone());
        let server = Server::start_via(via, layer.layer(service_fn(plain))).await;
        let mut peer = server.connect().await;
        peer.send(offer("swallow", &[])).await;
        peer.head().await.assert_upgraded("swallow");
        let mut io = peer.io;
        let sending = tokio::spawn(async move {
            // Sends until the relay stalls for good.
            let _ = io.write_all(&vec![7; 64 * MUCH]).await;
        });
        until(|| open() == 1).await;
        assert_eq!(soon(sessions.drain(Duration::ZERO)).await.aborted, 1);
        until(|| open() == 0).await;
        sending.abort();
    }
}

/// Reads no bytes.
async fn swallow(session: Session) -> Result<(), BoxError> {
    let _io = session.into_io();
    std::future::pending().await
}
