//! Plain requests: `ReverseProxy` as a service.

mod bodies;
mod failures;
mod headers;
mod versions;

use crate::{
    chain::{client, send_through},
    support::{Peer, Server, Via, clients::Scripted, head},
};
use h2::{RecvStream, server::SendResponse};
use http::Request;
use hyper_util::client::legacy::connect::HttpConnector;
use std::{net::SocketAddr, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tower::Layer as _;
use tower_upgrade::{UpgradeLayer, client::Pool, tunnel::ReverseProxy};

fn pool(via: Via, address: SocketAddr) -> Pool<HttpConnector> {
    Pool::new(client(via, address))
}

/// Starts a front server that forwards upgrades and plain requests.
async fn front(proxy: ReverseProxy) -> Server {
    let app = UpgradeLayer::new().any_protocol(proxy.clone()).layer(proxy);
    Server::start_via(Via::Auto, app).await
}

/// Starts a scripted HTTP/1.1 backend and a front server for it.
async fn scripted() -> (Scripted, Server) {
    let backend = Scripted::start().await;
    let front = front(ReverseProxy::new(pool(Via::Http1, backend.address))).await;
    (backend, front)
}

/// Sends a GET. Returns the connections of the client and of the backend, which has read the head.
async fn get(front: &Server, backend: &Scripted) -> (Peer<TcpStream>, Peer<TcpStream>) {
    let request = head(&["GET / HTTP/1.1", "Host: test"]);
    let (_, client, at_backend) = send_through(front, backend, &request).await;
    (client, at_backend)
}

/// Starts an HTTP/2 backend that answers its first request with `answer`. Returns its address.
async fn http2_backend<F>(
    answer: impl FnOnce(Request<RecvStream>, SendResponse<bytes::Bytes>) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.expect("loopback");
        let mut connection = h2::server::handshake(io).await.expect("a handshake");
        let first = connection.accept().await.expect("one").expect("a request");
        tokio::spawn(answer(first.0, first.1));
        while let Some(next) = connection.accept().await {
            let Ok(_) = next else { break };
        }
    });
    address
}

const SECOND: Duration = Duration::from_secs(1);
