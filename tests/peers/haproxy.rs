//! HAProxy in front of two servers that are restarted one after the other, while clients come and go.

use crate::{
    example::{Example, program},
    support::{Peer, offer, soon, text},
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    process::{Child, ChildStderr},
    sync::Semaphore,
    task::JoinSet,
};

/// HAProxy as a process, between a port of its own and servers that come and go.
struct Haproxy {
    address: SocketAddr,
    directory: PathBuf,
    process: Child,
    complaints: ChildStderr,
}

impl Haproxy {
    async fn start(servers: &[(&str, &Example)]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("bound");
        // Short: the path of a socket has a hundred characters.
        let name = format!("tower-upgrade-{}", address.port());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for temporary files");

        let servers: String = servers
            .iter()
            .map(|(name, server)| format!("    server {name} {}\n", server.address()))
            .collect();
        // The listening socket is its standard input: nobody has to guess a free port.
        let config = format!(
            "global
    nbthread 1
    stats socket unix@{admin} level admin
defaults
    mode http
    timeout connect 30s
    timeout client 30s
    timeout server 30s
    timeout tunnel 300s
frontend clients
    bind fd@0
    default_backend servers
backend servers
    option httpchk GET /ready
    default-server check inter 100ms fall 1 rise 1
    # A server that is about to stop says 503; one that has closed its listener refuses the connection,
    # and one that closes what it has not read from says nothing. All go to the other one.
    retries 10
    option redispatch 1
    retry-on 503 conn-failure empty-response
    http-response set-header x-server %s
{servers}",
            admin = directory.join("admin").display(),
        );
        let file = directory.join("haproxy.cfg");
        fs::write(&file, config).expect("a file");

        let mut process = program("haproxy", "haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(OwnedFd::from(listener))
            .stderr(Stdio::piped())
            .spawn()
            .expect("haproxy starts");
        let haproxy = Self {
            address,
            directory,
            complaints: process.stderr.take().expect("it is piped"),
            process,
        };
        soon(haproxy.starts()).await
    }

    async fn starts(mut self) -> Self {
        while UnixStream::connect(self.directory.join("admin"))
            .await
            .is_err()
        {
            if self.process.try_wait().expect("its state").is_some() {
                let mut said = String::new();
                let _ = self.complaints.read_to_string(&mut said).await;
                panic!("haproxy does not start: {said}");
            }
            tokio::task::yield_now().await;
        }
        self
    }

    async fn connect(&self) -> Peer<TcpStream> {
        let io = soon(TcpStream::connect(self.address)).await;
        Peer::new(io.expect("it listens"))
    }

    /// A session, and which server it is on.
    async fn open(&self, protocol: &str) -> (Peer<TcpStream>, String) {
        let mut peer = self.connect().await;
        peer.send(offer(protocol, &[])).await;
        let head = peer.head().await;
        head.assert_switched(protocol);
        let server = head.get("x-server").expect("haproxy says it");
        (peer, server)
    }

    /// What an administrator is told.
    async fn tell(&self, command: &str) -> String {
        let mut answer = String::new();
        let exchange = async {
            let mut admin = UnixStream::connect(self.directory.join("admin")).await?;
            admin.write_all(format!("{command}\n").as_bytes()).await?;
            admin.read_to_string(&mut answer).await
        };
        soon(exchange).await.expect("haproxy answers");
        answer
    }

    /// Waits until it sends requests to a server, or no more of them.
    async fn sees(&self, server: &str, state: &str) {
        let row = format!("servers,{server},");
        soon(async {
            loop {
                let table = self.tell("show stat").await;
                let mut rows = table.lines();
                let names = rows.next().expect("a head of the table").split(',');
                let column = names.into_iter().position(|name| name == "status");
                let row = rows.find(|line| line.starts_with(&row)).expect("a server");
                if row.split(',').nth(column.expect("a column")) == Some(state) {
                    return;
                }
            }
        })
        .await;
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Clients that open one session after the other, each with a word and its echo.
struct Clients {
    tasks: JoinSet<()>,
    enough: Arc<AtomicBool>,
    served: Arc<Semaphore>,
}

impl Clients {
    fn start(haproxy: &Arc<Haproxy>) -> Self {
        let mut clients = Self {
            tasks: JoinSet::new(),
            enough: Arc::default(),
            served: Arc::new(Semaphore::new(0)),
        };
        for protocol in ["echo", "stubborn", "echo", "stubborn"] {
            let haproxy = Arc::clone(haproxy);
            let (enough, served) = (Arc::clone(&clients.enough), Arc::clone(&clients.served));
            clients.tasks.spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    // Whatever happens behind: it is let in.
                    let (peer, server) = haproxy.open(protocol).await;
                    talk(peer, protocol, &server).await;
                    served.add_permits(1);
                }
            });
        }
        clients
    }

    /// Waits until they have had so many sessions more.
    async fn go_on(&mut self, sessions: u32) {
        self.served.forget_permits(usize::MAX);
        tokio::select! {
            served = self.served.acquire_many(sessions) => served.expect("never closed").forget(),
            // None of them ends before it is told to.
            Some(failed) = self.tasks.join_next() => failed.expect("a client is served"),
        }
    }

    async fn finish(self) {
        self.enough.store(true, Ordering::Relaxed);
        soon(self.tasks.join_all()).await;
    }
}

/// A word and its echo, and the end in order.
async fn talk(mut peer: Peer<TcpStream>, protocol: &str, server: &str) {
    let word = "hello";
    peer.send(word).await;
    peer.finish().await;
    let seen = match peer.rest().await {
        Ok(seen) => text(&seen),
        Err(error) => panic!("{protocol} on {server}: {error}"),
    };
    // Told to stop, it may have ended before it heard anything.
    let is_told = protocol == "echo" && seen.is_empty();
    assert!(seen == word || is_told, "{protocol} on {server}: {seen:?}");
}

async fn restart_both(notice: &str) {
    // The deadline is longer than the test takes: no session is cut by the time.
    let args = ["--notice", notice, "--deadline", "300"];
    let start = || Example::start("graceful", &args);
    let mut servers = [("a", start().await), ("b", start().await)];
    let names = servers.each_ref().map(|(name, server)| (*name, server));
    let haproxy = Arc::new(Haproxy::start(&names).await);
    for (name, _) in &servers {
        haproxy.sees(name, "UP").await;
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

        // The old one goes, with all that is open on it.
        server.signal("TERM").await;
        haproxy.sees(name, "DOWN").await;
        soon(clients.go_on(20)).await;
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
        let (said, complaints) = old.ended().await;
        assert!(
            said.ends_with(" sessions ended, 0 aborted, 0 left\n"),
            "{said}"
        );
        assert!(!complaints.contains("panicked"), "{complaints}");

        // The new one comes in its place.
        let (address, port) = server.address().rsplit_once(':').expect("a port");
        let moved = format!("set server servers/{name} addr {address} port {port}");
        haproxy.tell(&moved).await;
        haproxy.sees(name, "UP").await;
        soon(async { while haproxy.open("echo").await.1 != *name {} }).await;
    }

    clients.finish().await;
}

#[tokio::test]
async fn a_rolling_restart_fails_no_client() {
    restart_both("1").await;
}

// With no notice it takes a load balancer that repeats requests which nobody has answered.
#[tokio::test]
async fn a_rolling_restart_at_once_fails_no_client() {
    restart_both("0").await;
}
