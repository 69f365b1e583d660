//! QUIC datagrams, with a server of HTTP/3 in memory.

use crate::{
    proxy::{Echo, capsule, capsule_of, path, recv_from, target},
    support::{Peer, plain, soon, tunnel::loopback},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::ext::Protocol;
use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, sleep},
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, CloseReason, Closed, PendingUpgrade, Rejection, Session, UpgradeLayer, UpgradeRequest,
    Upgraded, UpgradedParts, accept_fn, client,
    datagram::{ConnectUdp, HttpDatagrams, QuicDatagrams, SendError, Transport, Udp, UdpRequest},
};

const MINUTE: Duration = Duration::from_secs(60);

/// The largest payload that the path carries, with its Context ID.
const MAX: usize = 1200;

/// The transport of one side.
struct InMemory {
    received: mpsc::UnboundedReceiver<Bytes>,
    sent: mpsc::UnboundedSender<Bytes>,
    is_enabled: Arc<AtomicBool>,
}

impl Transport for InMemory {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.received.poll_recv(cx)
    }

    fn send(&mut self, context: &[u8], payload: &[u8]) -> Result<(), SendError> {
        if !self.is_enabled.load(Ordering::Relaxed) {
            return Err(SendError::Unavailable);
        }
        let datagram = [context, payload].concat();
        if datagram.len() > MAX {
            return Err(SendError::TooLarge);
        }
        self.sent
            .send(datagram.into())
            .map_err(|_| SendError::Closed)
    }
}

/// The other side: the stream, and its QUIC datagrams.
struct Remote {
    stream: Peer<DuplexStream>,
    sender: mpsc::UnboundedSender<Bytes>,
    receiver: mpsc::UnboundedReceiver<Bytes>,
    is_enabled: Arc<AtomicBool>,
}

impl Remote {
    /// Returns the stream and the transport of one side, and the other side.
    fn pair() -> (PendingUpgrade, QuicDatagrams, Self) {
        let (io, stream) = tokio::io::duplex(1 << 20);
        let io = Upgraded::from_parts(UpgradedParts::new(io, Bytes::new()));
        let (sender, received) = mpsc::unbounded_channel();
        let (sent, receiver) = mpsc::unbounded_channel();
        let is_enabled = Arc::new(AtomicBool::new(true));
        let transport = InMemory {
            received,
            sent,
            is_enabled: Arc::clone(&is_enabled),
        };
        let remote = Self {
            stream: Peer::new(stream),
            sender,
            receiver,
            is_enabled,
        };
        let upgrade = PendingUpgrade::new(async move { Ok(io) });
        (upgrade, QuicDatagrams::new(transport), remote)
    }

    /// Sends a QUIC datagram.
    fn send(&self, datagram: &[u8]) {
        let sent = self.sender.send(Bytes::copy_from_slice(datagram));
        sent.expect("an open transport");
    }

    /// Receives a QUIC datagram. `None`: the transport was dropped.
    async fn recv(&mut self) -> Option<Bytes> {
        soon(self.receiver.recv()).await
    }

    async fn expect(&mut self, datagram: &[u8]) {
        assert_eq!(self.recv().await.as_deref(), Some(datagram));
    }

    /// Expects a capsule with a length of one byte.
    async fn expect_capsule(&mut self, datagram: &[u8]) {
        let capsule = [&[0, datagram.len() as u8], datagram].concat();
        assert_eq!(self.stream.exactly(capsule.len()).await, capsule);
    }
}

/// A session of a server.
struct Server {
    remote: Remote,
    status: StatusCode,
    closed: mpsc::UnboundedReceiver<Closed>,
}

impl Server {
    async fn ask(layer: UpgradeLayer, protocol: &str, path: &str) -> Self {
        let (report, closed) = mpsc::unbounded_channel();
        let layer = layer.on_close(move |closed| report.send(closed.clone()).expect("a test"));
        let (upgrade, datagrams, remote) = Remote::pair();
        let request = Request::builder()
            .method(Method::CONNECT)
            .version(Version::HTTP_3)
            .uri(format!("https://test{path}"))
            .extension(Protocol::from(protocol))
            .extension(upgrade)
            .extension(datagrams)
            .body(String::new())
            .expect("a request");
        let response = layer.layer(service_fn(plain)).oneshot(request).await;
        Self {
            remote,
            status: response.expect("infallible").status(),
            closed,
        }
    }

    async fn open(layer: UpgradeLayer, protocol: &str, path: &str) -> Self {
        let server = Self::ask(layer, protocol, path).await;
        assert_eq!(server.status, StatusCode::OK);
        server
    }

    async fn proxy(target: SocketAddr) -> Self {
        let handler = ConnectUdp::new(loopback(target.port()));
        let layer = UpgradeLayer::new().protocol("connect-udp", handler);
        Self::open(layer, "connect-udp", &path(target)).await
    }

    async fn closed(&mut self) -> Closed {
        soon(self.closed.recv()).await.expect("a report")
    }
}

fn echo() -> UpgradeLayer {
    async fn accept(_request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Ok(Accept::new(|session: Session| async move {
            let mut datagrams = HttpDatagrams::from(session);
            while let Some(datagram) = datagrams.recv().await {
                datagrams.send(datagram?).await?;
            }
            Ok(())
        }))
    }
    UpgradeLayer::new().protocol("echo", accept_fn(accept))
}

#[tokio::test]
async fn handler_uses_quic_datagrams_and_receives_capsules_too() {
    let mut server = Server::open(echo(), "echo", "/").await;
    let remote = &mut server.remote;
    for datagram in [&b"one"[..], b"", &[7; MAX]] {
        remote.send(datagram);
        remote.expect(datagram).await;
    }
    remote.stream.send(capsule_of(0, b"capsule")).await;
    remote.expect(b"capsule").await;
    // Written last: the session reads both sources.
    remote.stream.send(capsule_of(0, b"again")).await;
    remote.expect(b"again").await;
    remote.send(b"last");
    remote.expect(b"last").await;
}

#[tokio::test]
async fn datagrams_are_capsules_until_the_peer_enables_quic_datagrams() {
    let mut server = Server::open(echo(), "echo", "/").await;
    let remote = &mut server.remote;
    remote.is_enabled.store(false, Ordering::Relaxed);
    remote.stream.send(capsule_of(0, b"first")).await;
    remote.expect_capsule(b"first").await;
    remote.is_enabled.store(true, Ordering::Relaxed);
    remote.stream.send(capsule_of(0, b"second")).await;
    remote.expect(b"second").await;
}

#[tokio::test]
async fn end_of_stream_ends_the_session_and_its_quic_datagrams() {
    let target = Echo::start().await;
    for mut server in [
        Server::open(echo(), "echo", "/").await,
        Server::proxy(target.address).await,
    ] {
        server.remote.send(b"\0hello");
        server.remote.expect(b"\0hello").await;
        server.remote.stream.finish().await;
        server.remote.stream.expect_end().await;
        assert_eq!(server.remote.recv().await, None);
        let closed = server.closed().await;
        let reason = closed.reason();
        assert!(matches!(reason, CloseReason::Finished), "{closed:?}");
    }
}

#[tokio::test]
async fn end_of_quic_datagrams_does_not_end_the_session() {
    let mut server = Server::open(echo(), "echo", "/").await;
    let mut remote = server.remote;
    remote.send(b"hello");
    remote.expect(b"hello").await;
    remote.sender = mpsc::unbounded_channel().0;
    remote.stream.send(capsule_of(0, b"capsule")).await;
    remote.expect(b"capsule").await;
    remote.stream.finish().await;
    assert_eq!(remote.recv().await, None);
    let closed = soon(server.closed.recv()).await.expect("a report");
    assert!(
        matches!(closed.reason(), CloseReason::Finished),
        "{closed:?}"
    );
}

#[tokio::test]
async fn rejected_request_drops_its_quic_datagrams() {
    let handler = ConnectUdp::new(loopback(1));
    let layer = UpgradeLayer::new().protocol("connect-udp", handler);
    let path = path(([127, 0, 0, 1], 2).into());
    let mut server = Server::ask(layer, "connect-udp", &path).await;
    assert_eq!(server.status, StatusCode::FORBIDDEN);
    assert_eq!(server.remote.recv().await, None);
}

#[tokio::test]
async fn proxy_relays_quic_datagrams_and_capsules() {
    let (socket, address) = target().await;
    let mut server = Server::proxy(address).await;
    let remote = &mut server.remote;
    remote.send(b"\0to the target");
    let (payload, from) = recv_from(&socket).await;
    assert_eq!(payload, b"to the target");
    remote.stream.send(capsule(b"in a capsule")).await;
    assert_eq!(recv_from(&socket).await.0, b"in a capsule");
    // Another Context ID.
    remote.send(b"\x01unknown");
    remote.send(b"\0known");
    assert_eq!(recv_from(&socket).await.0, b"known");

    let longest = [7; MAX - 1];
    for payload in [&b"answer"[..], b"", &longest] {
        socket.send_to(payload, from).await.expect("loopback");
        remote.expect(&[b"\0", payload].concat()).await;
    }
    remote.is_enabled.store(false, Ordering::Relaxed);
    socket.send_to(b"capsule", from).await.expect("loopback");
    remote.expect_capsule(b"\0capsule").await;
}

/// RFC 9298 §6.1: a capsule would hide the limit of the path.
#[tokio::test]
async fn proxy_drops_a_payload_that_is_too_large_for_the_path() {
    let (socket, address) = target().await;
    let mut server = Server::proxy(address).await;
    let remote = &mut server.remote;
    remote.send(b"\0hello");
    let from = recv_from(&socket).await.1;
    for payload in [&[7; MAX][..], b"after"] {
        socket.send_to(payload, from).await.expect("loopback");
    }
    remote.expect(b"\0after").await;
    remote.stream.finish().await;
    // Without a capsule.
    remote.stream.expect_end().await;
}

#[tokio::test]
async fn d3_quic_datagram_without_a_context_aborts_the_stream() {
    let echo = Echo::start().await;
    for datagram in [&b""[..], b"\x40"] {
        let mut server = Server::proxy(echo.address).await;
        server.remote.send(datagram);
        let closed = server.closed().await;
        crate::capsules::assert_failed(&closed, ErrorKind::InvalidData);
        assert_eq!(server.remote.recv().await, None);
    }
}

#[tokio::test]
async fn d5_quic_datagrams_count_as_bytes() {
    let target = Echo::start().await;
    let echo = Server::open(echo(), "echo", "/").await;
    for mut server in [echo, Server::proxy(target.address).await] {
        for _ in 0..3 {
            server.remote.send(b"\0hello");
            server.remote.expect(b"\0hello").await;
        }
        server.remote.stream.finish().await;
        let closed = server.closed().await;
        assert_eq!((closed.bytes_read(), closed.bytes_written()), (18, 18));
    }
}

#[tokio::test(start_paused = true)]
async fn d5_quic_datagrams_are_activity() {
    let target = Echo::start().await;
    let handler = ConnectUdp::new(loopback(target.address.port())).idle_timeout(MINUTE);
    let proxy = UpgradeLayer::new().protocol("connect-udp", handler);
    // The timeout of the proxy, and that of the layer.
    for (layer, protocol) in [
        (proxy, "connect-udp"),
        (echo().idle_timeout(MINUTE), "echo"),
    ] {
        let mut server = Server::open(layer, protocol, &path(target.address)).await;
        for _ in 0..3 {
            sleep(MINUTE * 9 / 10).await;
            server.remote.send(b"\0hello");
            server.remote.expect(b"\0hello").await;
        }
        let start = Instant::now();
        sleep(MINUTE * 9 / 10).await;
        let closed = server.closed().await;
        assert!(matches!(closed.reason(), CloseReason::Idle), "{closed:?}");
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}

#[tokio::test(start_paused = true)]
async fn d5_quic_datagram_in_one_direction_is_activity() {
    let (socket, address) = target().await;
    let handler = ConnectUdp::new(loopback(address.port())).idle_timeout(MINUTE);
    let layer = UpgradeLayer::new().protocol("connect-udp", handler);
    let mut server = Server::open(layer, "connect-udp", &path(address)).await;
    let mut from = None;
    for _ in 0..3 {
        sleep(MINUTE * 9 / 10).await;
        server.remote.send(b"\0to the target");
        from = Some(recv_from(&socket).await.1);
    }
    for _ in 0..3 {
        sleep(MINUTE * 9 / 10).await;
        let sent = socket.send_to(b"to the client", from.expect("a sender"));
        sent.await.expect("loopback");
        server.remote.expect(b"\0to the client").await;
    }
}

/// Sends a request through a client over a connection in memory.
fn client(
    datagrams: QuicDatagrams,
    upgrade: PendingUpgrade,
) -> impl tower::Service<client::Request, Response = client::Session, Error = client::Error, Future: Send>
{
    client::UpgradeLayer::new().layer(service_fn(move |request: Request<_>| {
        let protocol = request.headers()[header::UPGRADE].clone();
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, protocol)
            .extension(datagrams.clone())
            .extension(upgrade.clone())
            .body(http_body_util::Empty::<Bytes>::new());
        // The service has the type of the body.
        let _: http_body_util::Full<Bytes> = request.into_body();
        std::future::ready(response)
    }))
}

async fn udp() -> (Udp, Remote) {
    let (upgrade, datagrams, remote) = Remote::pair();
    let request = UdpRequest::new(
        Uri::from_static("http://proxy.test"),
        "192.0.2.1:53".parse().expect("a target"),
    );
    let connected = request.connect(client(datagrams, upgrade)).await;
    (connected.expect("a flow").0, remote)
}

#[tokio::test]
async fn client_uses_quic_datagrams() {
    let (mut udp, mut remote) = udp().await;
    udp.send("query".into()).await.expect("an open flow");
    remote.expect(b"\0query").await;
    remote.send(b"\x01unknown");
    remote.send(b"\0answer");
    remote.stream.send(capsule(b"capsule")).await;
    let mut received = [udp.recv().await, udp.recv().await]
        .map(|payload| payload.expect("a payload").expect("an open flow"));
    received.sort();
    assert_eq!(received, ["answer", "capsule"]);
}

#[tokio::test]
async fn datagram_that_is_too_large_for_the_path_is_counted() {
    let (mut udp, mut remote) = udp().await;
    for length in [MAX, MAX - 1] {
        let sent = udp.send(vec![7; length].into()).await;
        sent.expect("an open flow");
    }
    assert_eq!(remote.recv().await.map(|sent| sent.len()), Some(MAX));
    assert_eq!(udp.dropped(), 1);
    udp.close().await.expect("an open flow");
    remote.stream.expect_end().await;
}

/// RFC 9297 §2.1: a side that has closed its stream must not send more datagrams.
#[tokio::test]
async fn closed_client_sends_no_quic_datagram_and_still_receives() {
    let (mut udp, mut remote) = udp().await;
    udp.close().await.expect("an open flow");
    let error = udp.send("late".into()).await.expect_err("a closed stream");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    remote.send(b"\0answer");
    let answer = soon(udp.recv()).await.expect("a payload");
    assert_eq!(answer.expect("an open flow"), "answer");
    drop(udp);
    assert_eq!(remote.recv().await, None);
}

#[tokio::test]
async fn closed_connection_is_an_error_of_send() {
    let (mut udp, remote) = udp().await;
    drop(remote.receiver);
    let error = udp.send("query".into()).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::NotConnected);
}

#[tokio::test]
async fn client_that_aborts_the_stream_sends_no_more_quic_datagrams() {
    let (mut udp, mut remote) = udp().await;
    remote.send(b"\x40");
    let error = soon(udp.recv()).await.expect("an error");
    assert_eq!(
        error.expect_err("no context").kind(),
        ErrorKind::InvalidData
    );
    udp.send("late".into())
        .await
        .expect_err("an aborted stream");
    assert_eq!(remote.recv().await, None);
}

#[tokio::test]
async fn capsules_do_not_hold_up_quic_datagrams() {
    let (mut udp, mut remote) = udp().await;
    remote.stream.send(capsule(b"capsule").repeat(100)).await;
    remote.send(b"\0quic");
    let received = [soon(udp.recv()).await, soon(udp.recv()).await];
    let received = received.map(|payload| payload.expect("a payload").expect("an open flow"));
    assert!(received.contains(&"quic".into()), "{received:?}");
}

/// A transport that always has a datagram.
struct Endless;

impl Transport for Endless {
    fn poll_recv(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(Some(Bytes::from_static(b"\0endless")))
    }

    fn send(&mut self, _context: &[u8], _payload: &[u8]) -> Result<(), SendError> {
        Ok(())
    }
}

#[tokio::test]
async fn quic_datagrams_do_not_hold_up_the_stream() {
    let (upgrade, _, mut remote) = Remote::pair();
    let request = client::Request::get(Uri::from_static("http://proxy.test/")).protocol("echo");
    let client = client(QuicDatagrams::new(Endless), upgrade);
    let session = client.oneshot(request).await.expect("a session");
    let mut datagrams = HttpDatagrams::from(session);
    remote.stream.send(capsule(b"capsule")).await;
    remote.stream.finish().await;
    let mut received = Vec::new();
    for _ in 0..6 {
        let datagram = soon(datagrams.recv()).await;
        received.push(datagram.map(|datagram| datagram.expect("a datagram")));
    }
    assert!(received.contains(&Some("\0capsule".into())), "{received:?}");
    assert_eq!(received.last(), Some(&None));
}
