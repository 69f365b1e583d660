//! hyper's and hyper-util's clients.

use crate::support::{Peer, Server, Via, frames, h2, plain, soon, text};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector, connect::proxy::Tunnel},
    rt::{TokioExecutor, TokioIo},
};
use tokio::io::DuplexStream;
use tower::{ServiceExt as _, service_fn};

type Body = Empty<Bytes>;

fn sockets() -> (TokioIo<DuplexStream>, Peer<DuplexStream>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    (TokioIo::new(client), Peer::new(server))
}

/// Sends a request with hyper's HTTP/1.1 client and replies with `answer` and more bytes. Returns the status
/// and, if hyper handed over the connection, the bytes after the head.
async fn exchange(method: Method, answer: &str) -> (StatusCode, Option<String>) {
    let (io, mut server) = sockets();
    let (mut client, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .expect("a connection");
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .method(method)
        .uri("test:1")
        .body(Body::new());
    let answering = async {
        server.request_head().await;
        server.send(answer.to_owned() + "behind").await;
        server.finish().await;
    };
    let asking = client.send_request(request.expect("a request"));
    let (response, ()) = soon(async { tokio::join!(asking, answering) }).await;
    let mut response = response.expect("a response");
    let status = response.status();
    let Ok(io) = soon(hyper::upgrade::on(&mut response)).await else {
        return (status, None);
    };
    let rest = Peer::new(TokioIo::new(io)).rest().await;
    (status, Some(text(&rest.expect("an orderly end"))))
}

/// Manual: "A client is handed the connection for any 101".
#[tokio::test]
async fn unsolicited_101_hands_over_the_connection() {
    for method in [Method::GET, Method::CONNECT] {
        let (status, behind) = exchange(method, "HTTP/1.1 101 S\r\n\r\n").await;
        assert_eq!((status.as_u16(), behind.as_deref()), (101, Some("behind")));
    }
}

/// Manual: "A client is handed a tunnel for a 200".
#[tokio::test]
async fn http1_connect_answered_with_any_2xx_but_204_is_a_tunnel() {
    for (status, is_tunnel) in [(200, true), (202, true), (299, true), (204, false)] {
        let answer = format!("HTTP/1.1 {status} S\r\n\r\n");
        let (_, behind) = exchange(Method::CONNECT, &answer).await;
        assert_eq!(behind.is_some(), is_tunnel, "{status}");
    }
}

/// Connects hyper's HTTP/2 client to a server with empty SETTINGS.
async fn http2() -> (
    hyper::client::conn::http2::SendRequest<Body>,
    frames::Connection<DuplexStream>,
) {
    let (io, server) = sockets();
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let mut server = frames::Connection::accept(server).await;
    server.settings(&[]).await;
    while server.next(frames::SETTINGS).await.flags != frames::ACK {}
    (client, server)
}

/// Manual: "A client is handed a tunnel for a 200".
#[tokio::test]
async fn http2_connect_answered_with_200_only_is_a_tunnel() {
    for (status, is_tunnel) in [("200", true), ("202", false), ("299", false)] {
        let (mut client, mut server) = http2().await;
        let request = h2::connect("test:1").body(Body::new()).expect("a request");
        let answering = async {
            let head = server.next(frames::HEADERS).await;
            server.head(head.stream, &[(":status", status)]).await;
        };
        let asking = client.send_request(request);
        let (response, ()) = soon(async { tokio::join!(asking, answering) }).await;
        let mut response = response.expect("a response");
        let io = soon(hyper::upgrade::on(&mut response)).await;
        assert_eq!(io.is_ok(), is_tunnel, "{status}");
    }
}

/// Manual: "A client sends an extended CONNECT to any server". If hyper returns an error instead,
/// `client::Http2` need not check the server's settings.
#[tokio::test]
async fn extended_connect_is_sent_to_server_that_does_not_allow_it() {
    let (mut client, mut server) = http2().await;
    let request = Request::connect("http://test/")
        .extension(hyper::ext::Protocol::from_static("echo"))
        .body(Body::new());
    let asking = client.send_request(request.expect("a request"));
    let answering = async {
        let head = server.next(frames::HEADERS).await;
        server.head(head.stream, &[(":status", "200")]).await;
    };
    let (response, ()) = soon(async { tokio::join!(asking, answering) }).await;
    assert_eq!(response.expect("a response").status(), 200);
}

/// Manual: "A client ignores a 101 over HTTP/2".
#[tokio::test]
async fn http2_101_is_ignored() {
    let (mut client, mut server) = http2().await;
    let request = Request::get("http://test/").body(Body::new());
    let asking = client.send_request(request.expect("a request"));
    let answering = async {
        let head = server.next(frames::HEADERS).await;
        server.head(head.stream, &[(":status", "101")]).await;
        server.head(head.stream, &[(":status", "403")]).await;
    };
    let (response, ()) = soon(async { tokio::join!(asking, answering) }).await;
    assert_eq!(response.expect("a response").status(), 403);
}

/// Manual: "A pool may send an `Upgrade` over HTTP/2".
#[tokio::test]
async fn pool_sends_upgrade_over_http2_as_plain_request() {
    let server = Server::start_via(Via::Http2, service_fn(plain)).await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let request = Request::get(format!("http://{}/path", server.address))
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Body::new());
    let response = soon(client.request(request.expect("a request"))).await;
    let response = response.expect("a response");
    assert_eq!(response.status(), 200);
    let body = soon(response.collect()).await.expect("a body").to_bytes();
    assert_eq!(body, "plain GET /path");
}

/// Manual: "hyper-util's tunnel loses early data".
#[tokio::test]
async fn hyper_util_tunnel_loses_bytes_read_with_the_200() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let proxy = format!("http://{}", listener.local_addr().expect("bound"));
    let tunnel = Tunnel::new(proxy.parse().expect("a URI"), HttpConnector::new());
    let connecting = tunnel.oneshot("http://example.com:22".parse().expect("a URI"));
    let answering = async {
        let mut peer = Peer::new(listener.accept().await.expect("loopback").0);
        peer.request_head().await;
        peer.send("HTTP/1.1 200 OK\r\n\r\nSSH-2.0-early\r\n").await;
        peer.finish().await;
    };
    let (io, ()) = soon(async { tokio::join!(connecting, answering) }).await;
    let rest = Peer::new(TokioIo::new(io.expect("a tunnel"))).rest().await;
    assert_eq!(text(&rest.expect("an orderly end")), "");
}
