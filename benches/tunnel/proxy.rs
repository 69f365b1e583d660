//! A running proxy, and connections through it.

use crate::{foreign::Foreign, sides::Side, support::ServerProcess};
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower_upgrade::BoxError;

/// One of the sides in a separate process.
pub(crate) struct Proxy {
    side: Side,
    process: Process,
    upstream: SocketAddr,
}

enum Process {
    /// This benchmark's program as a server.
    Server(ServerProcess),
    Foreign(Foreign),
    /// No proxy.
    None,
}

impl Proxy {
    /// Starts a proxy for at most this number of tunnels to `upstream`. Returns `None` if it is not installed.
    pub(crate) fn start(
        side: Side,
        upstream: SocketAddr,
        tunnels: usize,
    ) -> Result<Option<Self>, BoxError> {
        let process = match side {
            Side::Copy | Side::Pooled | Side::Splice | Side::Connect => {
                let served = format!("{}@{upstream}", side.name());
                Process::Server(ServerProcess::start(&served)?)
            }
            Side::Haproxy | Side::HaproxySplice | Side::Nginx | Side::Nginx64 => {
                // The proxy may still hold tunnels that have ended.
                match Foreign::start(side, upstream, tunnels + 100)? {
                    Some(foreign) => Process::Foreign(foreign),
                    None => return Ok(None),
                }
            }
            Side::Direct => Process::None,
        };
        Ok(Some(Self {
            side,
            process,
            upstream,
        }))
    }

    /// Returns the process with the measured CPU time and memory.
    pub(crate) fn id(&self) -> u32 {
        match &self.process {
            Process::Server(server) => server.id(),
            Process::Foreign(foreign) => foreign.id(),
            Process::None => std::process::id(),
        }
    }

    /// Opens a tunnel.
    pub(crate) async fn tunnel(&self) -> io::Result<TcpStream> {
        let address = match &self.process {
            Process::Server(server) => server.address(),
            Process::Foreign(foreign) => foreign.address(),
            Process::None => self.upstream,
        };
        let mut tunnel = TcpStream::connect(address).await?;
        tunnel.set_nodelay(true)?;
        if self.side == Side::Connect {
            let upstream = self.upstream;
            let request = format!("CONNECT {upstream} HTTP/1.1\r\nHost: {upstream}\r\n\r\n");
            tunnel.write_all(request.as_bytes()).await?;
            let mut head = [0; 512];
            let mut end = 0;
            // No bytes follow the head: the upstream sends only echoes.
            while !head[..end].ends_with(b"\r\n\r\n") {
                match tunnel.read(&mut head[end..]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => end += read,
                }
            }
            if !head.starts_with(b"HTTP/1.1 200 ") {
                return Err(io::Error::other("the proxy made no tunnel"));
            }
        }
        Ok(tunnel)
    }

    pub(crate) async fn tunnels(&self, count: usize) -> io::Result<Vec<TcpStream>> {
        let mut tunnels = Vec::with_capacity(count);
        for _ in 0..count {
            tunnels.push(self.tunnel().await?);
        }
        Ok(tunnels)
    }

    pub(crate) fn stop(self) -> Result<(), BoxError> {
        if let Process::Server(server) = self.process {
            server.stop()?;
        }
        Ok(())
    }
}
