//! HAProxy in front of servers that restart.

use crate::support::soon;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    process::Stdio,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, ChildStderr, Command},
};

/// Returns a command for an installed program. Panics with the Debian package if the program is missing.
pub(crate) fn program(name: &str, package: &str) -> Command {
    let found = std::process::Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        found.is_ok(),
        "`{name}` is not installed: on Debian, `apt-get install {package}`"
    );
    let mut command = Command::new(name);
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// A running HAProxy.
pub(crate) struct Haproxy {
    pub(crate) address: SocketAddr,
    directory: PathBuf,
    process: Child,
    stderr: ChildStderr,
}

impl Haproxy {
    /// Starts HAProxy with these servers: names and addresses.
    pub(crate) async fn start(servers: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("bound");
        // A short name: the path of a Unix socket is limited to about 100 characters.
        let name = format!("tower-upgrade-{}", address.port());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for temporary files");

        let servers: String = servers
            .iter()
            .map(|(name, server)| format!("    server {name} {server}\n"))
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
    # The interval is also the time limit of a check: a busy server must not count as one that has failed.
    default-server check inter 2s downinter 100ms fall 1 rise 1
    # A refused connection counts as a failed check: after a crash, requests do not wait for the next check.
    default-server observe layer4 error-limit 1 on-error mark-down
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

    /// Runs a command on the admin socket, and returns the response.
    pub(crate) async fn run(&self, command: &str) -> String {
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
    pub(crate) async fn wait_for(&self, server: &str, state: &str) {
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
