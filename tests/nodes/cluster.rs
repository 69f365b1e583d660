//! Redis, three nodes of the chat, and HAProxy, as processes.

use crate::{
    haproxy::{Haproxy, program},
    support::{build::build, soon},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream},
    process::{Child, Command},
    time::{Duration, sleep},
};

const NAMES: [&str; 3] = ["a", "b", "c"];

pub(crate) struct Cluster {
    directory: PathBuf,
    redis: Child,
    nodes: Vec<Node>,
    haproxy: Haproxy,
}

pub(crate) struct Node {
    process: Child,
    pub(crate) address: String,
}

impl Node {
    /// Starts the chat on a free port.
    pub(crate) async fn start(args: &[&str], log: &Path) -> Self {
        let program = match std::env::var_os("NODES_PROGRAM") {
            Some(program) => program.into(),
            None => build("chat", &["deflate", "metrics"]).await,
        };
        let log = File::options().create(true).append(true).open(log);
        let mut process = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            // All clients come from HAProxy's address.
            .args(["--sessions-per-address", "100000"])
            .args(["--admin-password", "secret"])
            .args(["--history", "50000", "--notice", "1"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(log.expect("a file"))
            .kill_on_drop(true)
            .spawn()
            .expect("the chat starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        let read = soon(stdout.read_line(&mut line)).await;
        read.expect("readable output");
        // Reads the rest, so that the process can write it.
        tokio::spawn(async move { stdout.read_to_string(&mut String::new()).await });
        let address = line.trim().strip_prefix("listening on http://");
        Self {
            process,
            address: address.expect("the line with the address").to_owned(),
        }
    }

    pub(crate) async fn signal(&mut self, signal: &str) {
        kill(&self.process, signal).await;
        soon(self.process.wait()).await.expect("a process");
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        // A short name: the path of a Unix socket is limited to about 100 characters.
        let name = format!("tower-upgrade-nodes-{:08x}", rand::random::<u32>());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for temporary files");
        let redis = redis(&directory).await;
        let mut nodes = Vec::new();
        for name in NAMES {
            nodes.push(node(&directory, name).await);
        }
        let servers: Vec<_> = NAMES.iter().zip(&nodes).collect();
        let servers: Vec<_> = servers
            .iter()
            .map(|(name, node)| (**name, &*node.address))
            .collect();
        let haproxy = Haproxy::start(&servers).await;
        for name in NAMES {
            haproxy.wait_for(name, "UP").await;
        }
        Self {
            directory,
            redis,
            nodes,
            haproxy,
        }
    }

    /// Returns the address of HAProxy.
    pub(crate) fn address(&self) -> String {
        self.haproxy.address.to_string()
    }

    pub(crate) fn node_address(&self, node: usize) -> &str {
        &self.nodes[node].address
    }

    pub(crate) async fn kill(&mut self, node: usize) {
        self.nodes[node].signal("KILL").await;
    }

    /// Starts a node again, on another port.
    pub(crate) async fn start_node(&mut self, index: usize) {
        let name = NAMES[index];
        self.haproxy.wait_for(name, "DOWN").await;
        let node = node(&self.directory, name).await;
        let (address, port) = node.address.rsplit_once(':').expect("a port");
        let moved = format!("set server servers/{name} addr {address} port {port}");
        self.haproxy.run(&moved).await;
        self.haproxy.wait_for(name, "UP").await;
        self.nodes[index] = node;
    }

    /// Restarts a node as a rolling restart does.
    pub(crate) async fn restart(&mut self, node: usize) {
        self.nodes[node].signal("TERM").await;
        self.start_node(node).await;
    }

    pub(crate) async fn kill_redis(&mut self) {
        kill(&self.redis, "KILL").await;
        soon(self.redis.wait()).await.expect("a process");
    }

    pub(crate) async fn start_redis(&mut self) {
        self.redis = redis(&self.directory).await;
    }

    pub(crate) async fn wipe_redis(&self) {
        let mut redis = UnixStream::connect(socket(&self.directory))
            .await
            .expect("Redis");
        redis.write_all(b"FLUSHALL\r\n").await.expect("Redis");
        let mut answer = [0; 5];
        soon(redis.read_exact(&mut answer))
            .await
            .expect("an answer");
        assert_eq!(&answer, b"+OK\r\n");
    }

    /// Waits until all nodes respond to `/health` with this status.
    pub(crate) async fn until_health(&self, status: u16) {
        for node in &self.nodes {
            soon(async {
                while get(&node.address, "/health").await != status {
                    sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
    }

    pub(crate) async fn stop(mut self) {
        for node in &mut self.nodes {
            node.signal("TERM").await;
        }
        for name in NAMES {
            let log = fs::read_to_string(self.directory.join(name)).expect("a log");
            assert!(!log.contains("panicked"), "{log}");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("redis")
}

async fn redis(directory: &Path) -> Child {
    let socket = socket(directory);
    let _ = fs::remove_file(&socket);
    let process = program("redis-server", "redis-server")
        .args(["--port", "0", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(directory)
        // Redis acknowledges only messages that are on the disk.
        .args([
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
        ])
        .stdout(Stdio::null())
        .spawn()
        .expect("Redis starts");
    soon(async {
        while UnixStream::connect(&socket).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    process
}

async fn node(directory: &Path, name: &str) -> Node {
    let url = format!("redis+unix://{}", socket(directory).display());
    Node::start(&["--redis", &url], &directory.join(name)).await
}

async fn kill(process: &Child, signal: &str) {
    let id = process.id().expect("a running process").to_string();
    let kill = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {id}")])
        .status();
    assert!(kill.await.expect("sh runs").success());
}

/// Returns the status of the response.
pub(crate) async fn get(address: &str, path: &str) -> u16 {
    let response = request(address, "GET", path).await;
    let status = response.split(' ').nth(1).expect("a status");
    status.parse().expect("a number")
}

/// Sends a request as the administrator, and returns the JSON of the response, if any.
pub(crate) async fn admin(address: &str, method: &str, path: &str) -> Value {
    let response = request(address, method, path).await;
    assert!(response.starts_with("HTTP/1.1 2"), "{response}");
    let (_, body) = response.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).unwrap_or_default()
}

async fn request(address: &str, method: &str, path: &str) -> String {
    let mut tcp = soon(TcpStream::connect(address)).await.expect("a listener");
    let request = [
        &format!("{method} {path} HTTP/1.1"),
        &format!("Host: {address}"),
        "Connection: close",
        // `admin:secret`
        "Authorization: Basic YWRtaW46c2VjcmV0\r\n\r\n",
    ];
    let request = request.join("\r\n");
    tcp.write_all(request.as_bytes())
        .await
        .expect("a connection");
    let mut response = String::new();
    let _ = soon(tcp.read_to_string(&mut response)).await;
    response
}
