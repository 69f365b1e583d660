//! A rolling restart of two servers (`examples/graceful.rs`) behind HAProxy, while clients open sessions.

use crate::{
    haproxy::Haproxy,
    process::Example,
    support::{Peer, offer, soon, text},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet};

/// A client's side of HAProxy.
trait Front {
    async fn connect(&self) -> Peer<TcpStream>;

    /// Opens a session. Returns its client and the name of its server.
    async fn open(&self, protocol: &str) -> (Peer<TcpStream>, String);
}

impl Front for Haproxy {
    async fn connect(&self) -> Peer<TcpStream> {
        let io = soon(TcpStream::connect(self.address)).await;
        Peer::new(io.expect("a listener"))
    }

    async fn open(&self, protocol: &str) -> (Peer<TcpStream>, String) {
        let mut peer = self.connect().await;
        peer.send(offer(protocol, &[])).await;
        let head = peer.head().await;
        head.assert_upgraded(protocol);
        let server = head.get("x-server").expect("the field `x-server`");
        (peer, server)
    }
}

/// Clients that open one session after the other and exchange an echo on each.
struct Clients {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    served: Arc<Semaphore>,
}

impl Clients {
    fn start(haproxy: &Arc<Haproxy>) -> Self {
        let mut clients = Self {
            tasks: JoinSet::new(),
            stop: Arc::default(),
            served: Arc::new(Semaphore::new(0)),
        };
        for protocol in ["echo", "stubborn", "echo", "stubborn"] {
            let haproxy = Arc::clone(haproxy);
            let (stop, served) = (Arc::clone(&clients.stop), Arc::clone(&clients.served));
            clients.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // Every session opens, whichever server restarts.
                    let (peer, server) = haproxy.open(protocol).await;
                    exchange(peer, protocol, &server).await;
                    served.add_permits(1);
                }
            });
        }
        clients
    }

    /// Waits until the clients have completed this many more sessions.
    async fn wait_for_sessions(&mut self, sessions: u32) {
        self.served.forget_permits(usize::MAX);
        tokio::select! {
            served = self.served.acquire_many(sessions) => served.expect("never closed").forget(),
            // A client ends before `finish` only if it fails.
            Some(failed) = self.tasks.join_next() => failed.expect("a client is served"),
        }
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        soon(self.tasks.join_all()).await;
    }
}

/// Exchanges an echo, and closes the session.
async fn exchange(mut peer: Peer<TcpStream>, protocol: &str, server: &str) {
    let word = "hello";
    peer.send(word).await;
    peer.finish().await;
    let seen = match peer.rest().await {
        Ok(seen) => text(&seen),
        Err(error) => panic!("{protocol} on {server}: {error}"),
    };
    // A session that receives the stop signal may end before it reads.
    let is_stopped = protocol == "echo" && seen.is_empty();
    assert!(
        seen == word || is_stopped,
        "{protocol} on {server}: {seen:?}"
    );
}

async fn restart_both(notice: &str) {
    // The deadline is longer than the test takes: no session is aborted.
    let args = ["--notice", notice, "--deadline", "300"];
    let start = || Example::start("graceful", &args);
    let mut servers = [("a", start().await), ("b", start().await)];
    let names = servers
        .each_ref()
        .map(|(name, server)| (*name, server.address()));
    let haproxy = Arc::new(Haproxy::start(&names).await);
    for (name, _) in &servers {
        haproxy.wait_for(name, "UP").await;
    }
    let mut clients = Clients::start(&haproxy);

    for (name, server) in &mut servers {
        let mut stubborn = Vec::new();
        while stubborn.len() < 3 {
            let (mut peer, server) = haproxy.open("stubborn").await;
            peer.expect_echo(b"hello").await;
            if server == *name {
                stubborn.push(peer);
            }
        }

        // Stop the old server, with its open sessions.
        server.signal("TERM").await;
        haproxy.wait_for(name, "DOWN").await;
        soon(clients.wait_for_sessions(20)).await;
        for _ in 0..3 {
            assert_ne!(haproxy.open("echo").await.1, *name);
        }
        for peer in &mut stubborn {
            peer.expect_echo(b"still here").await;
        }
        for peer in &mut stubborn {
            peer.finish().await;
            peer.expect_end().await;
        }
        let old = std::mem::replace(server, start().await);
        let (stdout, stderr) = old.ended().await;
        assert!(
            stdout.ends_with(" sessions ended, 0 aborted, 0 left\n"),
            "{stdout}"
        );
        assert!(!stderr.contains("panicked"), "{stderr}");

        // Replace it with the new server.
        let (address, port) = server.address().rsplit_once(':').expect("a port");
        let moved = format!("set server servers/{name} addr {address} port {port}");
        haproxy.run(&moved).await;
        haproxy.wait_for(name, "UP").await;
        soon(async { while haproxy.open("echo").await.1 != *name {} }).await;
    }

    clients.finish().await;
}

#[tokio::test]
async fn rolling_restart_fails_no_client() {
    restart_both("1").await;
}

/// Without notice, the load balancer has to retry unanswered requests.
#[tokio::test]
async fn rolling_restart_without_notice_fails_no_client() {
    restart_both("0").await;
}
