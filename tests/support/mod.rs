//! A hyper server on a loopback socket, and a peer that sends and reads raw bytes.

#![allow(dead_code, unreachable_pub, missing_debug_implementations)]

pub mod build;
#[cfg(feature = "client")]
pub mod clients;
pub mod frames;
pub mod h2;
pub mod handlers;
pub mod log;
pub mod meter;
pub mod tcp;
pub mod tls;
#[cfg(feature = "tunnel")]
pub mod tunnel;
pub mod websocket;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tower::Service;
use tower_upgrade::BoxError;

/// The time after which a wait counts as a hang.
const HANG: Duration = Duration::from_secs(30);

/// Waits for a future, and panics with the caller's location if it hangs.
#[track_caller]
pub fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(HANG, future).await {
            Ok(output) => output,
            Err(_) => panic!("hangs at {caller}"),
        }
    }
}

/// Polls a condition until it is true.
#[track_caller]
pub fn until(is_so: impl Fn() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
}

/// The inner service of most tests: answers `plain`, the method and the path.
pub async fn plain<B: Body>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("plain {} {}", request.method(), request.uri().path());
    Ok(Response::new(Full::new(Bytes::from(text))))
}

/// The server that serves a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// hyper's `http1` connection.
    Http1,
    /// hyper-util's `auto` connection, as in `axum::serve`: HTTP/1 and HTTP/2.
    Auto,
    /// hyper-util's `auto` connection without extended CONNECT.
    AutoWithoutExtendedConnect,
    /// hyper's `http2` connection with extended CONNECT.
    Http2,
    /// hyper's `http2` connection with stream windows much smaller than the connection's.
    Http2SmallStreams,
    /// hyper's `http1` connection with `half_close(true)`.
    HalfClose,
    /// hyper's `http1` connection without `with_upgrades`.
    NoUpgrades,
}

pub struct Server {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Self::start_via(Via::Http1, service).await
    }

    pub async fn start_via<S, B>(via: Via, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Self::start_with(via, service, |io| async { Ok(io) }).await
    }

    /// Starts a server that first passes each accepted socket to `wrap`, for example for a TLS handshake.
    pub async fn start_with<S, B, W, Fut, Io>(via: Via, service: S, wrap: W) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
        W: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<Io>> + Send + 'static,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move {
                while let Ok((io, _)) = listener.accept().await {
                    // Without TCP_NODELAY small HTTP/2 frames wait for delayed acknowledgements.
                    io.set_nodelay(true).expect("a socket");
                    let io = wrap(io);
                    let service = TowerToHyperService::new(service.clone());
                    let connection = tokio::spawn(async move {
                        let Ok(io) = io.await else { return };
                        // Tests check the end of a connection from the client side.
                        let _ = serve(via, TokioIo::new(io), service).await;
                    });
                    connections.lock().expect("no panic").push(connection);
                }
            }
        });
        Self {
            address,
            connections,
            accepting,
        }
    }

    /// Starts a server and returns a watch of the bytes that it has read.
    pub async fn start_metered<S, B>(via: Via, service: S) -> (Self, watch::Receiver<usize>)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (read, has_read) = watch::channel(0);
        let server = Self::start_with(via, service, move |io| {
            let read = read.clone();
            async move { Ok(meter::Metered::new(io, read)) }
        });
        (server.await, has_read)
    }

    pub async fn connect(&self) -> Peer<TcpStream> {
        let io = TcpStream::connect(self.address).await.expect("loopback");
        io.set_nodelay(true).expect("a socket");
        Peer::new(io)
    }

    /// Aborts all connections accepted so far.
    pub fn abort_connections(&self) {
        for connection in &*self.connections.lock().expect("no panic") {
            connection.abort();
        }
    }

    /// Waits until hyper has ended all connections accepted so far.
    pub async fn connections_ended(&self) {
        let connections = std::mem::take(&mut *self.connections.lock().expect("no panic"));
        for connection in connections {
            let _ = soon(connection).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<S, B, Io>(
    via: Via,
    io: TokioIo<Io>,
    service: TowerToHyperService<S>,
) -> Result<(), BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut http1 = hyper::server::conn::http1::Builder::new();
    http1.half_close(via == Via::HalfClose);
    match via {
        Via::Http1 | Via::HalfClose => http1.serve_connection(io, service).with_upgrades().await?,
        Via::NoUpgrades => http1.serve_connection(io, service).await?,
        Via::Auto | Via::AutoWithoutExtendedConnect => {
            let mut auto = auto::Builder::new(TokioExecutor::new());
            if via == Via::Auto {
                auto.http2().enable_connect_protocol();
            }
            auto.serve_connection_with_upgrades(io, service).await?;
        }
        Via::Http2 | Via::Http2SmallStreams => {
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.enable_connect_protocol();
            if via == Via::Http2SmallStreams {
                http2.initial_stream_window_size(64 * 1024);
            }
            http2.serve_connection(io, service).await?;
        }
    }
    Ok(())
}

/// A client that sends raw bytes and checks every byte that it receives.
pub struct Peer<Io> {
    pub io: Io,
    read: Vec<u8>,
}

/// An IO that can be boxed.
pub trait AnyIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Io: AsyncRead + AsyncWrite + Send + Unpin> AnyIo for Io {}

impl<Io: AsyncRead + AsyncWrite + Unpin> Peer<Io> {
    pub fn new(io: Io) -> Self {
        Self {
            io,
            read: Vec::new(),
        }
    }

    /// Boxes the IO.
    pub fn boxed(self) -> Peer<Box<dyn AnyIo>>
    where
        Io: Send + 'static,
    {
        Peer {
            io: Box::new(self.io),
            read: self.read,
        }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> impl Future<Output = ()> {
        let bytes = bytes.as_ref().to_vec();
        soon(async move {
            self.io.write_all(&bytes).await.expect("peer can write");
            self.io.flush().await.expect("peer can flush");
        })
    }

    /// Reads the next response head.
    #[track_caller]
    pub fn head(&mut self) -> impl Future<Output = Head> {
        let caller = std::panic::Location::caller();
        soon(async move {
            loop {
                if let Some(end) = find(&self.read, b"\r\n\r\n") {
                    let head = self.read.drain(..end + 4).collect::<Vec<_>>();
                    return Head::parse(&head);
                }
                if !self.fill().await.expect("peer can read") {
                    panic!(
                        "no head, asked for at {caller}, only {:?}",
                        text(&self.read)
                    );
                }
            }
        })
    }

    /// Reads the next request head as text.
    #[track_caller]
    pub fn request_head(&mut self) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        soon(async move {
            loop {
                if let Some(end) = find(&self.read, b"\r\n\r\n") {
                    return text(&self.read.drain(..end + 4).collect::<Vec<_>>());
                }
                let more = self.fill().await.expect("peer can read");
                assert!(more, "no head, asked for at {caller}");
            }
        })
    }

    /// Returns the bytes that were received but not returned yet.
    pub fn unread(&self) -> &[u8] {
        &self.read
    }

    /// Reads the next response, which must have a `Content-Length`.
    #[track_caller]
    pub fn response(&mut self) -> impl Future<Output = (Head, String)> {
        soon(async move {
            let head = self.head().await;
            let length = head
                .get("content-length")
                .expect("a length")
                .parse()
                .expect("a number");
            let body = self.exactly(length).await;
            (head, text(&body))
        })
    }

    #[track_caller]
    pub fn exactly(&mut self, length: usize) -> impl Future<Output = Vec<u8>> {
        let caller = std::panic::Location::caller();
        soon(async move {
            while self.read.len() < length {
                if !self.fill().await.expect("peer can read") {
                    panic!("EOF, asked at {caller}, only {:?}", text(&self.read));
                }
            }
            self.read.drain(..length).collect()
        })
    }

    /// Reads exactly `length` bytes, or returns none if the connection has ended.
    pub async fn up_to(&mut self, length: usize) -> Vec<u8> {
        let ended = self.read.is_empty() && !soon(self.fill()).await.expect("peer can read");
        if ended {
            Vec::new()
        } else {
            self.exactly(length).await
        }
    }

    /// Reads to EOF. A reset is an error.
    #[track_caller]
    pub fn rest(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> {
        soon(async move {
            while self.fill().await? {}
            Ok(std::mem::take(&mut self.read))
        })
    }

    /// Expects EOF without further bytes and without a reset.
    #[track_caller]
    pub fn expect_end(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let rest = self.rest();
        async move {
            match rest.await {
                Ok(rest) => assert!(rest.is_empty(), "at {caller}: {:?}", text(&rest)),
                Err(error) => panic!("no orderly end, asked at {caller}: {error}"),
            }
        }
    }

    #[track_caller]
    pub fn finish(&mut self) -> impl Future<Output = ()> {
        soon(async move { self.io.shutdown().await.expect("peer can shut down") })
    }

    /// Writes the bytes and expects to read them back.
    #[track_caller]
    pub fn expect_echo(&mut self, bytes: &[u8]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let bytes = bytes.to_vec();
        async move {
            self.send(&bytes).await;
            let echo = self.exactly(bytes.len()).await;
            assert_eq!(text(&echo), text(&bytes), "at {caller}");
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.io.read_buf(&mut self.read).await? > 0)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A parsed response head.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub lines: Vec<(String, String)>,
}

impl Head {
    fn parse(head: &[u8]) -> Self {
        let head = text(head);
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().expect("a status line");
        assert!(status.starts_with("HTTP/1."), "{head:?}");
        let status = status[9..12].parse().expect("a status");
        let lines = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a field");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Self { status, lines }
    }

    /// Returns the values of a field, joined with commas.
    pub fn get(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .lines
            .iter()
            .filter(|line| line.0 == name)
            .map(|line| line.1.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Returns the sorted names of all fields except `date`.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.lines.iter().map(|line| line.0.as_str()).collect();
        names.retain(|name| *name != "date");
        names.sort_unstable();
        names
    }

    #[track_caller]
    pub fn assert_switched(&self, protocol: &str) {
        assert_eq!(self.status, 101, "{self:?}");
        assert_eq!(self.get("upgrade").as_deref(), Some(protocol), "{self:?}");
        let connection = self.get("connection").unwrap_or_default();
        assert!(
            connection.split(", ").any(|option| option == "upgrade"),
            "{self:?}"
        );
        assert_eq!(self.get("content-length"), None, "{self:?}");
        assert_eq!(self.get("transfer-encoding"), None, "{self:?}");
    }

    /// Asserts that the response is neither a 101 nor has handshake fields.
    #[track_caller]
    pub fn assert_no_handshake(&self) {
        assert_ne!(self.status, 101, "{self:?}");
        assert_eq!(self.get("upgrade"), None, "{self:?}");
        let connection = self.get("connection").unwrap_or_default();
        assert!(!connection.contains("upgrade"), "{self:?}");
    }
}

/// Joins the lines of a request head with CRLF and adds the blank line.
pub fn head(lines: &[&str]) -> String {
    let mut head = lines.join("\r\n");
    head.push_str("\r\n\r\n");
    head
}

/// Returns the head of an upgrade request that offers `protocols`, with more header lines.
pub fn offer(protocols: &str, more: &[&str]) -> String {
    let upgrade = format!("Upgrade: {protocols}");
    let mut lines = vec![
        "GET / HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        &upgrade,
    ];
    lines.extend(more);
    head(&lines)
}
