//! Shared by the tests of rules: a server with one protocol, and a peer.

use crate::support::{Peer, Server, handlers::echo, plain};
use http::StatusCode;
use tokio::net::TcpStream;
use tower::{Layer as _, service_fn};
use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest};

pub(crate) async fn echo_server(layer: UpgradeLayer) -> Server {
    Server::start(layer.layer(service_fn(plain))).await
}

pub(crate) async fn connect_to_echo() -> (Server, Peer<TcpStream>) {
    let server = echo_server(UpgradeLayer::new().protocol("echo", echo())).await;
    let peer = server.connect().await;
    (server, peer)
}

/// Sends a request head and expects the inner service to answer it.
pub(crate) async fn assert_passes(peer: &mut Peer<TcpStream>, request: &str) {
    peer.send(request).await;
    let (head, body) = peer.response().await;
    head.assert_no_handshake();
    assert_eq!(head.status, 200, "{request}");
    assert!(body.starts_with("plain "), "{request}: {body}");
}

/// Rejects, and leaves the body unread.
#[derive(Clone)]
pub(crate) struct Refuse;

impl ProtocolHandler for Refuse {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you"))
    }
}
