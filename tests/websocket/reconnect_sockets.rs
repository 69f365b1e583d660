//! A client that connects again, over sockets: cut connections, drains, proxies and TLS.

use crate::{
    echo, handler,
    reconnect_script::{connected, disconnected, request},
    support::{Server, Via, clients::Scripted, plain, soon, tls::Tls},
};
use http::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    BoxError, Sessions,
    client::{Dial, ErrorKind, Tunnel, Upgrade, UpgradeLayer},
    websocket::{
        CloseFrame, Message, WebSocket, WebSocketRequest,
        reconnect::{Backoff, Cause, Disconnected, Event, Reconnecting},
    },
};

/// Short, because these tests wait in real time.
const SHORT: Backoff = Backoff::new()
    .first(Duration::from_millis(1))
    .max(Duration::from_millis(5));

fn dial() -> Upgrade<Dial<HttpConnector>> {
    UpgradeLayer::new().layer(Dial::new(HttpConnector::new()))
}

fn to(address: SocketAddr) -> WebSocketRequest {
    let uri = format!("ws://{address}/");
    WebSocketRequest::new(uri.parse().expect("a URI"))
}

/// The messages of a room.
struct Room {
    epoch: &'static str,
    /// The offset of the message before the first one.
    trimmed: usize,
    messages: Vec<String>,
}

impl Room {
    fn publish(&mut self) {
        let offset = self.trimmed + self.messages.len() + 1;
        self.messages.push(format!("message {offset}"));
    }
}

/// Serves `resume EPOCH OFFSET`. Repeats the last two messages that the client has received, as a server may that
/// delivers at least once.
async fn serve(
    mut socket: WebSocket,
    mut room: watch::Receiver<Room>,
    repeated: &AtomicUsize,
) -> Result<(), BoxError> {
    let Some(Ok(Message::Text(text))) = socket.recv().await else {
        return Ok(());
    };
    let mut words = text.split(' ').skip(1);
    let epoch = words.next().expect("an epoch");
    let last: usize = words.next().expect("an offset").parse().expect("a number");
    let (resumed, mut next) = {
        let room = room.borrow();
        let (from, next) = match room.epoch == epoch && last >= room.trimmed {
            true => (last, last.saturating_sub(2).max(room.trimmed)),
            false => (room.trimmed, room.trimmed),
        };
        (format!("resumed {} {from}", room.epoch), next)
    };
    repeated.fetch_add(last.saturating_sub(next), Ordering::Relaxed);
    socket.send(resumed).await?;
    loop {
        let message = {
            let room = room.borrow_and_update();
            let index = next.checked_sub(room.trimmed);
            let message = index.and_then(|index| room.messages.get(index));
            message.map(|text| format!("{} {text}", next + 1))
        };
        match message {
            Some(message) => {
                next += 1;
                socket.send(message).await?;
            }
            None => tokio::select! {
                changed = room.changed() => changed?,
                received = socket.recv() => match received {
                    Some(received) => drop(received?),
                    None => return Ok(()),
                },
            },
        }
    }
}

/// A client that resumes, as the documentation shows.
#[derive(Default)]
struct Reader {
    epoch: String,
    last: usize,
    received: Vec<String>,
    /// How often messages may have been missed.
    gaps: usize,
    duplicates: usize,
}

impl Reader {
    /// Receives the next event. Returns the failure, if any.
    async fn step(&mut self, socket: &mut Reconnecting) -> Option<Disconnected> {
        match soon(socket.recv()).await.expect("it does not end") {
            Event::Connected(_) => {
                let resume = format!("resume {} {}", self.epoch, self.last);
                // The connection may be cut already.
                let _ = socket.send(resume).await;
            }
            Event::Message(Message::Text(text)) => self.read(&text),
            Event::Message(_) => {}
            Event::Disconnected(failure) => return Some(failure),
        }
        None
    }

    fn read(&mut self, text: &str) {
        if let Some(answer) = text.strip_prefix("resumed ") {
            let (epoch, offset) = answer.split_once(' ').expect("an epoch and an offset");
            let offset = offset.parse().expect("a number");
            if epoch != self.epoch || offset > self.last {
                self.gaps += usize::from(!self.epoch.is_empty());
                (self.epoch, self.last) = (epoch.to_owned(), offset);
            }
            return;
        }
        let (offset, text) = text.split_once(' ').expect("an offset");
        let offset = offset.parse().expect("a number");
        if offset <= self.last {
            self.duplicates += 1;
            return;
        }
        self.last = offset;
        self.received.push(text.to_owned());
    }
}

/// Accepts connections, forwards them, and cuts connection `n` after `limit(n)` bytes of the server.
async fn cutting(server: SocketAddr, limit: impl Fn(u64) -> u64 + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut client, _) = listener.accept().await.expect("loopback");
            let mut server = TcpStream::connect(server).await.expect("loopback");
            let limit = limit(connection);
            tokio::spawn(async move {
                let (read, mut write) = server.split();
                let (mut from_client, mut to_client) = client.split();
                let mut read = read.take(limit);
                tokio::select! {
                    _ = tokio::io::copy(&mut read, &mut to_client) => {}
                    _ = tokio::io::copy(&mut from_client, &mut write) => {}
                }
            });
        }
    });
    address
}

async fn start(room: watch::Receiver<Room>, repeated: Arc<AtomicUsize>) -> Server {
    let handler = handler(move |socket| {
        let (room, repeated) = (room.clone(), Arc::clone(&repeated));
        async move { serve(socket, room, &repeated).await }
    });
    let layer = tower_upgrade::UpgradeLayer::new().protocol("websocket", handler);
    Server::start(layer.layer(service_fn(plain))).await
}

#[tokio::test]
async fn cut_connections_lose_and_double_no_message() {
    const MESSAGES: usize = 400;
    let (room, watched) = watch::channel(Room {
        epoch: "a",
        trimmed: 0,
        messages: Vec::new(),
    });
    let repeated = Arc::new(AtomicUsize::new(0));
    let server = start(watched, Arc::clone(&repeated)).await;
    // At many places: in the response head, and between and within messages.
    let address = cutting(server.address, |connection| 100 + connection * 37 % 400).await;
    let mut socket = Reconnecting::new(dial(), to(address)).backoff(SHORT);
    let mut reader = Reader::default();
    let mut cuts = 0;
    while reader.received.len() < MESSAGES {
        room.send_modify(|room| {
            for _ in 0..2 {
                if room.messages.len() < MESSAGES {
                    room.publish();
                }
            }
        });
        if let Some(failure) = reader.step(&mut socket).await {
            assert!(failure.retry_in.is_some(), "{failure}");
            cuts += 1;
            assert!(cuts < 2000, "no progress");
        }
    }
    assert_eq!(reader.received, room.borrow().messages);
    assert_eq!(reader.gaps, 0);
    assert!(cuts > 10, "{cuts}");
    // The server has repeated messages, and the client has recognized those that arrived.
    assert!(reader.duplicates > 0 && reader.duplicates <= repeated.load(Ordering::Relaxed));
}

#[tokio::test]
async fn lost_history_is_reported_to_the_application() {
    let (room, watched) = watch::channel(Room {
        epoch: "a",
        trimmed: 0,
        messages: Vec::new(),
    });
    let server = start(watched, Arc::default()).await;
    let (cut, is_cut) = watch::channel(());
    // The first three connections end when the test says so.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.expect("loopback");
            let mut server = TcpStream::connect(server.address).await.expect("loopback");
            let mut is_cut = is_cut.clone();
            is_cut.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = is_cut.changed() => {}
                }
            });
        }
    });
    let mut socket = Reconnecting::new(dial(), to(address)).backoff(SHORT);
    let mut reader = Reader::default();
    let mut expected = Vec::new();
    // The history is complete, then trimmed, then another one.
    for (epoch, trimmed, gaps) in [("a", 0, 0), ("a", 7, 1), ("b", 0, 2)] {
        cut.send_replace(());
        room.send_modify(|room| {
            *room = Room {
                epoch,
                trimmed,
                messages: Vec::new(),
            };
            for _ in 0..3 {
                room.publish();
            }
            expected.extend(room.messages.iter().cloned());
        });
        while reader.received.len() < expected.len() {
            reader.step(&mut socket).await;
        }
        assert_eq!(reader.received, expected);
        assert_eq!(reader.gaps, gaps, "{epoch} {trimmed}");
    }
}

#[tokio::test]
async fn drain_moves_the_client_to_another_server() {
    let sessions = Sessions::new();
    let layer = |sessions: &Sessions| {
        tower_upgrade::UpgradeLayer::new()
            .sessions(sessions.clone())
            .protocol("websocket", handler(echo))
            .layer(service_fn(plain))
    };
    let first = Server::start(layer(&sessions)).await;
    let second = Server::start(layer(&Sessions::new())).await;
    let mut socket = Reconnecting::new(dial(), to(first.address)).backoff(SHORT);
    soon(connected(&mut socket)).await;
    let draining = sessions.drain(Duration::from_secs(30));
    let failure = soon(disconnected(&mut socket)).await;
    assert_eq!(failure.cause.close_code(), Some(1001));
    socket.set_request(to(second.address));
    soon(connected(&mut socket)).await;
    let report = soon(draining).await;
    assert_eq!((report.ended, report.aborted), (1, 0), "{report:?}");
    // The drained server refuses.
    let mut refused = Reconnecting::new(dial(), to(first.address)).backoff(SHORT);
    let failure = soon(disconnected(&mut refused)).await;
    let status = failure.cause.status().expect("a refusal");
    assert_eq!(status, http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        failure.retry_in >= Some(Duration::from_secs(5)),
        "{failure}"
    );

    socket.send("hello").await.expect("sent");
    match soon(socket.recv()).await {
        Some(Event::Message(message)) => assert_eq!(message, Message::text("hello")),
        event => panic!("{event:?}"),
    }
    let frame = CloseFrame::new(1000, "");
    soon(socket.close(frame)).await.expect("an orderly end");
}

/// The kind of the error of the handshake, and whether another attempt follows.
async fn first_failure(mut socket: Reconnecting) -> (ErrorKind, bool) {
    let failure = soon(disconnected(&mut socket)).await;
    match &failure.cause {
        Cause::Handshake(error) => (error.kind(), failure.retry_in.is_some()),
        cause => panic!("{cause:?}"),
    }
}

#[tokio::test]
async fn k8_status_of_the_proxy_decides() {
    for (status, expected) in [
        ("407 Proxy Authentication Required", false),
        ("403 Forbidden", false),
        ("502 Bad Gateway", true),
        ("503 Service Unavailable\r\nretry-after: 1", true),
    ] {
        let proxy = Scripted::start().await;
        let tunnel = Dial::new(HttpConnector::new()).destination(proxy.uri("/"));
        let tunnel = Tunnel::new(UpgradeLayer::new().layer(tunnel));
        let client = UpgradeLayer::new().layer(Dial::new(tunnel));
        let answering = async {
            let mut peer = proxy.accept().await;
            let head = peer.request_head().await;
            assert!(head.starts_with("CONNECT test:80 "), "{head}");
            let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            peer.send(response).await;
            peer
        };
        let socket = Reconnecting::new(client, request());
        let (failure, _peer) = tokio::join!(first_failure(socket), answering);
        assert_eq!(failure, (ErrorKind::ProxyRefused, expected), "{status}");
    }
}

#[tokio::test]
async fn k8_kind_of_a_connectors_error_decides() {
    for (error, kind, expected) in [
        (
            io::ErrorKind::ConnectionRefused,
            ErrorKind::Unreachable,
            true,
        ),
        (io::ErrorKind::TimedOut, ErrorKind::Timeout, true),
        (io::ErrorKind::InvalidData, ErrorKind::Tls, false),
        (io::ErrorKind::Other, ErrorKind::Connector, false),
    ] {
        let connector = service_fn(move |_: Uri| async move {
            Err::<TokioIo<TcpStream>, _>(io::Error::new(error, "scripted"))
        });
        let client = UpgradeLayer::new().layer(Dial::new(connector));
        let failure = first_failure(Reconnecting::new(client, request())).await;
        assert_eq!(failure, (kind, expected));
    }
}

#[tokio::test]
async fn untrusted_certificate_ends_the_client() {
    let tls = Tls::new();
    let acceptor = tls.acceptor.clone();
    let layer = tower_upgrade::UpgradeLayer::new().protocol("websocket", handler(echo));
    let app = layer.layer(service_fn(plain));
    let server = Server::start_with(Via::Http1, app, move |io| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(io).await }
    })
    .await;
    let uri = format!("wss://localhost:{}/", server.address.port());
    let request = WebSocketRequest::new(uri.parse().expect("a URI"));
    let client = |config: ClientConfig| {
        let https = HttpsConnectorBuilder::new().with_tls_config(config);
        let https = https.https_only().enable_http1().build();
        Reconnecting::new(UpgradeLayer::new().layer(Dial::new(https)), request.clone())
    };
    let no_roots = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let failure = first_failure(client(no_roots)).await;
    assert_eq!(failure, (ErrorKind::Tls, false));
    let mut trusting = client(tls.client_config());
    soon(connected(&mut trusting)).await;
}
