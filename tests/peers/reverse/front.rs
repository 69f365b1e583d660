//! Who is in front of our proxy: nginx or HAProxy, as a process, or nobody.

use crate::{
    example::program,
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
pub(super) enum Who {
    Nobody,
    Nginx,
    Haproxy,
}

pub(super) const ALL: [Who; 3] = [Who::Nobody, Who::Nginx, Who::Haproxy];

pub(super) struct Front {
    pub(super) address: SocketAddr,
    _process: Option<Process>,
}

struct Process {
    directory: PathBuf,
    child: Child,
}

impl Front {
    pub(super) async fn start(who: Who, proxy: SocketAddr) -> Self {
        match who {
            Who::Nobody => Self {
                address: proxy,
                _process: None,
            },
            Who::Nginx => nginx(proxy).await,
            Who::Haproxy => haproxy(proxy),
        }
    }

    pub(super) async fn connect(&self) -> Peer<TcpStream> {
        let io = soon(TcpStream::connect(self.address)).await;
        let io = io.expect("it listens");
        io.set_nodelay(true).expect("a socket");
        Peer::new(io)
    }
}

/// It takes no open socket. Somebody may be faster with a free port.
async fn nginx(proxy: SocketAddr) -> Front {
    let mut said = String::new();
    for _ in 0..10 {
        let address = free().local_addr().expect("bound");
        let mut process = Process::start("nginx", address, |directory| {
            let mut nginx = program("nginx", "nginx");
            // In the foreground, as one process.
            nginx
                .args(["-e", "stderr", "-g", "daemon off; master_process off;"])
                .stderr(Stdio::piped())
                .arg("-p")
                .arg(directory);
            let config = include_str!("nginx.conf");
            let config = config.replace("PORT", &address.port().to_string());
            (nginx, "-c", config.replace("PROXY", &proxy.to_string()))
        });
        match soon(process.writes_its_id()).await {
            Ok(()) => return process.at(address),
            Err(complaints) => said = complaints,
        }
        if !said.contains("Address already in use") {
            break;
        }
    }
    panic!("nginx does not start: {said}");
}

/// The listening socket is its standard input: nobody has to guess a free port, and whoever connects before it
/// is there waits for it.
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
    /// With a directory of its own, and a file with its configuration there.
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
            child: child.expect("it starts"),
        }
    }

    /// Waits until it does: by then nginx listens. Returns what it says if it ends.
    async fn writes_its_id(&mut self) -> Result<(), String> {
        while !self.directory.join("nginx.pid").exists() {
            if self.child.try_wait().expect("its state").is_some() {
                let mut said = String::new();
                let mut complaints = self.child.stderr.take().expect("it is piped");
                let _ = complaints.read_to_string(&mut said).await;
                return Err(said);
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
