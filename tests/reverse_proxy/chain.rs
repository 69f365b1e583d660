//! Shared support: a proxy between a client and a backend.

use crate::support::{Head, Peer, Server, Via, clients::Scripted, head, plain, soon, text};
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpStream;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{UpgradeLayer, client::Dial, tunnel::ReverseProxy};

fn uri(address: SocketAddr) -> Uri {
    let uri = format!("http://{address}");
    uri.parse().expect("a URI")
}

pub(crate) fn dial(address: SocketAddr) -> Dial<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    Dial::new(tcp).destination(uri(address))
}

pub(crate) fn client(via: Via, address: SocketAddr) -> Dial<HttpConnector> {
    match via {
        Via::Http2 => dial(address).http2_only(),
        _ => dial(address),
    }
}

/// Returns a proxy to a backend of HTTP/1.1 or HTTP/2.
pub(crate) fn proxy(via: Via, address: SocketAddr) -> ReverseProxy {
    ReverseProxy::new(client(via, address))
}

/// Starts the front server, with an inner service for plain requests.
pub(crate) async fn serve(layer: UpgradeLayer) -> Server {
    Server::start_via(Via::Auto, layer.layer(service_fn(plain))).await
}

/// Starts a front server that forwards any protocol.
pub(crate) async fn front(proxy: ReverseProxy) -> Server {
    serve(UpgradeLayer::new().any_protocol(proxy)).await
}

/// Starts a front server whose clients have the address `peer`. Returns it with a
/// counter of the requests to its inner service.
pub(crate) async fn front_with_peer(
    layer: UpgradeLayer,
    peer: Option<SocketAddr>,
) -> (Server, Arc<AtomicUsize>) {
    let plain_requests = Arc::new(AtomicUsize::new(0));
    let inner = {
        let plain_requests = Arc::clone(&plain_requests);
        service_fn(move |request: Request<Incoming>| {
            plain_requests.fetch_add(1, Ordering::SeqCst);
            plain(request)
        })
    };
    let service = layer.layer(inner);
    let service = service.map_request(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        request
    });
    (Server::start_via(Via::Auto, service).await, plain_requests)
}

/// Starts a scripted backend and a front server for it.
pub(crate) async fn scripted() -> (Scripted, Server) {
    let backend = Scripted::start().await;
    let front = front(proxy(Via::Http1, backend.address)).await;
    (backend, front)
}

/// Sends a request to the front server. Returns the raw head that the backend receives, and both connections.
pub(crate) async fn send_through(
    front: &Server,
    backend: &Scripted,
    request: &str,
) -> (String, Peer<TcpStream>, Peer<TcpStream>) {
    let mut client = front.connect().await;
    client.send(request).await;
    let mut at_backend = backend.accept().await;
    let head = at_backend.request_head().await;
    (head, client, at_backend)
}

/// Returns the sorted field lines of a request head.
pub(crate) fn fields(head: &str) -> Vec<&str> {
    let mut lines: Vec<_> = head.trim_end().split("\r\n").skip(1).collect();
    lines.sort_unstable();
    lines
}

/// Returns the 101 of a scripted backend, with more lines.
pub(crate) fn upgrade_response(protocol: &str, more: &[&str]) -> String {
    let upgrade = format!("Upgrade: {protocol}");
    let mut lines = vec![
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        &upgrade,
    ];
    lines.extend(more);
    head(&lines)
}

/// Returns the response that an HTTP/1.1 client receives if the backend sends `answer`.
pub(crate) async fn response_to(request: &str, answer: impl AsRef<[u8]>) -> (Head, String) {
    let (backend, front) = scripted().await;
    let (_, mut client, mut at_backend) = send_through(&front, &backend, request).await;
    at_backend.send(answer).await;
    client.response().await
}

/// Asserts that the backend has received no connection.
pub(crate) async fn assert_no_connection(backend: &Scripted) {
    let ours = TcpStream::connect(backend.address).await;
    let ours = ours.expect("loopback").local_addr().expect("bound");
    let first = backend.accept().await.io.peer_addr().expect("connected");
    assert_eq!(first, ours, "the backend was connected before");
}

/// Reads until EOF or an error.
pub(crate) async fn read_until_closed(peer: &mut Peer<TcpStream>) -> String {
    match soon(peer.rest()).await {
        Ok(rest) => text(&rest),
        Err(_) => text(peer.unread()),
    }
}
