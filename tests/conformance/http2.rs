//! C on HTTP/2, and E: extended CONNECT (RFC 8441, RFC 9113 §8.5).

use crate::server::Refuse;
use crate::support::{
    Peer, Server, Via,
    clients::Scripted,
    frames,
    h2::{Answer, Client, connect, extended_connect},
    handlers::{Counted, echo, run_echo},
    offer, plain, soon, text, until,
    websocket::{Frame, TEXT},
};
use h2::Reason;
use http::{HeaderValue, Response, StatusCode, header};
use hyper_util::client::legacy::connect::HttpConnector;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, Unsupported, UpgradeKind, UpgradeLayer,
    UpgradeRequest, client, handler_fn, tunnel::ReverseProxy,
};

async fn start(layer: UpgradeLayer) -> (Server, Client) {
    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let client = Client::connect(server.connect().await).await;
    (server, client)
}

async fn ask(client: &mut Client, protocol: &str) -> Answer {
    let request = extended_connect(protocol).body(()).expect("a request");
    client.ask(request).await
}

async fn ask_connect(client: &mut Client, authority: &str) -> Answer {
    let request = connect(authority).body(()).expect("a request");
    client.ask(request).await
}

#[tokio::test]
async fn c1_target_is_checked_on_http2() {
    let tunnel = Counted::default();
    let (_server, mut client) = start(UpgradeLayer::new().connect(tunnel.clone())).await;
    for target in [
        "example.com",
        "example.com:0",
        "ann@example.com:1",
        "[::1]x:1",
    ] {
        let (status, body) = ask_connect(&mut client, target).await.refused().await;
        assert_eq!(status, 400, "{target}: {body}");
    }
    assert_eq!(tunnel.accepted(), 0);
    ask_connect(&mut client, "example.com:1")
        .await
        .expect_upgraded();
}

#[tokio::test]
async fn c2_e2_success_is_200_without_framing() {
    let layer = UpgradeLayer::new().protocol("echo", echo()).connect(echo());
    let (_server, mut client) = start(layer).await;
    for answer in [
        ask(&mut client, "echo").await,
        ask_connect(&mut client, "test:1").await,
    ] {
        let mut peer = answer.expect_upgraded();
        peer.expect_echo(b"hello").await;
        peer.finish().await;
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn c2_e2_outer_layer_cannot_break_the_upgrade_response() {
    let service = tower::ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::OK;
            for (name, value) in [
                (header::CONTENT_LENGTH, "7"),
                (header::TRANSFER_ENCODING, "chunked"),
                (header::UPGRADE, "lie"),
                (header::CONNECTION, "upgrade"),
            ] {
                let headers = response.headers_mut();
                headers.insert(name, HeaderValue::from_static(value));
            }
            let kept = HeaderValue::from_static("yes");
            response.headers_mut().insert("x-kept", kept);
            response.map(|_| String::from("a body"))
        })
        .layer(UpgradeLayer::new().protocol("echo", echo()).connect(echo()))
        .service(service_fn(plain));
    let server = Server::start_via(Via::Http2, service).await;
    let mut client = Client::connect(server.connect().await).await;
    for answer in [
        ask(&mut client, "echo").await,
        ask_connect(&mut client, "test:1").await,
    ] {
        assert_eq!(answer.head.headers()["x-kept"], "yes");
        let mut peer = answer.expect_upgraded();
        peer.expect_echo(b"the first byte is the tunnel's").await;
    }
}

#[tokio::test]
async fn c4_e3_unsupported_request_is_a_501() {
    let default = UpgradeLayer::new().protocol("echo", echo());
    let refuse = default.clone().unsupported(Unsupported::Refuse);
    let leaf = UpgradeLayer::new().protocol("echo", echo()).into_service();
    for layer in [default, refuse] {
        let (_server, mut client) = start(layer).await;
        assert_not_implemented(&mut client).await;
        assert_eq!(client.get_text("/x").await, "plain GET /x");
    }
    let server = Server::start_via(Via::Http2, leaf).await;
    let mut client = Client::connect(server.connect().await).await;
    assert_not_implemented(&mut client).await;

    let unwilling = UpgradeLayer::new().connect(echo().when(|_parts| false));
    let server = Server::start_via(Via::Http2, unwilling.into_service()).await;
    let mut client = Client::connect(server.connect().await).await;
    let (status, _) = ask_connect(&mut client, "test:1").await.refused().await;
    assert_eq!(status, 501);
}

async fn assert_not_implemented(client: &mut Client) {
    for protocol in ["other", "echo, other", "echo/", "\"echo\""] {
        let answer = ask(client, protocol).await;
        assert_eq!(answer.head.headers().get(header::UPGRADE), None);
        let (status, body) = answer.refused().await;
        assert_eq!(
            (status, body.as_str()),
            (501, "this protocol is not supported")
        );
    }
    let (status, body) = ask_connect(client, "test:1").await.refused().await;
    assert_eq!((status, body.as_str()), (501, "CONNECT is not supported"));
}

#[tokio::test]
async fn e3_connect_layer_passes_extended_connect_to_inner_layers() {
    let service = tower::ServiceBuilder::new()
        .layer(UpgradeLayer::new().connect(echo()))
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .service(service_fn(plain));
    let server = Server::start_via(Via::Http2, service).await;
    let mut client = Client::connect(server.connect().await).await;
    ask(&mut client, "echo").await.expect_upgraded();
    assert_eq!(ask(&mut client, "other").await.refused().await.0, 501);
    ask_connect(&mut client, "test:1").await.expect_upgraded();
}

#[tokio::test]
async fn c4_e3_unsupported_request_passes_if_configured() {
    let pass = UpgradeLayer::new()
        .protocol("echo", echo())
        .unsupported(Unsupported::Pass);
    let inner = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let mut response = Response::new(format!("inner {}", request.uri()));
        *response.status_mut() = StatusCode::NOT_FOUND;
        Ok::<_, std::convert::Infallible>(response)
    });
    let unwilling = UpgradeLayer::new()
        .protocol("other", echo().when(|_parts| false))
        .connect(echo().when(|_parts| false));
    for layer in [pass, UpgradeLayer::new(), unwilling] {
        let server = Server::start_via(Via::Http2, layer.layer(inner)).await;
        let mut client = Client::connect(server.connect().await).await;
        let refused = ask(&mut client, "other").await.refused().await;
        assert_eq!(refused, (404, "inner http://test/path?query".into()));
        let refused = ask_connect(&mut client, "test:1").await.refused().await;
        assert_eq!(refused, (404, "inner test:1".into()));
    }
}

#[tokio::test]
async fn c7_other_streams_continue_beside_a_tunnel() {
    let layer = UpgradeLayer::new().connect(echo().when(|parts| parts.uri.port_u16() == Some(1)));
    let (_server, mut client) = start(layer.connect(Refuse)).await;
    let mut first = ask_connect(&mut client, "test:1").await.expect_upgraded();
    let refused = ask_connect(&mut client, "test:2").await.refused().await;
    assert_eq!(refused, (403, "not you".into()));
    let mut second = ask_connect(&mut client, "test:1").await.expect_upgraded();
    first.expect_echo(b"first").await;
    first.finish().await;
    first.expect_end().await;
    assert_eq!(client.get_text("/x").await, "plain GET /x");
    second.expect_echo(b"second").await;
}

/// Responds with the chosen protocol and the parts of the request.
struct Tell;

impl ProtocolHandler for Tell {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        assert_eq!(request.kind(), UpgradeKind::ExtendedConnect);
        let protocol = request.protocol().cloned().expect("it has one");
        assert!(request.offered().eq([protocol]));
        assert_eq!(request.uri(), "http://test/path?query");
        assert_eq!(request.authority()?, "test");
        assert_eq!(request.port(), None);
        Ok(Accept::new(|mut session: Session| async move {
            assert_eq!(session.kind(), UpgradeKind::ExtendedConnect);
            let protocol = session.protocol().cloned().expect("it has one");
            session
                .io_mut()
                .write_all(protocol.as_str().as_bytes())
                .await?;
            Ok(())
        }))
    }
}

#[tokio::test]
async fn e1_name_ignores_case_and_version_matches_exactly() {
    let layer = UpgradeLayer::new()
        .protocol("any", Tell)
        .protocol("one/1", Tell);
    let (_server, mut client) = start(layer).await;
    for protocol in ["any", "ANY", "any/7", "One/1"] {
        let mut peer = ask(&mut client, protocol).await.expect_upgraded();
        assert_eq!(text(&peer.rest().await.expect("a name")), protocol);
    }
    for protocol in ["one", "one/2", "one/1.0", "any/", "anyone"] {
        assert_eq!(ask(&mut client, protocol).await.refused().await.0, 501);
    }
}

#[tokio::test]
async fn e4_upgrade_or_connection_header_resets_the_stream() {
    let handler = Counted::default();
    let layer = UpgradeLayer::new().protocol("echo", handler.clone());
    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let mut client = frames::Connection::connect(server.connect().await).await;
    for name in ["upgrade", "connection"] {
        let stream = client
            .request(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "test"),
                (":path", "/"),
                (name, "echo"),
            ])
            .await;
        let reset = client.frame_of(stream).await;
        assert_eq!(reset.kind, frames::RST_STREAM, "{name}");
        assert_eq!(
            reset.payload,
            u32::from(Reason::PROTOCOL_ERROR).to_be_bytes()
        );
    }
    // A well-formed request on the same connection gets a response.
    let stream = client
        .request(&[
            (":method", "CONNECT"),
            (":protocol", "echo"),
            (":scheme", "http"),
            (":authority", "test"),
            (":path", "/"),
        ])
        .await;
    assert_eq!(client.frame_of(stream).await.kind, frames::HEADERS);
    assert_eq!(handler.accepted(), 1);
}

#[tokio::test]
async fn e5_end_of_stream_of_the_peer_is_eof() {
    let listens = handler_fn(|mut session: Session| async move {
        let mut heard = Vec::new();
        session.io_mut().read_to_end(&mut heard).await?;
        // The other direction is still open.
        session.io_mut().write_all(&heard).await?;
        session.io_mut().write_all(b", and that is all").await?;
        Ok(())
    });
    let (_server, mut client) = start(UpgradeLayer::new().protocol("listen", listens)).await;
    let mut peer = ask(&mut client, "listen").await.expect_upgraded();
    peer.send(b"one").await;
    peer.send(b", two").await;
    peer.finish().await;
    let heard = peer.rest().await.expect("an end in order");
    assert_eq!(text(&heard), "one, two, and that is all");
}

#[tokio::test]
async fn e5_shutdown_of_the_handler_ends_the_stream() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let says_first = handler_fn({
        let heard = Arc::clone(&heard);
        move |mut session: Session| {
            let heard = Arc::clone(&heard);
            async move {
                session.io_mut().write_all(b"over to you").await?;
                session.io_mut().shutdown().await?;
                let mut text = Vec::new();
                session.io_mut().read_to_end(&mut text).await?;
                *heard.lock().expect("no panic") = text;
                Ok(())
            }
        }
    });
    let (_server, mut client) = start(UpgradeLayer::new().protocol("first", says_first)).await;
    let mut peer = ask(&mut client, "first").await.expect_upgraded();
    assert_eq!(peer.rest().await.expect("an end in order"), b"over to you");
    peer.send(b"thank you").await;
    peer.finish().await;
    until(|| *heard.lock().expect("no panic") == b"thank you").await;
}

#[tokio::test]
async fn e5_reset_is_an_error_except_two_codes() {
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let listens = handler_fn(move |mut session: Session| {
        let ends = ends.clone();
        async move {
            let end = session
                .io_mut()
                .read_u8()
                .await
                .map_err(|error| error.kind());
            ends.send(end).expect("the test listens");
            Ok(())
        }
    });
    let (_server, mut client) = start(UpgradeLayer::new().protocol("listen", listens)).await;
    for (reason, is_eof) in [
        (Reason::CANCEL, true),
        (Reason::NO_ERROR, true),
        (Reason::INTERNAL_ERROR, false),
        (Reason::CONNECT_ERROR, false),
        (Reason::STREAM_CLOSED, false),
        (Reason::ENHANCE_YOUR_CALM, false),
    ] {
        let mut peer = ask(&mut client, "listen").await.expect_upgraded();
        peer.io.send.send_reset(reason);
        let end = soon(ended.recv()).await.expect("an end");
        let error = end.expect_err("nothing was sent");
        let eof = error == std::io::ErrorKind::UnexpectedEof;
        assert_eq!(eof, is_eof, "{reason:?}: {error:?}");
    }
}

/// The same handler value on both versions, behind one `auto` connection.
#[tokio::test]
async fn e6_handler_serves_upgrade_connect_and_extended_connect() {
    let handler = Counted::default();
    let layer = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .connect(Arc::new(handler.clone()));
    let server = Server::start_via(Via::Auto, layer.layer(service_fn(plain))).await;

    let mut http1 = server.connect().await;
    http1.send(offer("echo", &[])).await;
    http1.head().await.assert_upgraded("echo");
    let mut http1_connect = server.connect().await;
    http1_connect
        .send(b"CONNECT test:1 HTTP/1.1\r\nHost: test:1\r\n\r\n")
        .await;
    assert_eq!(http1_connect.head().await.status, 200);
    let mut client = Client::connect(server.connect().await).await;
    let mut http2 = ask(&mut client, "echo").await.expect_upgraded();
    let mut http2_connect = ask_connect(&mut client, "test:1").await.expect_upgraded();

    talk(&mut http1).await;
    talk(&mut http1_connect).await;
    talk(&mut http2).await;
    talk(&mut http2_connect).await;
    assert_eq!(handler.started(), 4);
}

async fn talk<Io>(peer: &mut Peer<Io>)
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    peer.expect_echo(b"hello").await;
    peer.finish().await;
    peer.expect_end().await;
}

#[tokio::test]
async fn s1_panic_leaves_other_streams_open() {
    let panics = handler_fn(|mut session: Session| async move {
        session.io_mut().read_u8().await?;
        panic!("on purpose");
    });
    let layer = UpgradeLayer::new()
        .protocol("panic", panics)
        .protocol("echo", handler_fn(run_echo));
    let (_server, mut client) = start(layer).await;
    let mut other = ask(&mut client, "echo").await.expect_upgraded();
    let mut peer = ask(&mut client, "panic").await.expect_upgraded();
    peer.send(b"!").await;
    peer.expect_end().await;
    other.expect_echo(b"still here").await;
    ask(&mut client, "echo").await.expect_upgraded();
}

/// A backend that compares `:protocol` with the bytes `websocket`, as others do.
async fn axum_ws() -> Server {
    use axum::{Router, extract::ws::WebSocketUpgrade, routing::any};
    let app = Router::new().route(
        "/",
        any(|upgrade: WebSocketUpgrade| async move {
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(message)) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
            })
        }),
    );
    Server::start_via(Via::Http2, app).await
}

fn http2_client(server: &Server) -> client::Dial<HttpConnector> {
    let uri = format!("http://{}", server.address).parse().expect("a URI");
    client::Dial::new(HttpConnector::new())
        .destination(uri)
        .http2_only()
}

#[tokio::test]
async fn e7_websocket_is_written_in_lower_case_to_http_2() {
    let backend = axum_ws().await;
    for name in ["websocket", "WebSocket", "WEBSOCKET"] {
        let request = client::Request::get("/".parse().expect("a path"))
            .protocol(name)
            .header("sec-websocket-version", HeaderValue::from_static("13"));
        let client = client::UpgradeLayer::new().layer(http2_client(&backend));
        let session = soon(client.oneshot(request)).await;
        let session = session.expect("a session");
        assert_eq!(session.protocol().expect("a protocol").as_str(), name);
        let mut peer = Peer::new(session.into_io());
        let frame = Frame::new(TEXT, "hello");
        peer.send(frame.masked()).await;
        assert_eq!(soon(Frame::read(&mut peer)).await, frame);
    }
}

#[tokio::test]
async fn e7_reverse_proxy_keeps_the_clients_spelling() {
    let backend = axum_ws().await;
    let proxy = ReverseProxy::new(http2_client(&backend));
    let layer = UpgradeLayer::new().any_protocol(proxy);
    let front = Server::start(layer.layer(service_fn(plain))).await;
    for name in ["websocket", "WebSocket", "WEBSOCKET"] {
        let mut peer = front.connect().await;
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let request = offer(name, &[key, "Sec-WebSocket-Version: 13"]);
        peer.send(request).await;
        let head = peer.head().await;
        head.assert_upgraded(name);
        let accept = head.get("sec-websocket-accept");
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let frame = Frame::new(TEXT, "hello");
        peer.send(frame.masked()).await;
        assert_eq!(soon(Frame::read(&mut peer)).await, frame);
    }
}

/// Between HTTP/1.1 connections a name keeps its spelling, and the response repeats the offered spelling (U4).
#[tokio::test]
async fn e7_name_keeps_its_spelling_over_http1() {
    let backend = Scripted::start().await;
    let dial = client::Dial::new(HttpConnector::new()).destination(backend.uri(""));
    let proxy = ReverseProxy::new(dial);
    let layer = UpgradeLayer::new().any_protocol(proxy);
    let front = Server::start(layer.layer(service_fn(plain))).await;
    for (name, key) in [
        ("WebSocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("Chat/2", "X: y"),
    ] {
        let mut peer = front.connect().await;
        peer.send(offer(name, &[key])).await;
        let mut at_backend = backend.accept().await;
        let head = at_backend.request_head().await;
        assert!(head.contains(&format!("\r\nupgrade: {name}\r\n")), "{head}");
        let chosen = name.to_ascii_lowercase();
        let answer = format!(
            "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: {chosen}\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
        at_backend.send(answer).await;
        peer.head().await.assert_upgraded(name);
    }
}
