//! The result of a call without a session, and the state that it leaves.

use crate::support::{
    Peer,
    clients::{AnyClient, Scripted, clients, expect_error},
    soon, until,
};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::Full;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use std::{error::Error as _, io, sync::Arc, task::Poll, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower::{
    Layer as _, Service as _, ServiceBuilder, ServiceExt as _, service_fn,
    util::BoxCloneSyncService,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_upgrade::{
    BoxError,
    client::{Dial, ErrorKind, Http1, Request, Tunnel, UpgradeLayer},
};

fn request(uri: &str) -> Request {
    Request::get(uri.parse().expect("a URI"))
}

fn connect(target: &str) -> Request {
    Request::connect(target.parse().expect("a target"))
}

/// A client that must not send anything.
fn untouched() -> AnyClient {
    let http = service_fn(|request: http::Request<Full<Bytes>>| async move {
        Err::<http::Response<String>, BoxError>(format!("{request:?} was sent").into())
    });
    BoxCloneSyncService::new(UpgradeLayer::new().layer(http))
}

#[tokio::test]
async fn invalid_request_is_not_sent() {
    for (request, message) in [
        (request("http://test/"), "offers no protocol"),
        (
            connect("test:1").protocol("echo"),
            "cannot offer a protocol",
        ),
        (connect("test"), "must have a port"),
        (connect("test:0"), "must have a port"),
        (connect("ann@test:1"), "not a valid host"),
        (request("http://ann:secret@test/").protocol("echo"), "user"),
    ] {
        let error = expect_error(untouched().oneshot(request).await, ErrorKind::Request);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[tokio::test]
async fn request_without_a_host_is_not_sent() {
    let (io, mut server) = tokio::io::duplex(1024);
    let mut client = UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
    let result = client.call(request("/").protocol("echo")).await;
    let error = expect_error(result, ErrorKind::Request);
    assert!(error.to_string().contains("no host"), "{error}");
    drop(client);
    Peer::new(&mut server).expect_end().await;
}

#[test]
#[should_panic = "is not a protocol"]
fn offering_an_invalid_protocol_panics() {
    drop(request("http://test/").protocol("a b"));
}

#[tokio::test]
async fn k8_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    for (name, client) in clients() {
        let request = request(&format!("http://{address}/")).protocol("echo");
        let error = expect_error(client.oneshot(request).await, ErrorKind::Unreachable);
        let mut source = error.source();
        let mut messages = Vec::new();
        while let Some(error) = source {
            messages.push(error.to_string());
            source = error.source();
        }
        assert!(
            messages.iter().any(|message| message.contains("refused")),
            "{name}: {messages:?}"
        );
    }
}

#[tokio::test]
async fn broken_or_foreign_server_is_a_transport_error() {
    for answer in [
        "",
        "HTTP/1.1 101 Switching",
        "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n",
        "SSH-2.0-OpenSSH\r\n",
    ] {
        for (name, mut client) in clients() {
            let server = Scripted::start().await;
            let request = Request::get(server.uri("/")).protocol("echo");
            let answering = async {
                let mut peer = server.accept().await;
                peer.request_head().await;
                peer.send(answer).await;
            };
            let asking = async { client.ready().await?.call(request).await };
            let (result, ()) = soon(async { tokio::join!(asking, answering) }).await;
            let error = expect_error(result, ErrorKind::Transport);
            assert!(error.source().is_some(), "{name}: {answer}: {error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silent_server_times_out_after_30_seconds() {
    for (limit, expected) in [
        (None, Duration::from_secs(30)),
        (Some(Duration::from_secs(2)), Duration::from_secs(2)),
    ] {
        let (io, mut server) = tokio::io::duplex(1024);
        let mut layer = UpgradeLayer::new();
        if let Some(limit) = limit {
            layer = layer.handshake_timeout(limit);
        }
        let client = layer.layer(Http1::handshake(io).await.expect("a connection"));
        let start = Instant::now();
        let result = client
            .oneshot(request("http://test/").protocol("echo"))
            .await;
        expect_error(result, ErrorKind::Timeout);
        assert_eq!(start.elapsed(), expected);
        // The connection is closed with it.
        let mut server = Peer::new(&mut server);
        server.request_head().await;
        server.expect_end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn disabled_handshake_timeout_waits() {
    let (io, server) = tokio::io::duplex(1024);
    let layer = UpgradeLayer::new().handshake_timeout(None);
    let client = layer.layer(Http1::handshake(io).await.expect("a connection"));
    let asking = tokio::spawn(client.oneshot(request("http://test/").protocol("echo")));
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    let mut server = Peer::new(server);
    server.request_head().await;
    server
        .send("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    asking.await.expect("no panic").expect("a session");
}

#[tokio::test]
async fn timeout_of_the_inner_client_is_a_timeout() {
    let client = UpgradeLayer::new().layer(service_fn(|_: http::Request<_>| async {
        Err::<http::Response<String>, _>(io::Error::from(io::ErrorKind::TimedOut))
    }));
    let result = client
        .oneshot(request("http://test/").protocol("echo"))
        .await;
    let error = expect_error(result, ErrorKind::Timeout);
    assert!(error.source().is_some());
}

#[tokio::test]
async fn timeout_of_the_connector_is_a_timeout() {
    let connector = service_fn(|_: http::Uri| async {
        let error = io::Error::from(io::ErrorKind::TimedOut);
        Err::<TokioIo<TcpStream>, _>(io::Error::other(Outer(error)))
    });
    let result = UpgradeLayer::new()
        .layer(Dial::new(connector))
        .oneshot(request("http://test/").protocol("echo"))
        .await;
    expect_error(result, ErrorKind::Timeout);
}

/// An error with a source.
#[derive(Debug)]
struct Outer(io::Error);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it failed")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Is never ready.
#[derive(Clone)]
struct Closed;

impl tower::Service<http::Uri> for Closed {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        panic!("it is not ready")
    }
}

#[tokio::test]
async fn connector_is_called_only_when_ready() {
    let mut client = UpgradeLayer::new().layer(Dial::new(Closed));
    let ready = tower::ServiceExt::<Request>::ready(&mut client)
        .await
        .map(drop);
    assert_eq!(ready.expect_err("closed").kind(), ErrorKind::Unreachable);
    let mut tunnel = Tunnel::new(client);
    let ready = tunnel.ready().await.map(drop);
    assert_eq!(ready.expect_err("closed").kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn upgraded_connection_rejects_further_requests() {
    let server = Scripted::start().await;
    let io = TcpStream::connect(server.address).await.expect("loopback");
    let mut client = UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        peer.send("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await;
    };
    let asking = client.call(Request::get(server.uri("/")).protocol("echo"));
    let (session, ()) = soon(async { tokio::join!(asking, answering) }).await;
    session.expect("a session");
    let ready = soon(client.ready()).await.map(drop);
    assert_eq!(ready.expect_err("gone").kind(), ErrorKind::Transport);
}

#[tokio::test]
async fn rejection_reports_status_and_body() {
    for (answer, message, length) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nindex",
            "the offer was ignored: 200 OK",
            5,
        ),
        (
            "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n",
            "refused with 403 Forbidden",
            0,
        ),
    ] {
        for (name, client) in clients() {
            let server = Scripted::start().await;
            let request = Request::get(server.uri("/")).protocol("echo");
            let (result, _peer) = server.answer(client, request, answer).await;
            let error = expect_error(result, ErrorKind::Refused);
            assert_eq!(error.to_string(), message);
            let body = error.into_response().expect("a response").into_body();
            assert_eq!(body.size_hint().exact(), Some(length), "{name}");
            assert_eq!(body.is_end_stream(), length == 0, "{name}");
        }
    }
}

#[tokio::test]
async fn dropped_call_closes_its_connection() {
    for (name, mut client) in clients() {
        let server = Scripted::start().await;
        let call = client.ready().await.expect("ready");
        let call = tokio::spawn(call.call(Request::get(server.uri("/")).protocol("echo")));
        let mut peer = server.accept().await;
        peer.request_head().await;
        call.abort();
        let rest = peer.rest().await;
        assert!(rest.is_ok_and(|rest| rest.is_empty()), "{name}");
    }
}

#[tokio::test]
async fn dropped_session_closes_its_connection() {
    for (name, client) in clients() {
        let server = Scripted::start().await;
        let request = Request::get(server.uri("/")).protocol("echo");
        let switch = "HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        let (session, mut peer) = server.answer(client, request, switch).await;
        drop(session.expect(name));
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn dropped_rejection_closes_its_connection() {
    for (name, client) in clients() {
        let server = Scripted::start().await;
        let request = Request::get(server.uri("/")).protocol("echo");
        let endless = "HTTP/1.1 403 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n";
        let (result, mut peer) = server.answer(client, request, endless).await;
        drop(expect_error(result, ErrorKind::Refused));
        let rest = peer.rest().await;
        assert!(rest.is_ok_and(|rest| rest.is_empty()), "{name}");
    }
}

/// A redirect's target may be confidential (RFC 9110 §4.2.4).
#[tokio::test]
async fn user_of_a_redirect_is_not_sent() {
    let redirect =
        "HTTP/1.1 307 There\r\nlocation: http://ann:secret@test/\r\ncontent-length: 0\r\n\r\n";
    let server = Scripted::start().await;
    let dial = Dial::new(HttpConnector::new()).destination(server.uri(""));
    let client = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .layer(FollowRedirectLayer::new())
        .service(dial);
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        peer.send(redirect).await;
    };
    let asking = client.oneshot(Request::get(server.uri("/")).protocol("echo"));
    let (result, ()) = soon(async { tokio::join!(asking, answering) }).await;
    let error = expect_error(result, ErrorKind::Request);
    assert!(error.to_string().contains("user"), "{error}");
}

#[tokio::test]
async fn boxed_client_error_keeps_its_kind() {
    let client = UpgradeLayer::new().layer(service_fn(|_: http::Request<_>| async {
        let inner = untouched().oneshot(request("http://test/")).await;
        Err::<http::Response<String>, BoxError>(inner.expect_err("it offers nothing").into())
    }));
    let result = client
        .oneshot(request("http://test/").protocol("echo"))
        .await;
    expect_error(result, ErrorKind::Request);
}

#[tokio::test]
async fn request_body_is_sent_before_the_upgrade() {
    let server = Scripted::start().await;
    let long = "x".repeat(1 << 20);
    let docker = http::Request::post(server.uri("/exec"))
        .header("content-type", "application/json")
        .body(Full::from(long.clone()))
        .expect("a request");
    let client = clients()[0].1.clone();
    let answering = async {
        let mut peer = server.accept().await;
        let head = peer.request_head().await;
        assert!(head.starts_with("POST /exec HTTP/1.1\r\n"), "{head}");
        // Before all of the body has come: it is the client's to go on with it.
        peer.send("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n")
            .await;
        let body = peer.exactly(long.len()).await;
        assert!(body == long.as_bytes());
        assert_eq!(peer.exactly(5).await, b"after");
    };
    let asking = async {
        let session = client.oneshot(Request::from(docker).protocol("tcp")).await;
        let mut io = session.expect("a session").into_io();
        io.write_all(b"after").await.expect("a session");
        io
    };
    soon(async { tokio::join!(asking, answering) }).await;
}

#[tokio::test]
async fn session_downcasts_to_the_tcp_stream() {
    let server = Scripted::start().await;
    let io = TcpStream::connect(server.address).await.expect("loopback");
    let client = UpgradeLayer::new().layer(Http1::handshake(io).await.expect("a connection"));
    let answering = async {
        let mut peer = server.accept().await;
        peer.request_head().await;
        peer.send("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly")
            .await;
        peer
    };
    let asking = client.oneshot(Request::get(server.uri("/")).protocol("echo"));
    let (session, _peer) = soon(async { tokio::join!(asking, answering) }).await;
    let io = session.expect("a session").into_io();
    let parts = io.downcast::<TcpStream>().expect("a TCP stream");
    assert_eq!(parts.read_buf, "early");
}

#[tokio::test]
async fn cloned_request_is_equal() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let client = UpgradeLayer::new().layer(service_fn({
        let seen = Arc::clone(&seen);
        move |request: http::Request<_>| {
            seen.lock().expect("no panic").push(format!("{request:?}"));
            async { Ok::<_, BoxError>(http::Response::new(String::new())) }
        }
    }));
    let request = request("http://test/chat")
        .protocol("chat/2")
        .header("user", http::HeaderValue::from_static("ann"));
    for request in [request.clone(), request] {
        let result = client.clone().oneshot(request).await;
        expect_error(result, ErrorKind::Refused);
    }
    until(|| seen.lock().expect("no panic").len() == 2).await;
    let seen = seen.lock().expect("no panic");
    assert_eq!(seen[0], seen[1]);
}
