//! A rolling restart of two servers (`examples/graceful.rs`) behind HAProxy, while clients open sessions.

use crate::{
    process::{Example, program},
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

/// A running HAProxy.
struct Haproxy {
    address: SocketAddr,
    directory: PathBuf,
    process: Child,
    stderr: ChildStderr,
}

impl Haproxy {
    async fn start(servers: &[(&str, &Example)]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("bound");
        // A short name: the path of a Unix socket is limited to about 100 characters.
        let name = format!("tower-upgrade-{}", address.port());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for temporary files");

        let servers: String = servers
            .iter()
            .map(|(name, server)| format!("    server {name} {}\n", server.address()))
            .collect();
        // The listening socket is passed as standard input, so that the port is free.
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
    # A server that is about to stop answers 503. After it has closed its listener, it refuses connections, and
    # it closes accepted connections without a response. Retry all of these on the other server.
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
            stderr: process.stderr.take().expect("a pipe"),
            process,
        };
        soon(haproxy.wait_until_ready()).await
    }

    async fn wait_until_ready(mut self) -> Self {
        while UnixStream::connect(self.directory.join("admin"))
            .await
            .is_err()
        {
            if self.process.try_wait().expect("a process state").is_some() {
                let mut log = String::new();
                let _ = self.stderr.read_to_string(&mut log).await;
                panic!("haproxy does not start: {log}");
            }
            tokio::task::yield_now().await;
        }
        self
    }

    async fn connect(&self) -> Peer<TcpStream> {
        let io = soon(TcpStream::connect(self.address)).await;
        Peer::new(io.expect("a listener"))
    }

    /// Opens a session. Returns its client and the name of its server.
    async fn open(&self, protocol: &str) -> (Peer<TcpStream>, String) {
        let mut peer = self.connect().await;
        peer.send(offer(protocol, &[])).await;
        let head = peer.head().await;
        head.assert_upgraded(protocol);
        let server = head.get("x-server").expect("the field `x-server`");
        (peer, server)
    }

    /// Runs a command on the admin socket, and returns the response.
    async fn run(&self, command: &str) -> String {
        let mut answer = String::new();
        let exchange = async {
            let mut admin = UnixStream::connect(self.directory.join("admin")).await?;
            admin.write_all(format!("{command}\n").as_bytes()).await?;
            admin.read_to_string(&mut answer).await
        };
        soon(exchange).await.expect("a response of haproxy");
        answer
    }

    /// Waits until HAProxy reports this state of a server.
    async fn wait_for(&self, server: &str, state: &str) {
        let row = format!("servers,{server},");
        soon(async {
            loop {
                let table = self.run("show stat").await;
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
    let names = servers.each_ref().map(|(name, server)| (*name, server));
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
