//! A proxy over each HTTP version, and clients that read and write raw capsules.

use crate::support::{
    AnyIo, Peer, Server, Via,
    h2::{Client, extended_connect},
    head, plain, soon,
    tunnel::{LOOPBACK, loopback},
};
use http::Response;
use std::{collections::HashMap, net::SocketAddr, sync::Arc};
use tokio::{
    net::UdpSocket,
    sync::{Mutex, mpsc},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Closed, UpgradeLayer, datagram::ConnectUdp};

pub(crate) const VERSIONS: [Via; 2] = [Via::Http1, Via::Http2];

/// The path of a request for this target.
pub(crate) fn path(target: SocketAddr) -> String {
    format!("/.well-known/masque/udp/{}/{}/", target.ip(), target.port())
}

/// A proxy, and the reports of its ended sessions.
pub(crate) struct Proxy {
    server: Server,
    via: Via,
    closed: Mutex<mpsc::UnboundedReceiver<Closed>>,
}

impl Proxy {
    /// Starts a proxy that allows loopback addresses at the port of `target`.
    pub(crate) async fn start(via: Via, target: SocketAddr) -> Self {
        Self::start_with(via, ConnectUdp::new(loopback(target.port()))).await
    }

    pub(crate) async fn start_with(via: Via, handler: ConnectUdp) -> Self {
        let layer = UpgradeLayer::new().protocol("connect-udp", handler);
        Self::start_layer(via, layer).await
    }

    pub(crate) async fn start_layer(via: Via, layer: UpgradeLayer) -> Self {
        let (report, closed) = mpsc::unbounded_channel();
        let layer = layer.on_close(move |closed| {
            // The test may have ended.
            let _ = report.send(closed.clone());
        });
        Self {
            server: Server::start_via(via, layer.layer(service_fn(plain))).await,
            via,
            closed: Mutex::new(closed),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Waits for the report of the next ended session.
    #[track_caller]
    pub(crate) fn closed(&self) -> impl Future<Output = Closed> {
        let closed = soon(async { self.closed.lock().await.recv().await });
        async { closed.await.expect("a report") }
    }

    /// Sends a GET, or an extended CONNECT, with more headers, and returns the head of the response.
    pub(crate) async fn ask(&self, path: &str, more: &[(&str, &str)]) -> Flow {
        self.ask_early(path, more, &[]).await
    }

    /// Sends a request and early bytes behind it.
    pub(crate) async fn ask_early(&self, path: &str, more: &[(&str, &str)], early: &[u8]) -> Flow {
        let mut peer = self.server.connect().await;
        if self.via == Via::Http2 {
            let mut client = Client::connect(peer).await;
            let mut request = extended_connect("connect-udp").uri(format!("http://test{path}"));
            for (name, value) in more {
                request = request.header(*name, *value);
            }
            let (response, mut send) = client.send(request.body(()).expect("a request")).await;
            if !early.is_empty() {
                let early = early.to_vec().into();
                send.send_data(early, false).expect("an open stream");
            }
            let (head, recv) = soon(response).await.expect("a response").into_parts();
            let stream = crate::support::h2::Stream::new(send, recv);
            return Flow {
                head: Response::from_parts(head, ()),
                peer: Peer::new(stream).boxed(),
                client: Some(client),
            };
        }
        let mut lines = vec![
            format!("GET {path} HTTP/1.1"),
            "Host: test".to_owned(),
            "Connection: Upgrade".to_owned(),
            "Upgrade: connect-udp".to_owned(),
        ];
        lines.extend(more.iter().map(|(name, value)| format!("{name}: {value}")));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        peer.send([head(&lines).as_bytes(), early].concat()).await;
        let head = peer.head().await;
        let mut response = Response::builder().status(head.status);
        for (name, value) in &head.lines {
            response = response.header(name, value);
        }
        Flow {
            head: response.body(()).expect("a response"),
            peer: peer.boxed(),
            client: None,
        }
    }

    /// Opens a flow to a target.
    pub(crate) async fn open(&self, target: SocketAddr) -> Flow {
        let flow = self.ask(&path(target), &[]).await;
        flow.assert_upgraded();
        flow
    }

    /// Expects a rejection, and returns its status and body.
    pub(crate) async fn refused(&self, path: &str, more: &[(&str, &str)]) -> (u16, String) {
        let mut flow = self.ask(path, more).await;
        let status = flow.head.status().as_u16();
        assert!(status >= 400, "{path}: {:?}", flow.head);
        let length: usize = flow.head.headers()["content-length"]
            .to_str()
            .expect("a number")
            .parse()
            .expect("a number");
        let body = flow.peer.exactly(length).await;
        (status, crate::support::text(&body))
    }
}

/// The response to a request, and its stream.
pub(crate) struct Flow {
    pub(crate) head: Response<()>,
    pub(crate) peer: Peer<Box<dyn AnyIo>>,
    client: Option<Client>,
}

impl Flow {
    #[track_caller]
    pub(crate) fn assert_upgraded(&self) {
        let status = self.head.status().as_u16();
        assert!(matches!(status, 101 | 200), "{:?}", self.head);
    }

    /// Sends a UDP payload.
    #[track_caller]
    pub(crate) fn send(&mut self, payload: &[u8]) -> impl Future<Output = ()> {
        self.peer.send(capsule(payload))
    }

    /// Reads the next capsule, which must be a DATAGRAM with Context ID 0, and returns its UDP payload.
    pub(crate) async fn recv(&mut self) -> Vec<u8> {
        assert_eq!(self.peer.exactly(1).await, [0], "the type");
        let length = self.number().await;
        assert_eq!(self.peer.exactly(1).await, [0], "the Context ID");
        self.peer.exactly(length - 1).await
    }

    async fn number(&mut self) -> usize {
        let first = self.peer.exactly(1).await[0];
        let rest = self.peer.exactly((1 << (first >> 6)) - 1).await;
        let first = usize::from(first & 0x3f);
        rest.iter()
            .fold(first, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Sends a payload to a target that echoes, and expects the echo.
    pub(crate) async fn expect_echo(&mut self, payload: &[u8]) {
        self.send(payload).await;
        assert_eq!(self.recv().await, payload);
    }

    /// Expects that the server aborts the stream without further bytes: with a reset over HTTP/1.1. hyper cannot reset
    /// a stream of HTTP/2, and ends it.
    pub(crate) async fn expect_abort(&mut self) {
        match (self.peer.rest().await, &self.client) {
            (Err(_), _) => {}
            (Ok(rest), Some(_)) => assert_eq!(rest, b""),
            (Ok(rest), None) => panic!("an orderly end after {rest:?}"),
        }
    }
}

/// Encodes a UDP payload as a DATAGRAM capsule with Context ID 0.
pub(crate) fn capsule(payload: &[u8]) -> Vec<u8> {
    let mut value = vec![0];
    value.extend_from_slice(payload);
    capsule_of(0, &value)
}

/// Encodes a capsule. The length takes 4 bytes.
pub(crate) fn capsule_of(kind: u8, value: &[u8]) -> Vec<u8> {
    assert!(kind < 0x40);
    let mut capsule = vec![kind];
    capsule.extend_from_slice(&(value.len() as u32 | 2 << 30).to_be_bytes());
    capsule.extend_from_slice(value);
    capsule
}

/// A target that echoes each datagram.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let (socket, address) = target().await;
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let sent = socket.send_to(&buffer[..length], from).await;
                sent.expect("loopback");
            }
        });
        Self { address, task }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns a socket for a target, and its address.
pub(crate) async fn target() -> (Arc<UdpSocket>, SocketAddr) {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.expect("loopback");
    let address = socket.local_addr().expect("bound");
    (Arc::new(socket), address)
}

/// Receives a datagram at a target, with the address of its sender.
#[track_caller]
pub(crate) fn recv_from(socket: &UdpSocket) -> impl Future<Output = (Vec<u8>, SocketAddr)> {
    soon(async {
        let mut buffer = vec![0; 65_536];
        let (length, from) = socket.recv_from(&mut buffer).await.expect("loopback");
        buffer.truncate(length);
        (buffer, from)
    })
}

/// Returns the headers of a response.
pub(crate) fn headers(flow: &Flow) -> HashMap<String, String> {
    let headers = flow.head.headers().iter();
    headers
        .map(|(name, value)| {
            let value = value.to_str().expect("text").to_owned();
            (name.to_string(), value)
        })
        .collect()
}
