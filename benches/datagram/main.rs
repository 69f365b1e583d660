//! The cost of a UDP proxy over HTTP/1.1 and HTTP/2, compared with a plain relay of tokio sockets. Linux only.
//!
//! ```text
//! cargo bench --features datagram --bench datagram
//! cargo bench --features datagram --bench datagram -- echo [--rounds 11] [--echoes 50000] [--window 64]
//! cargo bench --features datagram --bench datagram -- idle [--idle 1000]
//! ```
//!
//! Each proxy is a separate process with one thread. The client, and a target that echoes, run in the benchmark's
//! process, each in a thread. The client has a window of datagrams in flight, and sends one for each echo; an echo is
//! relayed twice.
//!
//! - `echo`: echoes of 100 and of 1,200 bytes.
//! - `idle`: resident bytes of an idle session on its own connection, after an echo of 1,200 bytes.
//!
//! `direct` connects the client to the target, and shows their rate and CPU time.

use bytes::Bytes;
use http::Response;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::connect::HttpConnector,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rates::{Series, Unit, compare};
use resident::{WARM_UP, allow_open, resident_bytes, settle};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket},
    str::FromStr,
    thread,
    time::Duration,
};
use support::{Arguments, ServerProcess, not_found, run_server, single_thread};
use tokio::{
    net::{TcpListener, UdpSocket},
    time::timeout,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    BoxError, UpgradeLayer, client,
    datagram::{ConnectUdp, Udp, UdpRequest},
    tunnel::Policy,
};

#[allow(dead_code, reason = "instructions are not compared")]
#[path = "../support/rates.rs"]
mod rates;
#[path = "../support/resident.rs"]
mod resident;
#[allow(dead_code, reason = "this benchmark has other servers and clients")]
#[path = "../support/mod.rs"]
mod support;

const SIZES: [usize; 2] = [100, 1200];

/// The compared proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// A relay between two sockets, for one client.
    Relay,
    /// `ConnectUdp` over HTTP/1.1.
    Http1,
    /// `ConnectUdp` over HTTP/2.
    Http2,
    /// No proxy. The CPU time is that of both ends.
    Direct,
}

impl Side {
    const ALL: [Self; 4] = [Self::Relay, Self::Http1, Self::Http2, Self::Direct];

    fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Http1 => "http/1.1",
            Self::Http2 => "http/2",
            Self::Direct => "direct",
        }
    }
}

/// The server of one of the sides, parsed from an argument such as `relay@127.0.0.1:4321`.
struct Served {
    side: Side,
    target: SocketAddr,
}

impl FromStr for Served {
    type Err = BoxError;

    fn from_str(text: &str) -> Result<Self, BoxError> {
        let (name, target) = text.split_once('@').ok_or("no target")?;
        let side = Side::ALL.into_iter().find(|side| side.name() == name);
        Ok(Self {
            side: side.ok_or_else(|| format!("no such server: {name}"))?,
            target: target.parse()?,
        })
    }
}

impl Served {
    async fn serve(self, listener: TcpListener) -> io::Result<()> {
        if self.side == Side::Relay {
            // The client sends to the same port.
            return relay(listener.local_addr()?, self.target).await;
        }
        let loopback = "127.0.0.0/8".parse().expect("a network");
        let policy = Policy::new().ports([self.target.port()]);
        let proxy = ConnectUdp::new(policy.allow_network(loopback));
        let service = UpgradeLayer::new()
            .protocol("connect-udp", proxy)
            .layer(service_fn(answer));
        loop {
            let (io, _) = listener.accept().await?;
            io.set_nodelay(true)?;
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().enable_connect_protocol();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                // The client may have left.
                let _ = server
                    .serve_connection_with_upgrades(TokioIo::new(io), service)
                    .await;
            });
        }
    }
}

async fn answer(_request: http::Request<Incoming>) -> Result<Response<Empty<Bytes>>, BoxError> {
    Ok(not_found())
}

/// Relays between the first client that sends to `address` and the target.
async fn relay(address: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let front = UdpSocket::bind(address).await?;
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    back.connect(target).await?;
    let mut buffer = vec![0; 65_536];
    let (length, client) = front.recv_from(&mut buffer).await?;
    front.connect(client).await?;
    back.send(&buffer[..length]).await?;
    tokio::try_join!(forward(&front, &back), forward(&back, &front))?;
    Ok(())
}

async fn forward(from: &UdpSocket, to: &UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = from.recv(&mut buffer).await?;
        to.send(&buffer[..length]).await?;
    }
}

/// Echoes in a thread, with blocking calls.
fn echo() -> io::Result<SocketAddr> {
    let socket = StdSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut buffer)?;
            // The port of a client that has left may refuse.
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Ok(address)
}

/// A client, and the proxy in a separate process.
struct Proxy {
    side: Side,
    process: Option<ServerProcess>,
    target: SocketAddr,
}

/// A path to the target.
enum Flow {
    Socket(UdpSocket, Vec<u8>),
    Proxied(Box<Udp>),
}

impl Proxy {
    fn start(side: Side, target: SocketAddr) -> Result<Self, BoxError> {
        let process = match side {
            Side::Direct => None,
            _ => Some(ServerProcess::start(&format!("{}@{target}", side.name()))?),
        };
        Ok(Self {
            side,
            process,
            target,
        })
    }

    /// Returns the process with the measured CPU time and memory.
    fn id(&self) -> u32 {
        let process = self.process.as_ref();
        process.map_or_else(std::process::id, ServerProcess::id)
    }

    fn address(&self) -> SocketAddr {
        let process = self.process.as_ref();
        process.map_or(self.target, ServerProcess::address)
    }

    async fn open(&self) -> Result<Flow, BoxError> {
        if matches!(self.side, Side::Relay | Side::Direct) {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            socket.connect(self.address()).await?;
            return Ok(Flow::Socket(socket, vec![0; 65_536]));
        }
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let mut dial = client::Dial::new(tcp);
        if self.side == Side::Http2 {
            dial = dial.http2_only();
        }
        let proxy = format!("http://{}", self.address()).parse()?;
        let request = UdpRequest::new(proxy, self.target.to_string().parse()?);
        let client = client::UpgradeLayer::new().layer(dial);
        let (udp, _response) = request.connect(client).await?;
        Ok(Flow::Proxied(Box::new(udp)))
    }

    fn stop(self) -> Result<(), BoxError> {
        if let Some(process) = self.process {
            process.stop()?;
        }
        Ok(())
    }
}

impl Flow {
    async fn send(&mut self, payload: &Bytes) -> io::Result<()> {
        match self {
            Self::Socket(socket, _) => socket.send(payload).await.map(drop),
            Self::Proxied(udp) => udp.send(payload.clone()).await,
        }
    }

    /// Receives a payload, and returns its length.
    async fn recv(&mut self) -> io::Result<usize> {
        match self {
            Self::Socket(socket, buffer) => socket.recv(buffer).await,
            Self::Proxied(udp) => match udp.recv().await {
                Some(payload) => Ok(payload?.len()),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }

    /// Receives the echoes of `count` payloads, with `window` of them in flight. Sends the window again if none arrives
    /// for a while: datagrams can get lost.
    async fn echoes(&mut self, payload: &Bytes, count: usize, window: usize) -> io::Result<()> {
        const LOST: Duration = Duration::from_millis(50);
        let (mut received, mut in_flight) = (0, 0);
        while received < count {
            while in_flight < window.min(count - received) {
                self.send(payload).await?;
                in_flight += 1;
            }
            match timeout(LOST, self.recv()).await {
                Ok(echo) => {
                    if echo? != payload.len() {
                        return Err(io::Error::other("no echo"));
                    }
                    received += 1;
                    in_flight -= 1;
                }
                Err(_) => in_flight = 0,
            }
        }
        // Late echoes belong to this round.
        while in_flight > 0 && timeout(LOST, self.recv()).await.is_ok() {
            in_flight -= 1;
        }
        Ok(())
    }
}

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if !cfg!(target_os = "linux") {
        println!("datagrams are measured on Linux only");
        return Ok(());
    }
    if let Some(served) = arguments.server::<Served>()? {
        return run_server(|listener| served.serve(listener)).map_err(Into::into);
    }
    let (echo, idle) = match (arguments.has("echo"), arguments.has("idle")) {
        (false, false) => (true, true),
        some => some,
    };
    if echo {
        let rounds = arguments.count("--rounds", 11, 1)?;
        let count = arguments.count("--echoes", 50_000, 10)?;
        let window = arguments.count("--window", 64, 4)?;
        for size in SIZES {
            println!("\n{rounds} rounds of {count} echoes of {size} bytes, {window} in flight");
            compare_echoes(rounds, size, count, window)?;
        }
    }
    if idle {
        let count = arguments.count("--idle", 1000, 10)?;
        // The proxy has two sockets for each session.
        allow_open(2 * count)?;
        println!("\nresident bytes of an idle session, of {count}");
        for side in [Side::Http1, Side::Http2] {
            println!("    {:14} {:.0}", side.name(), idle_bytes(side, count)?);
        }
    }
    Ok(())
}

/// Compares all sides in alternating rounds, so that other load on the machine affects all of them.
fn compare_echoes(rounds: usize, size: usize, count: usize, window: usize) -> Result<(), BoxError> {
    let runtime = single_thread()?;
    let target = echo()?;
    let payload = Bytes::from(vec![0x55; size]);
    let mut all = Vec::new();
    for side in Side::ALL {
        let proxy = Proxy::start(side, target)?;
        let flow = runtime.block_on(proxy.open())?;
        all.push((Series::new(side.name(), proxy.id()), flow, proxy));
    }
    for round in 0..=rounds {
        let mut order: Vec<_> = all.iter_mut().collect();
        let first = round % order.len();
        order.rotate_left(first);
        for (series, flow, _) in order {
            let work = async {
                flow.echoes(&payload, count, window).await?;
                Ok(count)
            };
            runtime.block_on(series.round(work))?;
            if round == 0 {
                series.forget();
            }
        }
    }
    let series: Vec<_> = all.iter().map(|(series, ..)| series).collect();
    compare(&Unit::new("echo", "echoes"), &series);
    for (_, flow, proxy) in all {
        drop(flow);
        proxy.stop()?;
    }
    Ok(())
}

fn idle_bytes(side: Side, count: usize) -> Result<f64, BoxError> {
    let target = echo()?;
    let payload = Bytes::from(vec![0x55; 1200]);
    single_thread()?.block_on(async {
        let proxy = Proxy::start(side, target)?;
        let mut flows = Vec::new();
        for _ in 0..WARM_UP {
            let mut flow = proxy.open().await?;
            flow.echoes(&payload, 1, 1).await?;
        }
        settle().await;
        let before = resident_bytes(proxy.id())?;
        for _ in 0..count {
            let mut flow = proxy.open().await?;
            flow.echoes(&payload, 1, 1).await?;
            flows.push(flow);
        }
        settle().await;
        let bytes = (resident_bytes(proxy.id())? - before) / count as f64;
        drop(flows);
        proxy.stop()?;
        Ok(bytes)
    })
}
