//! A2: an upgrader finds the socket of its session in the request extensions of the server.

use crate::{
    support::{Peer, websocket::Frame},
    upgraders::handshake,
};
use axum::{
    Router,
    extract::{ConnectInfo, connect_info::Connected, ws::WebSocketUpgrade},
    routing::any,
    serve::IncomingStream,
};
use std::{net::SocketAddr, os::fd::AsFd as _, sync::Arc};
use tokio::net::{TcpListener, TcpStream};
use tower_upgrade::{Sessions, UpgradeLayer};

/// The client's address and a duplicate of its socket, from axum's accept loop.
#[derive(Clone)]
struct Socket(SocketAddr, Arc<std::net::TcpStream>);

impl Connected<IncomingStream<'_, TcpListener>> for Socket {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let socket = stream.io().as_fd().try_clone_to_owned();
        Self(
            *stream.remote_addr(),
            Arc::new(socket.expect("a socket").into()),
        )
    }
}

/// The upgrader cannot `downcast` its IO.
#[tokio::test]
async fn a2_upgrader_finds_its_socket_in_connection_info() {
    let handler = |ConnectInfo(Socket(peer, socket)): ConnectInfo<Socket>,
                   upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(async move |mut websocket| {
            socket.set_nodelay(true).expect("a socket");
            let text = format!("{peer} {}", socket.peer_addr().expect("a socket"));
            let _ = websocket.send(text.into()).await;
            let _ = websocket.recv().await;
        })
    };
    let sessions = Sessions::builder()
        .peer(|extensions| Some(extensions.get::<ConnectInfo<Socket>>()?.0.0))
        .build();
    let govern = UpgradeLayer::new().sessions(sessions.clone()).govern();
    let app = Router::new().route("/", any(handler)).layer(govern);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = app.into_make_service_with_connect_info::<Socket>();
    let server = tokio::spawn(axum::serve(listener, app).into_future());

    let io = TcpStream::connect(address).await.expect("a server");
    let own = io.local_addr().expect("an address");
    let mut peer = Peer::new(io);
    peer.send(handshake(&[])).await;
    peer.head().await.assert_upgraded("websocket");
    assert_eq!(sessions.list()[0].peer(), Some(own));
    let message = Frame::read(&mut peer).await;
    assert_eq!(message.brief(), format!("1: \"{own} {own}\""));
    server.abort();
}
