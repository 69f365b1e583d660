//! Many sessions on one connection of HTTP/2.

use crate::support::{
    Peer, Server, Via,
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
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
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
async fn connection_ends_with_its_last_session() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let (server, mut client) = start(layer).await;
    let mut session = expect_session(client.call(request("echo")).await);
    drop(client);
    session.expect_echo(b"still here").await;
    drop(session);
    server.connections_ended().await;
}

/// Records the request that it receives.
struct Noting(Arc<Mutex<Option<http::request::Parts>>>);

impl ProtocolHandler for Noting {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let mut note = self.0.lock().expect("no panic");
        *note = Some(request.parts().clone());
        Ok(Accept::new(|_: Session| async { Ok(()) }))
    }
}

#[tokio::test]
async fn http1_request_is_translated_to_http2() {
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
async fn connect_sends_only_its_target_as_host() {
    let note = Arc::default();
    let layer = tower_upgrade::UpgradeLayer::new().connect(Noting(Arc::clone(&note)));
    let (_server, client) = start(layer).await;
    let request = tunnel().header("host", HeaderValue::from_static("other"));
    client.oneshot(request).await.expect("a tunnel");
    let head = note.lock().expect("no panic").take().expect("a request");
    assert_eq!(head.uri, "example.com:443");
    assert!(head.headers.is_empty(), "{:?}", head.headers);
}

#[tokio::test]
async fn uri_without_a_path_requests_the_root() {
    let note = Arc::default();
    let layer = tower_upgrade::UpgradeLayer::new().protocol("chat", Noting(Arc::clone(&note)));
    let (_server, client) = start(layer).await;
    let request = Request::get("test:80".parse().expect("a URI")).protocol("chat");
    client.oneshot(request).await.expect("a session");
    let head = note.lock().expect("no panic").take().expect("a request");
    assert_eq!(head.uri, "http://test:80/");
}

#[tokio::test]
async fn user_of_a_uri_is_not_sent() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let connection = soon(Http2::handshake(server.connect().await.io)).await;
    // As an inner layer that follows redirects does.
    let request = http::Request::get("http://ann:secret@test/").body(Default::default());
    let result = connection
        .expect("a connection")
        .oneshot(request.expect("a request"))
        .await;
    let error = result.expect_err("a user");
    assert_eq!(error.kind(), ErrorKind::Request);
}

#[tokio::test]
async fn ws_and_wss_become_http_and_https() {
    for (scheme, said) in [("ws", "http"), ("wss", "https"), ("https", "https")] {
        let note = Arc::default();
        let layer = tower_upgrade::UpgradeLayer::new().protocol("chat", Noting(Arc::clone(&note)));
        let (_server, client) = start(layer).await;
        let uri = format!("{scheme}://test/").parse().expect("a URI");
        let session = client.oneshot(Request::get(uri).protocol("chat")).await;
        session.expect("a session");
        let head = note.lock().expect("no panic").take().expect("a request");
        assert_eq!(head.uri.scheme_str(), Some(said));
    }
}

#[tokio::test]
async fn connect_has_no_protocol_pseudo_header() {
    let layer = tower_upgrade::UpgradeLayer::new()
        .protocol("echo", echo())
        .connect(echo());
    let (_server, client) = start(layer).await;
    let http = http::Request::connect("example.com:443")
        .extension(hyper::ext::Protocol::from_static("echo"))
        .body(Default::default());
    let request = Request::from(http.expect("a request"));
    expect_session(client.oneshot(request).await)
        .expect_echo(b"hello")
        .await;
}

#[tokio::test]
async fn rejection_is_returned_and_the_connection_stays_open() {
    let layer = tower_upgrade::UpgradeLayer::new().protocol("echo", echo());
    let (_server, mut client) = start(layer).await;
    let error = expect_error(client.call(request("chess")).await, ErrorKind::Refused);
    assert_eq!(error.response().expect("a response").status(), 501);
    expect_session(client.call(request("echo")).await)
        .expect_echo(b"hello")
        .await;
}

#[tokio::test]
async fn dropped_call_resets_only_its_stream() {
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

/// Never decides, and hands out a value that is dropped together with the decision.
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
async fn unsupported_request_over_http2_is_not_sent() {
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

/// A connection, and its scripted server.
async fn scripted(settings: &[(u16, u32)]) -> (Upgrade<Http2>, frames::Connection<DuplexStream>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let handshake = tokio::spawn(Http2::handshake(client));
    let mut server = frames::Connection::accept(Peer::new(server)).await;
    server.settings(settings).await;
    let connection = soon(handshake).await.expect("no panic");
    let client = UpgradeLayer::new().layer(connection.expect("a connection"));
    (client, server)
}

async fn expect_end(mut server: frames::Connection<DuplexStream>) {
    soon(async { while server.frame().await.is_some() {} }).await;
}

#[tokio::test]
async fn connection_ends_after_a_dropped_call() {
    let (client, mut server) = scripted(&[(frames::ENABLE_CONNECT_PROTOCOL, 1)]).await;
    let asking = tokio::spawn(client.oneshot(request("echo")));
    server.next(frames::HEADERS).await;
    asking.abort();
    expect_end(server).await;
}

#[tokio::test]
async fn connection_ends_after_a_dropped_rejection() {
    let (client, mut server) = scripted(&[(frames::ENABLE_CONNECT_PROTOCOL, 1)]).await;
    let asking = client.oneshot(request("echo"));
    let answering = async {
        let head = server.next(frames::HEADERS).await;
        server.head(head.stream, &[(":status", "403")]).await;
        server
            .send(frames::DATA, 0, head.stream, b"it goes on")
            .await;
    };
    let (result, ()) = soon(async { tokio::join!(asking, answering) }).await;
    drop(expect_error(result, ErrorKind::Refused));
    expect_end(server).await;
}

#[tokio::test]
async fn call_waits_for_a_free_stream_and_dropped_calls_take_none() {
    let allowed = [
        (frames::ENABLE_CONNECT_PROTOCOL, 1),
        (frames::MAX_CONCURRENT_STREAMS, 1),
    ];
    let (mut client, mut server) = scripted(&allowed).await;
    let answering = async {
        let head = server.next(frames::HEADERS).await;
        server.head(head.stream, &[(":status", "200")]).await;
    };
    let (first, ()) = soon(async { tokio::join!(client.call(request("echo")), answering) }).await;
    let dropped = tokio::spawn(client.call(request("echo")));
    let waiting = tokio::spawn(client.call(request("echo")));
    drop(client);
    tokio::task::yield_now().await;
    dropped.abort();
    drop(first.expect("a session"));
    let answering = async {
        // The server may receive the request of the dropped call.
        loop {
            let head = server.next(frames::HEADERS).await;
            server.head(head.stream, &[(":status", "200")]).await;
        }
    };
    let session = soon(async {
        tokio::select! {
            session = waiting => session,
            () = answering => unreachable!("it goes on"),
        }
    });
    let session = session.await.expect("no panic");
    drop(session.expect("a session"));
    expect_end(server).await;
}

#[tokio::test]
async fn goaway_before_settings_is_a_transport_error() {
    for settings in [None, Some(&[(frames::MAX_CONCURRENT_STREAMS, 0)][..])] {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let handshake = tokio::spawn(Http2::handshake(client));
        let mut server = frames::Connection::accept(Peer::new(server)).await;
        if let Some(settings) = settings {
            server.settings(settings).await;
            server.send(frames::GOAWAY, 0, 0, &[0; 8]).await;
        }
        drop(server);
        let error = soon(handshake).await.expect("no panic");
        assert_eq!(error.expect_err("gone").kind(), ErrorKind::Transport);
    }
}

#[tokio::test]
async fn call_waits_for_a_server_at_its_stream_limit() {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let handshake = tokio::spawn(Http2::handshake(client));
    let mut server = frames::Connection::accept(Peer::new(server)).await;
    let none = [
        (frames::MAX_CONCURRENT_STREAMS, 0),
        (frames::ENABLE_CONNECT_PROTOCOL, 1),
    ];
    server.settings(&none).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!handshake.is_finished());
    let one = [(frames::MAX_CONCURRENT_STREAMS, 1)];
    server.settings(&one).await;
    let connection = soon(handshake).await.expect("no panic");
    let connection = connection.expect("a connection");
    assert!(connection.allows_extended_connect());
}

#[tokio::test]
async fn goaway_fails_waiting_calls() {
    let (client, mut server) = scripted(&[(frames::ENABLE_CONNECT_PROTOCOL, 1)]).await;
    let asking = client.oneshot(request("echo"));
    let answering = async {
        server.next(frames::HEADERS).await;
        server.send(frames::GOAWAY, 0, 0, &[0; 8]).await;
    };
    let (result, ()) = soon(async { tokio::join!(asking, answering) }).await;
    expect_error(result, ErrorKind::Transport);
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
async fn http1_server_is_a_transport_error_over_http2() {
    let app = tower_upgrade::UpgradeLayer::new().layer(service_fn(plain));
    let server = Server::start_via(Via::Http1, app).await;
    let io = server.connect().await.io;
    let error = soon(Http2::handshake(io)).await.expect_err("no HTTP/2");
    assert_eq!(error.kind(), ErrorKind::Transport);
}

#[tokio::test]
async fn dropped_handshake_closes_the_connection() {
    let (io, server) = tokio::io::duplex(1024);
    let handshake = tokio::spawn(Http2::handshake(io));
    let mut server = frames::Connection::accept(crate::support::Peer::new(server)).await;
    handshake.abort();
    while soon(server.frame()).await.is_some() {}
}

#[tokio::test]
async fn broken_connection_is_a_transport_error() {
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
async fn success_that_hyper_does_not_hand_over_is_an_error() {
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
async fn status_204_to_a_connect_over_http1_is_an_error() {
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
