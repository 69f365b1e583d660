//! The heap memory of an idle session: no buffer, no request, little else.

#[path = "support/mod.rs"]
mod support;

use http::{Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};
use support::handlers::run_echo;
use tokio::runtime::Builder;
use tower::{Layer as _, Service, service_fn};
use tower_upgrade::{BoxError, Sessions, UpgradeLayer, handler_fn};

/// The heap bytes allowed for each idle session.
///
/// The allocator and the pages add about 230 bytes of resident memory (see `benches/compare`). Together they must stay
/// below 2 KiB.
const LIMIT: i64 = 1500;

/// Opens a session with a request head of 4 KB, which fills the server's buffer, and reads one echo.
fn open(server: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(server).expect("loopback");
    let padding = "x".repeat(4000);
    let request = support::offer("echo", &[&format!("X-Padding: {padding}")]);
    client.write_all(request.as_bytes()).expect("a socket");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("an upgrade response");
        answer.extend(byte);
    }
    client.write_all(&[7; 64]).expect("a socket");
    client.read_exact(&mut [0; 64]).expect("an echo");
    client
}

/// Returns the heap bytes that a server with one thread holds with this number of idle sessions.
fn held<S, B>(
    service: &S,
    sessions: usize,
    open: impl Fn(SocketAddr) -> TcpStream + Send + 'static,
) -> i64
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    let clients = std::thread::spawn(move || {
        let clients: Vec<_> = (0..sessions).map(|_| open(address)).collect();
        // When one more session has ended, all others are idle.
        let mut last = open(address);
        last.shutdown(std::net::Shutdown::Write).expect("a socket");
        assert_eq!(last.read(&mut [0]).expect("the end"), 0);
        clients
    });

    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut held_clients = None;
    let info = allocation_counter::measure(|| {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            for _ in 0..=sessions {
                let (io, _) = listener.accept().await.expect("a client");
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), TowerToHyperService::new(service.clone()));
                tokio::spawn(connection.with_upgrades());
            }
            while !clients.is_finished() {
                tokio::task::yield_now().await;
            }
            held_clients = Some(clients.join().expect("no panic"));
        });
    });
    drop(runtime);
    info.bytes_current
}

/// Returns the heap bytes of one idle session.
fn held_by_one(layer: UpgradeLayer) -> i64 {
    let layer = layer.protocol("echo", handler_fn(run_echo));
    held_by_one_of(&layer.layer(service_fn(support::plain)), open)
}

fn held_by_one_of<S, B>(
    service: &S,
    open: impl Fn(SocketAddr) -> TcpStream + Copy + Send + 'static,
) -> i64
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    // The thread keeps the buffers that its first session allocates.
    held(service, 1, open);
    let (few, many) = (held(service, 10, open), held(service, 110, open));
    (many - few) / 100
}

/// An upgrader that uses hyper alone.
async fn foreign(mut request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    tokio::spawn(async move {
        let io = hyper::upgrade::on(&mut request).await.expect("an upgrade");
        drop(request);
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(io));
        // The session may end with an error.
        let _ = tower_upgrade::copy(&mut reader, &mut writer).await;
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "echo");
    Ok(response.body(String::new()).expect("a response"))
}

#[test]
fn idle_session_holds_at_most_1500_bytes() {
    let session = held_by_one(UpgradeLayer::new());
    assert!(session > 0, "the allocation counter does not work");
    assert!(session <= LIMIT, "{session} bytes of the heap");
}

#[test]
fn idle_session_with_registry_and_limits_holds_at_most_1500_bytes() {
    let hour = Duration::from_secs(3600);
    let layer = UpgradeLayer::new()
        .sessions(Sessions::new())
        .idle_timeout(hour)
        .lifetime(hour)
        .on_close(|closed| assert_eq!(closed.bytes_read(), 64));
    let session = held_by_one(layer);
    assert!(session <= LIMIT, "{session} bytes of the heap");
}

/// The allocator and the pages add about 60 bytes of resident memory (see `benches/compare`).
#[test]
fn a7_governed_idle_session_holds_at_most_1024_bytes_more() {
    let alone = held_by_one_of(&service_fn(foreign), open);
    let layer = UpgradeLayer::new().sessions(Sessions::new()).govern();
    let governed = held_by_one_of(&layer.layer(service_fn(foreign)), open);
    let more = governed - alone;
    assert!(more > 0, "{alone} and {governed} bytes of the heap");
    assert!(more <= 1024, "{more} bytes of the heap more than {alone}");
}

/// The heap bytes allowed for each idle session of a `ConnectUdp`, with its socket. The system's memory for the socket
/// is not included.
#[cfg(feature = "datagram")]
const UDP_LIMIT: i64 = 2500;

#[cfg(feature = "datagram")]
#[test]
fn idle_udp_session_keeps_little() {
    use std::net::UdpSocket;
    use tower_upgrade::datagram::ConnectUdp;

    let echo = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let target = echo.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            echo.send_to(&buffer[..length], from).expect("loopback");
        }
    });
    let open = move |server: SocketAddr| {
        let mut client = TcpStream::connect(server).expect("loopback");
        let padding = "x".repeat(4000);
        let port = target.port();
        let request = support::head(&[
            &format!("GET /.well-known/masque/udp/127.0.0.1/{port}/ HTTP/1.1"),
            "Host: test",
            "Connection: Upgrade",
            "Upgrade: connect-udp",
            &format!("X-Padding: {padding}"),
        ]);
        client.write_all(request.as_bytes()).expect("a socket");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("an upgrade response");
            answer.extend(byte);
        }
        let capsule = [&[0, 0x40, 65, 0][..], &[7; 64]].concat();
        client.write_all(&capsule).expect("a socket");
        client.read_exact(&mut [0; 68]).expect("an echo");
        client
    };
    let policy = support::tunnel::loopback(target.port());
    let layer = UpgradeLayer::new()
        .sessions(Sessions::new())
        .protocol("connect-udp", ConnectUdp::new(policy));
    let held = held_by_one_of(&layer.layer(service_fn(support::plain)), open);
    println!("{held} bytes");
    assert!(held <= UDP_LIMIT, "{held} bytes for each idle UDP session");
}
