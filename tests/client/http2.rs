//! Many sessions on one connection of HTTP/2.

use crate::support::{
    Server, Via,
    clients::{expect_error, expect_session},
    frames,
    handlers::echo,
    plain, soon,
};
use http::HeaderValue;
use std::{
    io::ErrorKind::NotConnected,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, UpgradeRequest,
    client::{ErrorKind, Http2, Request, Upgrade, UpgradeLayer},
};

fn request(protocol: &str) -> Request {
    Request::get("http://test/path?query".parse().expect("a URI")).protocol(protocol)
}

fn tunnel() -> Request {
    Request::connect("example.com:443".parse().expect("a target"))
}

async fn client(server: &Server) -> Upgrade<Http2> {
    let io = server.connect().await.io;
    let connection = soon(Http2::handshake(io)).await.expect("a connection");
    UpgradeLayer::new().layer(connection)
}

async fn start(layer: tower_upgrade::UpgradeLayer) -> (Server, Upgrade<Http2>) {
    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let client = client(&server).await;
    (server, client)
}

#[tokio::test]
async fn sessions_share_a_connection_and_half_close() {
    let layer = tower_upgrade::UpgradeLayer::new()
        .protocol("echo", echo())
        .connect(echo());
    let (_server, mut client) = start(layer).await;
    let mut sessions = Vec::new();
    for request in [request("echo"), tunnel(), request("echo")] {
        sessions.push(expect_session(client.call(request).await));
    }
    // They do not need it any more to go on.
    drop(client);
    for session in &mut sessions {
        session.expect_echo(b"hello").await;
    }
    for mut session in sessions {
        session.send("bye").await;
        session.finish().await;
        assert_eq!(session.rest().await.expect("an orderly end"), b"bye");
    }
}

#[tokio::test]
async fn the_connection_ends_with_its_last_session() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let (server, mut client) = start(layer).await;
    let mut session = expect_session(client.call(request("echo")).await);
    drop(client);
    session.expect_echo(b"still here").await;
    drop(session);
    server.connections_ended().await;
}

/// Notes the request that it gets.
struct Noting(Arc<Mutex<Option<http::request::Parts>>>);

impl ProtocolHandler for Noting {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let mut note = self.0.lock().expect("no panic");
        *note = Some(request.parts().clone());
        Ok(Accept::new(|_: Session| async { Ok(()) }))
    }
}

#[tokio::test]
async fn what_http_1_says_is_said_as_http_2_does() {
    let note = Arc::default();
    let layer = tower_upgrade::UpgradeLayer::new().protocol("chat", Noting(Arc::clone(&note)));
    let (_server, mut client) = start(layer).await;
    let request = request("chat/2")
        .protocol("echo")
        .header("host", HeaderValue::from_static("virtual:8080"))
        .header("connection", HeaderValue::from_static("x-hop"))
        .header("user", HeaderValue::from_static("ann"));
    let session = client.call(request).await.expect("a session");
    assert_eq!(session.protocol().expect("a protocol"), &"chat/2");
    assert_eq!(session.response().status, 200);

    let head = note.lock().expect("no panic").take().expect("a request");
    assert_eq!(head.uri, "http://virtual:8080/path?query");
    let names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["user"]);
}

#[tokio::test]
async fn a_refusal_comes_back_and_the_connection_goes_on() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let (_server, mut client) = start(layer).await;
    let error = expect_error(client.call(request("chess")).await, ErrorKind::Refused);
    assert_eq!(error.response().expect("a response").status(), 501);
    expect_session(client.call(request("echo")).await)
        .expect_echo(b"hello")
        .await;
}

#[tokio::test]
async fn a_call_that_is_dropped_resets_its_stream_only() {
    let (handler, mut asked) = Never::new();
    let layer = tower_upgrade::UpgradeLayer::new()
        .protocol("never", handler)
        .protocol("echo", echo());
    let (_server, mut client) = start(layer).await;
    let call = tokio::spawn(client.call(request("never")));
    let dropped = soon(asked.recv()).await.expect("it was asked");
    call.abort();
    // The server sees that, and drops the decision.
    soon(dropped).await.expect_err("it does not decide");
    expect_session(client.call(request("echo")).await)
        .expect_echo(b"hello")
        .await;
}

/// Never decides, and hands out what is dropped when its decision is.
struct Never(tokio::sync::mpsc::UnboundedSender<tokio::sync::oneshot::Receiver<()>>);

impl Never {
    fn new() -> (
        Self,
        tokio::sync::mpsc::UnboundedReceiver<tokio::sync::oneshot::Receiver<()>>,
    ) {
        let (asked, is_asked) = tokio::sync::mpsc::unbounded_channel();
        (Self(asked), is_asked)
    }
}

impl ProtocolHandler for Never {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let (_undecided, dropped) = tokio::sync::oneshot::channel();
        self.0.send(dropped).expect("the test waits");
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_http_2_cannot_ask_for_is_not_sent() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let (_server, client) = start(layer).await;
    let post = http::Request::post("http://test/").body(Default::default());
    let with_body = http::Request::get("http://test/").body("body".into());
    for http in [post, with_body] {
        let request = Request::from(http.expect("a request")).protocol("echo");
        let result = client.clone().oneshot(request).await;
        let error = expect_error(result, ErrorKind::Unsupported);
        assert!(error.to_string().contains("GET"), "{error}");
    }
    let request = Request::get("/".parse().expect("a URI")).protocol("echo");
    expect_error(client.oneshot(request).await, ErrorKind::Request);
}

#[tokio::test]
async fn sessions_that_are_not_read_do_not_stop_the_others() {
    let flood = tower_upgrade::handler_fn(|session: Session| async move {
        let mut io = session.into_io();
        let bytes = [0; 16 * 1024];
        loop {
            io.write_all(&bytes).await?;
        }
    });
    let layer = tower_upgrade::UpgradeLayer::new()
        .protocol("flood", flood)
        .protocol("echo", echo());
    let (_server, mut client) = start(layer).await;
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut session = expect_session(client.call(request("flood")).await);
        session.exactly(1).await;
        unread.push(session);
    }
    let mut session = expect_session(client.call(request("echo")).await);
    for _ in 0..1000 {
        session.expect_echo(&[1; 1024]).await;
    }
}

#[tokio::test]
async fn a_server_of_http_1_is_a_failure_of_the_transport() {
    let app = tower_upgrade::UpgradeLayer::new().layer(service_fn(plain));
    let server = Server::start_via(Via::Http1, app).await;
    let io = server.connect().await.io;
    let error = soon(Http2::handshake(io)).await.expect_err("no HTTP/2");
    assert_eq!(error.kind(), ErrorKind::Transport);
}

#[tokio::test]
async fn a_handshake_that_is_dropped_closes_the_connection() {
    let (io, server) = tokio::io::duplex(1024);
    let handshake = tokio::spawn(Http2::handshake(io));
    let mut server = frames::Connection::accept(crate::support::Peer::new(server)).await;
    handshake.abort();
    while soon(server.frame()).await.is_some() {}
}

#[tokio::test]
async fn a_connection_that_broke_says_so() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let (server, mut client) = start(layer).await;
    let mut io = client
        .call(request("echo"))
        .await
        .expect("a session")
        .into_io();
    server.abort_connections();
    let error = soon(async {
        loop {
            if let Err(error) = client.ready().await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(error.await.kind(), ErrorKind::Transport);
    let read = soon(io.read(&mut [0; 8])).await;
    let error = read.expect_err("a reset");
    assert_ne!(error.kind(), NotConnected);
    drop(io.shutdown().await);
}

#[tokio::test]
async fn a_2xx_that_hyper_does_not_hand_over_says_so() {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let handshake = tokio::spawn(Http2::handshake(client));
    let mut server = frames::Connection::accept(crate::support::Peer::new(server)).await;
    server.settings(&[]).await;
    let connection = soon(handshake)
        .await
        .expect("no panic")
        .expect("a connection");
    let asking = UpgradeLayer::new().layer(connection).oneshot(tunnel());
    let answering = async {
        let head = server.next(frames::HEADERS).await;
        server.head(head.stream, &[(":status", "299")]).await;
    };
    let (result, ()) = soon(async { tokio::join!(asking, answering) }).await;
    let error = expect_error(result, ErrorKind::Unsupported);
    assert!(error.to_string().contains("hand"), "{error}");
}

#[tokio::test]
async fn a_204_to_a_connect_over_http_1_says_so_as_well() {
    let server = crate::support::clients::Scripted::start().await;
    let io = TcpStream::connect(server.address).await.expect("loopback");
    let connection = tower_upgrade::client::Http1::handshake(io).await;
    let mut client = UpgradeLayer::new().layer(connection.expect("a connection"));
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        peer
    };
    let (result, _peer) = soon(async { tokio::join!(client.call(tunnel()), answering) }).await;
    expect_error(result, ErrorKind::Unsupported);
}
