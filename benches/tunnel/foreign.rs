//! Runs HAProxy and nginx, each as one process with one thread.

use crate::sides::Side;
use std::{
    env, fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tokio::net::TcpSocket;
use tower_upgrade::BoxError;

/// A proxy process. Dropping it stops the process and removes its files.
pub(crate) struct Foreign {
    process: Child,
    address: SocketAddr,
    _directory: Directory,
}

impl Foreign {
    /// Starts the proxy. Returns `None` if it is not installed, or rejects its configuration because a module
    /// is missing.
    pub(crate) fn start(
        side: Side,
        upstream: SocketAddr,
        tunnels: usize,
    ) -> Result<Option<Self>, BoxError> {
        let is_haproxy = matches!(side, Side::Haproxy | Side::HaproxySplice);
        let Some(program) = find(if is_haproxy { "haproxy" } else { "nginx" }) else {
            return Ok(None);
        };
        // Reserve the port until the proxy listens. A socket that only binds gets no connections.
        let reserved = TcpSocket::new_v4()?;
        reserved.set_reuseport(true)?;
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = reserved.local_addr()?;
        let directory = Directory::new(address.port())?;
        let config = directory.0.join("config");
        let text = if is_haproxy {
            haproxy(side, address, upstream, tunnels)
        } else {
            nginx(side, address, upstream, tunnels)
        };
        fs::write(&config, text)?;

        let command = |check| {
            let mut command = Command::new(&program);
            if is_haproxy {
                command.arg(if check { "-c" } else { "-db" }).arg("-q");
            } else {
                command.args(["-e", "stderr", "-q", "-p"]).arg(&directory.0);
                if check {
                    command.arg("-t");
                }
            }
            command
                .arg(if is_haproxy { "-f" } else { "-c" })
                .arg(&config);
            command.stdout(Stdio::null());
            command
        };
        let mut check = command(true);
        check.stdin(Stdio::null()).stderr(Stdio::null());
        if !check.status()?.success() {
            return Ok(None);
        }
        let mut foreign = Self {
            process: command(false).stdin(Stdio::null()).spawn()?,
            address,
            _directory: directory,
        };
        while TcpStream::connect(address).is_err() {
            if let Some(status) = foreign.process.try_wait()? {
                return Err(format!("{} ended at once: {status}", side.name()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(foreign))
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // Both fail only if the process has already exited.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The temporary directory of a proxy's configuration.
struct Directory(PathBuf);

impl Directory {
    fn new(port: u16) -> io::Result<Self> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tunnel-{port}"));
        fs::create_dir_all(&directory)?;
        Ok(Self(directory))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // On failure the directory stays in cargo's target directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Finds a program in `PATH` and in the directories for servers, which `PATH` may not contain on Debian.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|program| program.is_file())
}

fn haproxy(side: Side, address: SocketAddr, upstream: SocketAddr, tunnels: usize) -> String {
    let splice = match side {
        Side::HaproxySplice => "option splice-auto",
        _ => "",
    };
    format!(
        "global
    nbthread 1
    maxconn {tunnels}
listen tunnels
    mode tcp
    {splice}
    timeout connect 30s
    timeout client 1h
    timeout server 1h
    bind {address}
    server upstream {upstream}
"
    )
}

fn nginx(side: Side, address: SocketAddr, upstream: SocketAddr, tunnels: usize) -> String {
    let buffers = match side {
        Side::Nginx64 => "proxy_buffer_size 64k;",
        _ => "",
    };
    // The path on Debian. On other systems the module may be built in.
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let module = match Path::new(module).is_file() {
        true => format!("load_module {module};"),
        false => String::new(),
    };
    let connections = 2 * tunnels;
    format!(
        "{module}
daemon off;
master_process off;
worker_processes 1;
pid pid;
error_log stderr crit;
events {{ worker_connections {connections}; }}
stream {{
    server {{
        listen {address} reuseport;
        proxy_pass {upstream};
        proxy_timeout 1h;
        {buffers}
    }}
}}
"
    )
}
