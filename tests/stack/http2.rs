//! HTTP/2: how hyper and h2 handle a CONNECT and its stream.

use crate::connection::{Connection, answering, http2, sockets};
use crate::support::{
    Peer, Server, Via, frames,
    h2::{Answer, Client, connect, extended_connect},
    handlers::{Counted, echo},
    offer, plain, soon,
};
use axum::{Router, routing::get};
use bytes::Bytes;
use h2::Reason;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http2 as hyper_http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Session, UpgradeLayer, handler_fn};

pub(crate) async fn ask(client: &mut Client, protocol: &str) -> Answer {
    let request = extended_connect(protocol).body(()).expect("a request");
    client.ask(request).await
}

/// Sends a GET and waits for its response: by then the server has handled all earlier frames.
pub(crate) async fn round_trip<Io>(client: &mut frames::Connection<Io>)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let stream = client
        .request(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "test"),
            (":path", "/"),
        ])
        .await;
    assert_eq!(client.frame_of(stream).await.kind, frames::HEADERS);
}

/// Manual: "A CONNECT with a `Content-Length` ends the whole connection". If hyper resets only the stream, say
/// so in that section.
#[tokio::test]
async fn connect_with_content_length_ends_connection_and_all_its_sessions() {
    let handler = Counted::default();
    let layer = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .connect(handler.clone());
    for request in [extended_connect("echo"), connect("test:1")] {
        let (connection, peer) = http2(layer.layer(service_fn(plain))).await;
        let mut client = Client::connect(peer).await;
        let mut other = ask(&mut client, "echo").await.expect_upgraded();
        other.expect_echo(b"as yet").await;
        let before = handler.accepted();

        // A `Content-Length` of 0 is accepted.
        let nothing = extended_connect("echo").header(header::CONTENT_LENGTH, 0);
        let nothing = nothing.body(()).expect("a request");
        client.ask(nothing).await.expect_upgraded();
        assert_eq!(handler.accepted(), before + 1);

        let bad = request.header(header::CONTENT_LENGTH, 5);
        let (response, _send) = client.send(bad.body(()).expect("a request")).await;
        soon(response).await.expect_err("no response");
        let ended = soon(connection.served).await.expect("no panic");
        ended.expect("hyper reports no error");
        let error = other.rest().await.expect_err("the other session");
        let error = error.into_inner().expect("an error of h2");
        let error = error.downcast::<h2::Error>().expect("an error of h2");
        assert!(error.is_io(), "{error:?}");
        assert_eq!(handler.accepted(), before + 1);
    }
}

/// Manual: "A 2xx to CONNECT with a `Content-Length` is not sent".
#[tokio::test]
async fn http2_2xx_to_connect_with_content_length_resets_stream() {
    for (length, reset) in [(None, false), (Some("0"), false), (Some("5"), true)] {
        let service = service_fn(move |request: Request<Incoming>| {
            tokio::spawn(async {
                let mut io = TokioIo::new(hyper::upgrade::on(request).await.expect("a stream"));
                io.write_all(b"the tunnel's")
                    .await
                    .expect("an open session");
            });
            let mut response = Response::new(Full::<Bytes>::from("hello"));
            if let Some(length) = length {
                let length = HeaderValue::from_static(length);
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, length);
            }
            async { Ok::<_, Infallible>(response) }
        });
        let (_connection, peer) = http2(service).await;
        let mut client = Client::connect(peer).await;
        if reset {
            let request = connect("test:1").body(()).expect("a request");
            let (response, _send) = client.send(request).await;
            let error = soon(response).await.expect_err("a reset");
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        } else {
            let request = connect("test:1").body(()).expect("a request");
            let mut peer = client.ask(request).await.expect_upgraded();
            assert_eq!(peer.rest().await.expect("an end"), b"the tunnel's");
        }
    }
}

/// Manual: "A reset can look like an end". Rule E5 in `tests/conformance/http2.rs` tests the same through this
/// crate: change both together.
#[tokio::test]
async fn reset_with_cancel_or_no_error_reads_as_eof() {
    for (reason, is_eof) in [
        (Reason::CANCEL, true),
        (Reason::NO_ERROR, true),
        (Reason::INTERNAL_ERROR, false),
        (Reason::STREAM_CLOSED, false),
    ] {
        let (service, mut offered) = answering(StatusCode::OK);
        let (_connection, peer) = http2(service).await;
        let mut client = frames::Connection::connect(peer).await;
        let stream = client.request(&EXTENDED_CONNECT).await;
        let mut io = offered.io().await;
        client.send(frames::DATA, 0, stream, b"half a sent").await;
        let reset = u32::from(reason).to_be_bytes();
        client.send(frames::RST_STREAM, 0, stream, &reset).await;
        // By the response to this request, the server has handled the reset.
        round_trip(&mut client).await;

        let mut heard = Vec::new();
        let end = soon(io.read_to_end(&mut heard)).await;
        assert_eq!(end.is_ok(), is_eof, "{reason:?}: {end:?}");
        assert_eq!(heard, b"half a sent", "{reason:?}");
        // Writes fail after any reset.
        let error = io.write_all(b"answer").await.expect_err("a reset stream");
        assert_eq!(error.kind(), io::ErrorKind::Other, "{reason:?}");
    }
}

/// Manual: "A connection that breaks is an error". On HTTP/1.1 the session reads EOF.
#[tokio::test]
async fn closed_socket_is_a_read_error_in_an_http2_session() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let listens = handler_fn(move |session: Session| {
        let ends = ends.clone();
        async move {
            let mut heard = Vec::new();
            let end = session.into_io().read_to_end(&mut heard).await;
            let _ = ends.send(end.map_err(|error| error.kind()));
            Ok(())
        }
    });
    let layer = UpgradeLayer::new().protocol("listen", listens);
    let server = Server::start_via(Via::Auto, layer.layer(service_fn(plain))).await;
    let mut http1 = server.connect().await;
    http1.send(offer("listen", &[])).await;
    http1.head().await.assert_upgraded("listen");
    drop(http1);
    assert_eq!(soon(ended.recv()).await, Some(Ok(0)));

    let mut http2 = frames::Connection::connect(server.connect().await).await;
    let stream = http2.request(&EXTENDED_CONNECT).await;
    assert_eq!(http2.frame_of(stream).await.kind, frames::HEADERS);
    drop(http2);
    let end = soon(ended.recv()).await.expect("an end");
    assert_eq!(end, Err(io::ErrorKind::BrokenPipe));
}

pub(crate) const EXTENDED_CONNECT: [(&str, &str); 5] = [
    (":method", "CONNECT"),
    (":protocol", "listen"),
    (":scheme", "http"),
    (":authority", "test"),
    (":path", "/"),
];

/// Manual: "Extended CONNECT has to be enabled".
#[tokio::test]
async fn extended_connect_is_reset_if_not_enabled() {
    let handler = Counted::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let layer = UpgradeLayer::new().protocol("listen", handler.clone());
    let inner = service_fn({
        let asked = Arc::clone(&asked);
        move |request: Request<Incoming>| {
            asked.fetch_add(1, Ordering::SeqCst);
            plain(request)
        }
    });
    let (io, peer) = sockets().await;
    let service = TowerToHyperService::new(layer.layer(inner));
    let connection =
        hyper_http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service);
    let _connection = Connection::serve(connection, hyper_http2::Connection::graceful_shutdown);
    let mut client = frames::Connection::connect(peer).await;
    let stream = client.request(&EXTENDED_CONNECT).await;
    let reset = client.frame_of(stream).await;
    assert_eq!(reset.kind, frames::RST_STREAM);
    assert_eq!(
        reset.payload,
        u32::from(Reason::PROTOCOL_ERROR).to_be_bytes()
    );
    assert_eq!(handler.accepted(), 0);
    // The reset affects only that stream.
    round_trip(&mut client).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Manual: "Extended CONNECT has to be enabled". `axum::serve` does so with axum's feature `http2`.
#[tokio::test]
async fn axum_serve_enables_extended_connect() {
    let app = Router::new()
        .route("/", get(|| async { "index" }))
        .layer(UpgradeLayer::new().protocol("echo", echo()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let peer = Peer::new(TcpStream::connect(address).await.expect("loopback"));
    // `connect` waits for the setting that enables extended CONNECT.
    let mut client = Client::connect(peer).await;
    let mut peer = ask(&mut client, "echo").await.expect_upgraded();
    peer.expect_echo(b"hello").await;
    serving.abort();
}

/// Manual: "A session on HTTP/2 has no `TcpStream`".
#[tokio::test]
async fn http2_session_does_not_downcast_to_tcp_stream() {
    let downcasts = handler_fn(|session: Session| async move {
        let (text, mut io) = match session.into_io().downcast::<TcpStream>() {
            Ok(parts) => ("a socket", tower_upgrade::Upgraded::from_parts(parts)),
            Err(upgraded) => ("no socket", upgraded),
        };
        io.write_all(text.as_bytes()).await?;
        io.shutdown().await?;
        Ok(())
    });
    let layer = UpgradeLayer::new().protocol("cast", downcasts);
    let server = Server::start_via(Via::Auto, layer.layer(service_fn(plain))).await;
    let mut http1 = server.connect().await;
    http1.send(offer("cast", &[])).await;
    http1.head().await.assert_upgraded("cast");
    assert_eq!(http1.rest().await.expect("an end"), b"a socket");
    let mut client = Client::connect(server.connect().await).await;
    let mut http2 = ask(&mut client, "cast").await.expect_upgraded();
    assert_eq!(http2.rest().await.expect("an end"), b"no socket");
}
