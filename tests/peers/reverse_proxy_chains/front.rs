//! The entry of the chain: nginx or HAProxy as a process, or the proxy itself.

use crate::{
    process::program,
    support::{Peer, soon},
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    process::{Child, Command},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balancer {
    /// No balancer: clients connect to the proxy.
    Direct,
    Nginx,
    Haproxy,
}

pub(crate) const ALL: [Balancer; 3] = [Balancer::Direct, Balancer::Nginx, Balancer::Haproxy];

pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    _process: Option<Process>,
}

struct Process {
    directory: PathBuf,
    child: Child,
}

impl Front {
    pub(crate) async fn start(balancer: Balancer, proxy: SocketAddr) -> Self {
        match balancer {
            Balancer::Direct => Self {
                address: proxy,
                _process: None,
            },
            Balancer::Nginx => nginx(proxy).await,
            Balancer::Haproxy => haproxy(proxy),
        }
    }

    pub(crate) async fn connect(&self) -> Peer<TcpStream> {
        let io = soon(TcpStream::connect(self.address)).await;
        let io = io.expect("a listener");
        io.set_nodelay(true).expect("a socket");
        Peer::new(io)
    }
}

/// Retries with another port: nginx opens the listening socket itself, and another process may take a free port.
async fn nginx(proxy: SocketAddr) -> Front {
    let mut log = String::new();
    for _ in 0..10 {
        let address = free().local_addr().expect("bound");
        let mut process = Process::start("nginx", address, |directory| {
            let mut nginx = program("nginx", "nginx");
            // Run in the foreground, as one process.
            nginx
                .args(["-e", "stderr", "-g", "daemon off; master_process off;"])
                .stderr(Stdio::piped())
                .arg("-p")
                .arg(directory);
            let config = include_str!("nginx.conf");
            let config = config.replace("PORT", &address.port().to_string());
            (nginx, "-c", config.replace("PROXY", &proxy.to_string()))
        });
        match soon(process.wait_for_pid_file()).await {
            Ok(()) => return process.at(address),
            Err(stderr) => log = stderr,
        }
        if !log.contains("Address already in use") {
            break;
        }
    }
    panic!("nginx does not start: {log}");
}

/// Passes the listening socket as standard input, so that the port is free and early connections wait.
fn haproxy(proxy: SocketAddr) -> Front {
    let listener = free();
    let address = listener.local_addr().expect("bound");
    let process = Process::start("haproxy", address, |_| {
        let mut haproxy = program("haproxy", "haproxy");
        haproxy.arg("-db").stdin(OwnedFd::from(listener));
        let config = include_str!("haproxy.cfg");
        (haproxy, "-f", config.replace("PROXY", &proxy.to_string()))
    });
    process.at(address)
}

fn free() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback")
}

impl Process {
    /// Starts a process in a new directory, which contains its configuration.
    fn start(
        name: &str,
        address: SocketAddr,
        configure: impl FnOnce(&Path) -> (Command, &'static str, String),
    ) -> Self {
        let directory = format!("tower-upgrade-front-{name}-{}", address.port());
        let directory = std::env::temp_dir().join(directory);
        fs::create_dir_all(&directory).expect("a directory for temporary files");
        let (mut command, option, config) = configure(&directory);
        let file = directory.join("config");
        fs::write(&file, config).expect("a file");
        let child = command.arg(option).arg(&file).spawn();
        Self {
            directory,
            child: child.expect("a started process"),
        }
    }

    /// Waits for the process id file, which nginx writes after it listens. Returns stderr if nginx exits.
    async fn wait_for_pid_file(&mut self) -> Result<(), String> {
        while !self.directory.join("nginx.pid").exists() {
            if self.child.try_wait().expect("a process state").is_some() {
                let mut log = String::new();
                let mut stderr = self.child.stderr.take().expect("a pipe");
                let _ = stderr.read_to_string(&mut log).await;
                return Err(log);
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn at(self, address: SocketAddr) -> Front {
        Front {
            address,
            _process: Some(self),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
