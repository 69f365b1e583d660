//! HTTP/1.1: when and how hyper hands over a connection.

use crate::connection::{Connection, answering, sockets};
use crate::support::{
    Peer, Server, Via, h2, handlers::echo, head, offer, plain, soon, text, tls::Tls,
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, upgrade::OnUpgrade};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{convert::Infallible, io};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Layer as _, service_fn};
use tower_upgrade::UpgradeLayer;

/// Manual: "hyper hands over the connection even after a rejection". This is the reason for the commit gate,
/// which `src/lib.rs`, the README and `src/commit/mod.rs` explain: if hyper changes, so must they.
#[tokio::test]
async fn hyper_hands_over_connection_after_refusal() {
    let (service, mut offered) = answering(StatusCode::FORBIDDEN);
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let upgrade = offered.next().await;
    assert_eq!(peer.response().await.0.status, 403);
    // hyper still serves the next request.
    peer.send(head(&["GET /next HTTP/1.1", "Host: test"])).await;
    assert_eq!(peer.response().await.1, "plain GET /next");

    peer.finish().await;
    let mut io = TokioIo::new(soon(upgrade).await.expect("the live connection"));
    io.write_all(b"to a client that was refused")
        .await
        .expect("a live connection");
    drop(io);
    let heard = peer.rest().await.expect("an end");
    assert_eq!(text(&heard), "to a client that was refused");
}

/// Manual: "hyper hands over the connection even after a rejection". The commit gate does not depend on this.
#[tokio::test]
async fn later_upgrade_request_cancels_earlier_upgrade() {
    let (service, mut offered) = answering(StatusCode::FORBIDDEN);
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let first = offered.next().await;
    assert_eq!(peer.response().await.0.status, 403);
    peer.send(offer("echo", &[])).await;
    let second = offered.next().await;
    let error = soon(first)
        .await
        .expect_err("the first upgrade is cancelled");
    assert!(error.is_canceled(), "{error:?}");
    assert_eq!(peer.response().await.0.status, 403);
    peer.finish().await;
    soon(second).await.expect("the live connection");
}

/// Manual: "hyper offers an upgrade without `Connection: upgrade`". If hyper begins to check `Connection`, keep
/// the check in `src/negotiate/http1.rs`: RFC 9110 requires it of the server.
#[tokio::test]
async fn hyper_offers_upgrade_without_connection_option() {
    let (service, mut offered) = answering(StatusCode::SWITCHING_PROTOCOLS);
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(head(&["GET / HTTP/1.1", "Host: test", "Upgrade: echo"]))
        .await;
    peer.head().await.assert_upgraded("echo");
    offered
        .io()
        .await
        .write_all(b"!")
        .await
        .expect("a live connection");
    assert_eq!(peer.exactly(1).await, b"!");
}

/// Manual: "hyper does not check `Host`". If hyper refuses these, `src/negotiate/host.rs` has less to check.
#[tokio::test]
async fn hyper_serves_requests_without_one_valid_host() {
    let server = Server::start(service_fn(plain)).await;
    for host in ["X: y", "Host: a\r\nHost: b", "Host: a b", "Host: ann@test"] {
        let mut peer = server.connect().await;
        peer.send(head(&["GET / HTTP/1.1", host])).await;
        assert_eq!(peer.response().await.1, "plain GET /", "{host}");
    }
    let server = Server::start_via(Via::Http2, service_fn(plain)).await;
    let mut client = h2::Client::connect(server.connect().await).await;
    let request = Request::get("http://test/").header("host", "other");
    let answer = client.ask(request.body(()).expect("a request")).await;
    assert_eq!(answer.refused().await.1, "plain GET /");
}

/// Manual: "A 101 goes out to HTTP/1.0 clients". If hyper refuses to send it, remove the section.
#[tokio::test]
async fn hyper_sends_101_to_http_1_0_client() {
    let service = service_fn(|request: Request<Incoming>| async move {
        assert!(request.extensions().get::<OnUpgrade>().is_none());
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        Ok::<_, Infallible>(response)
    });
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(head(&[
        "GET / HTTP/1.0",
        "Connection: upgrade",
        "Upgrade: echo",
    ]))
    .await;
    let answer = text(&peer.rest().await.expect("an end"));
    assert!(answer.starts_with("HTTP/1.0 101 Switching"), "{answer}");
}

/// Manual: "A 101 goes out to HTTP/1.0 clients".
#[tokio::test]
async fn http_1_0_connect_with_upgrade_header_has_no_upgrade() {
    for (field, is_offered) in [("Host: test:1", true), ("Upgrade: echo", false)] {
        let (service, mut offered) = answering(StatusCode::OK);
        let server = Server::start(service).await;
        let mut peer = server.connect().await;
        peer.send(head(&["CONNECT test:1 HTTP/1.0", field])).await;
        assert_eq!(peer.head().await.status, 200);
        if is_offered {
            drop(offered.io().await);
        } else {
            assert!(offered.is_empty(), "{field}");
        }
        peer.expect_end().await;
    }
}

/// This crate answers a CONNECT without an `OnUpgrade` itself.
#[tokio::test]
async fn http_1_0_connect_with_upgrade_header_is_answered_501() {
    for (field, status) in [("Host: test:1", 200), ("Upgrade: echo", 501)] {
        let layer = UpgradeLayer::new().connect(echo());
        let server = Server::start(layer.layer(service_fn(plain))).await;
        let mut peer = server.connect().await;
        peer.send(head(&["CONNECT test:1 HTTP/1.0", field])).await;
        assert_eq!(peer.head().await.status, status, "{field}");
    }
}

/// Manual: "A body that was not read becomes the new protocol". If hyper reads the body first,
/// `src/decide/mod.rs` need not read it.
#[tokio::test]
async fn unread_body_becomes_bytes_of_the_new_protocol_after_101() {
    let (service, mut offered) = answering(StatusCode::SWITCHING_PROTOCOLS);
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &["Content-Length: 18"])).await;
    peer.head().await.assert_upgraded("echo");
    let mut io = offered.io().await;
    peer.send(b"DELETE / HTTP/1.1\n").await;
    let mut heard = [0; 18];
    soon(io.read_exact(&mut heard)).await.expect("the body");
    assert_eq!(text(&heard), "DELETE / HTTP/1.1\n");
}

/// Manual: "A 2xx to CONNECT with a `Content-Length` is not sent".
#[tokio::test]
async fn content_length_on_2xx_to_connect_closes_connection_unanswered() {
    for length in ["0", "5"] {
        let (offer, mut offered) = tokio::sync::mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            offer.send(hyper::upgrade::on(request)).expect("a test");
            let mut response = Response::new(Full::<Bytes>::default());
            let length = HeaderValue::from_static(length);
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length);
            async { Ok::<_, Infallible>(response) }
        });
        let (io, mut peer) = sockets().await;
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
            .with_upgrades();
        let connection =
            Connection::serve(connection, http1::UpgradeableConnection::graceful_shutdown);
        peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
            .await;
        let ended = soon(connection.served).await.expect("no panic");
        let error = ended.expect_err("an error of the service");
        let error = error.downcast::<hyper::Error>().expect("hyper's error");
        assert!(error.is_user(), "{error:?}");
        let upgrade = soon(offered.recv()).await.expect("an upgrade");
        let error = soon(upgrade).await.expect_err("no connection");
        assert!(error.is_canceled(), "{error:?}");
        peer.expect_end().await;
    }
}

/// Manual: "Only one clone of `OnUpgrade` works". If the second clone yields an error instead, remove the
/// `catch_unwind` in `src/session/held.rs`.
#[tokio::test]
async fn polling_a_clone_of_a_used_upgrade_panics() {
    let (service, mut offered) = answering(StatusCode::SWITCHING_PROTOCOLS);
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let upgrade = offered.next().await;
    let clone = upgrade.clone();
    let _io = soon(upgrade).await.expect("an upgrade");
    let polled = tokio::spawn(clone);
    let error = soon(polled).await.expect_err("a panic");
    assert!(error.is_panic());
}

/// Manual: "After a rejection hyper ends the connection without a shutdown". If hyper shuts down the connection,
/// remove `Drop for HeldUpgrade` in `src/session/held.rs`.
#[tokio::test]
async fn hyper_sends_no_close_notify_after_refused_upgrade() {
    for (request, has_close_notify) in [
        (
            head(&["GET / HTTP/1.1", "Host: test", "Connection: close"]),
            true,
        ),
        (offer("echo", &["Connection: close"]), false),
    ] {
        let service = service_fn(|_request: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(String::from("not you")))
        });
        let tls = Tls::new();
        let acceptor = tls.acceptor.clone();
        let server = Server::start_with(crate::support::Via::Http1, service, move |io| {
            acceptor.accept(io)
        });
        let server = server.await;
        let mut peer = tls.connect(server.connect().await).await;
        peer.send(&request).await;
        assert_eq!(peer.response().await.1, "not you");
        match peer.rest().await {
            Ok(rest) => assert!(rest.is_empty() && has_close_notify, "{request}"),
            Err(error) => assert!(
                error.kind() == io::ErrorKind::UnexpectedEof && !has_close_notify,
                "{request}: {error}"
            ),
        }
    }
}

/// Manual: "A client's unsent body is lost at the upgrade". If hyper sends the whole body first,
/// remove the advice in `client::Request::body`.
#[tokio::test]
async fn hyper_client_loses_the_unsent_part_of_a_body() {
    let (io, server) = tokio::io::duplex(1024);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .expect("a connection");
    tokio::spawn(connection.with_upgrades());
    let body = "x".repeat(64 * 1024);
    let request = Request::post("/")
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Full::<Bytes>::from(body.clone()))
        .expect("a request");
    let response = tokio::spawn(sender.send_request(request));
    let mut peer = Peer::new(server);
    peer.request_head().await;
    peer.send("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    let response = soon(response).await.expect("no panic").expect("a response");
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.expect("a connection"));
    let writing = async move { io.write_all(b"after").await };
    let (written, rest) = tokio::join!(writing, peer.rest());
    written.expect("a live connection");
    let rest = text(&rest.expect("an end"));
    assert!(rest.ends_with("xafter"), "{rest}");
    assert!(rest.len() < body.len());
}

/// An IO with one upgrade request, whose flush is pending until `is_open`.
#[derive(Clone)]
struct Scripted {
    request: &'static [u8],
    is_open: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl tokio::io::AsyncRead for Scripted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        if self.request.is_empty() {
            return std::task::Poll::Pending;
        }
        buf.put_slice(std::mem::take(&mut self.request));
        std::task::Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Scripted {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::task::Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        match self.is_open.load(std::sync::atomic::Ordering::SeqCst) {
            true => std::task::Poll::Ready(Ok(())),
            false => std::task::Poll::Pending,
        }
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// Manual: "An `OnUpgrade` has no constructor". `src/govern/mint.rs` depends on each step: one poll reads the request,
/// calls the service and writes the 101; the `OnUpgrade` is pending until the flush completes, and ready in that poll.
/// If hyper has a constructor, use that instead.
#[tokio::test]
async fn on_upgrade_resolves_in_the_poll_that_completes_the_flush() {
    use futures_util::FutureExt as _;
    let io = Scripted {
        request: b"GET / HTTP/1.1\r\nconnection:upgrade\r\nupgrade:x\r\n\r\n",
        is_open: std::sync::Arc::default(),
    };
    let is_open = std::sync::Arc::clone(&io.is_open);
    let (service, mut offered) = answering(StatusCode::SWITCHING_PROTOCOLS);
    let service = TowerToHyperService::new(service);
    let mut connection = http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    assert!((&mut connection).now_or_never().is_none());
    let mut upgrade = offered.next().await;
    assert!((&mut upgrade).now_or_never().is_none());
    is_open.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!((&mut connection).now_or_never().expect("complete").is_ok());
    let upgraded = upgrade.now_or_never().expect("resolved").expect("an IO");
    assert!(upgraded.downcast::<TokioIo<Scripted>>().is_ok());
}
