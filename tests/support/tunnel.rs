//! Targets and resolvers for tests of proxies.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use tower_upgrade::{
    BoxError, copy,
    tunnel::{Policy, Resolve},
};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A TCP echo server, without HTTP.
pub struct Target {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<()>,
    accepting: JoinHandle<()>,
}

impl Target {
    pub async fn start() -> Self {
        Self::start_at((LOOPBACK, 0).into()).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let accepting = tokio::spawn({
            let (accepted, open) = (Arc::clone(&accepted), Arc::clone(&open));
            async move {
                while let Ok((mut io, _)) = listener.accept().await {
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let open = Arc::clone(&open);
                    tokio::spawn(async move {
                        let _open = open;
                        let (mut reader, mut writer) = io.split();
                        // Tests check the end of a connection from the client side.
                        let _ = copy(&mut reader, &mut writer).await;
                    });
                }
            }
        });
        Self {
            address,
            accepted,
            open,
            accepting,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        // Subtract the clones of `self` and of the accepting task.
        Arc::strong_count(&self.open) - 2
    }

    /// Allows loopback addresses at the target's port.
    pub fn policy(&self) -> Policy {
        loopback(self.port())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Allows loopback addresses at this port.
pub fn loopback(port: u16) -> Policy {
    let network = "127.0.0.0/8".parse().expect("a network");
    Policy::new().ports([port]).allow_network(network)
}

/// An address that refuses connections: its port is bound, so that no other process listens there.
pub struct Refuses {
    pub address: SocketAddr,
    _socket: TcpSocket,
}

impl Refuses {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((LOOPBACK, 0).into()).expect("loopback");
        Self {
            address: socket.local_addr().expect("bound"),
            _socket: socket,
        }
    }
}

/// An address that does not answer a connect, because its accept queue is full. Needs paused time.
#[cfg(target_os = "linux")]
pub struct Silent {
    pub address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<tokio::net::TcpStream>,
}

#[cfg(target_os = "linux")]
impl Silent {
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((LOOPBACK, 0).into()).expect("loopback");
        let listener = socket.listen(1).expect("loopback");
        let address = listener.local_addr().expect("bound");
        let mut waiting = Vec::new();
        let second = std::time::Duration::from_secs(1);
        while let Ok(connected) =
            tokio::time::timeout(second, tokio::net::TcpStream::connect(address)).await
        {
            waiting.push(connected.expect("loopback"));
        }
        Self {
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }
}

type Answer = dyn Fn(&str, usize) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// A resolver that answers with a closure, and counts its calls.
#[derive(Clone)]
pub struct Resolver {
    answer: Arc<Answer>,
    asked: Arc<AtomicUsize>,
}

impl Resolver {
    /// `answer` gets the name and the number of earlier calls.
    pub fn new(
        answer: impl Fn(&str, usize) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            answer: Arc::new(answer),
            asked: Arc::default(),
        }
    }

    /// Resolves any name to these addresses.
    pub fn of(addresses: &[&str]) -> Self {
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
        Self::new(move |_, _| Ok(addresses.clone()))
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolve for Resolver {
    async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, BoxError> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        // `ConnectProxy` takes the port from the request.
        let with_port = |address| SocketAddr::new(address, 9);
        let found = (self.answer)(host, asked)?;
        Ok(found.into_iter().map(with_port).collect())
    }
}

/// A resolver that never answers, and counts the pending calls.
#[derive(Clone, Default)]
pub struct Pending(Arc<AtomicUsize>);

impl Pending {
    pub fn waiting(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A pending call of [`Pending`].
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Resolve for Pending {
    async fn resolve(&self, _host: &str) -> Result<Vec<SocketAddr>, BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(Arc::clone(&self.0));
        std::future::pending().await
    }
}
