//! The gate for CONNECT and extended CONNECT: the rows of `matrix.rs`, with 200 as the upgrade response.

use crate::{
    matrix::{Handler, Row, cases, stack},
    support::{
        Peer, Server, Via,
        h2::{Client, connect, extended_connect},
        handlers::echo,
        head, plain, until,
    },
};
use h2::Reason;
use http::{Request, Response, StatusCode, request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest};

/// Returns the rows that change the status to something other than 200, the upgrade response to a CONNECT.
fn refusals() -> impl Iterator<Item = (&'static Row, bool)> {
    cases().filter(|(row, _)| row.status != 200)
}

/// Returns an extended CONNECT and a plain CONNECT with the header lines that make the row's layer act.
fn requests(row: &Row) -> [Request<()>; 2] {
    [extended_connect("echo"), connect("test:1")].map(|request| {
        let with_line = |request: request::Builder, line: &&str| {
            let (name, value) = line.split_once(": ").expect("a field");
            request.header(name, value)
        };
        let request = row.lines.iter().fold(request, with_line);
        request.body(()).expect("a request")
    })
}

#[tokio::test]
async fn connect_with_replaced_response_starts_no_session_and_closes_connection() {
    for via in [Via::Http1, Via::Auto] {
        for (row, around) in refusals() {
            let handler = Handler::new(row.undecided);
            let server = Server::start_via(via, stack(row, around, &handler)).await;
            let mut peer = server.connect().await;
            let request = ["CONNECT test:1 HTTP/1.1", "Host: test:1"];
            peer.send(head(&[&request, row.lines].concat()) + "bytes for the tunnel")
                .await;
            let refusal = peer.head().await;
            assert_eq!(refusal.status, row.status, "{}", row.name);
            assert_eq!(refusal.get("handshake"), None, "{}", row.name);
            // The outermost `UpgradeLayer` does not see a response that a layer around it makes.
            if !(around && (row.undecided || !row.reaches_handler)) {
                let connection = refusal.get("connection");
                assert_eq!(connection.as_deref(), Some("close"), "{}", row.name);
                peer.rest().await.expect("an orderly end");
            }
            assert_eq!(handler.held(), 0, "{}", row.name);
            drop(peer);
            server.connections_ended().await;
            assert_eq!(handler.started(), 0, "{}", row.name);
        }
    }
}

#[tokio::test]
async fn http2_stream_with_replaced_response_starts_no_session_and_is_reset() {
    for (row, around) in refusals() {
        let handler = Handler::new(row.undecided);
        let server = Server::start_via(Via::Http2, stack(row, around, &handler)).await;
        let mut client = Client::connect(server.connect().await).await;
        for request in requests(row) {
            let mut answer = client.ask(request).await;
            assert_eq!(answer.head.status(), row.status, "{}", row.name);
            assert_eq!(answer.head.headers().get("handshake"), None, "{}", row.name);
            assert_eq!(
                handler.held(),
                0,
                "{}: not dropped before the response",
                row.name
            );
            let reset = answer.peer.io.reset().await;
            assert!(
                matches!(reset, Reason::NO_ERROR | Reason::CANCEL),
                "{reset:?}"
            );
        }
        // The connection still serves requests.
        client.get_text("/x").await;
        assert_eq!((handler.started(), handler.held()), (0, 0), "{}", row.name);
    }
}

#[tokio::test]
async fn stream_reset_before_decision_cancels_handler() {
    let row = cases().find(|(row, _)| !row.undecided).expect("a row").0;
    let handler = Handler::new(true);
    let stays_undecided = Row {
        undecided: true,
        wrap: |inner| inner,
        ..*row
    };
    let stack = stack(&stays_undecided, false, &handler);
    let server = Server::start_via(Via::Http2, stack).await;
    let mut client = Client::connect(server.connect().await).await;
    for (before, request) in requests(&stays_undecided).into_iter().enumerate() {
        let (_response, mut stream) = client.send(request).await;
        until(|| handler.asked() > before).await;
        assert_eq!(handler.held(), 1);
        stream.send_reset(Reason::CANCEL);
        until(|| handler.held() == 0).await;
    }
    assert_eq!(client.get_text("/x").await, "plain GET /x");
    assert_eq!(handler.started(), 0);
}

#[tokio::test]
async fn connection_lost_before_decision_cancels_handler() {
    let handler = Handler::new(true);
    let layer = UpgradeLayer::new().protocol("echo", Arc::new(handler.clone()));
    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = extended_connect("echo").body(()).expect("a request");
    let pending = client.send(request).await;
    until(|| handler.asked() == 1).await;
    drop((pending, client));
    until(|| handler.held() == 0).await;
    assert_eq!(handler.started(), 0);
}

/// hyper and the client take any 2xx to a CONNECT for the upgrade response.
#[tokio::test]
async fn connect_answered_with_other_2xx_starts_session() {
    let layer = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        })
        .layer(UpgradeLayer::new().protocol("echo", echo()).connect(echo()))
        .service(service_fn(plain));
    let server = Server::start_via(Via::Auto, layer).await;
    let mut peer = server.connect().await;
    peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
        .await;
    assert_eq!(peer.head().await.status, 202);
    peer.expect_echo(b"hello").await;

    let mut client = Client::connect(server.connect().await).await;
    for request in [extended_connect("echo"), connect("test:1")] {
        let mut answer = client.ask(request.body(()).expect("a request")).await;
        assert_eq!(answer.head.status(), 202);
        answer.peer.expect_echo(b"hello").await;
    }
}

/// Rule S8 on HTTP/2, where the layer itself holds the upgrade.
#[tokio::test]
async fn http2_2xx_without_its_session_becomes_501() {
    let handler = Handler::new(false);
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|response: Response<_>| {
            Response::builder()
                .status(response.status())
                .body(String::from("rebuilt"))
                .expect("a response")
        })
        .layer(UpgradeLayer::new().protocol("echo", Arc::new(handler.clone())))
        .service(service_fn(plain));
    let server = Server::start_via(Via::Http2, service).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = extended_connect("echo").body(()).expect("a request");
    let refused = client.ask(request).await.refused().await;
    assert_eq!(refused, (501, "the upgrade was lost on its way".into()));
    assert_eq!(
        (handler.asked(), handler.started(), handler.held()),
        (1, 0, 0)
    );
}

/// 101 is an upgrade response only to an `Upgrade` request, even if its extensions carry the session of a
/// CONNECT.
#[tokio::test]
async fn connect_answered_with_101_starts_no_session_and_becomes_501() {
    let handler = Handler::new(false);
    let decides = Arc::new(handler.clone());
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
        })
        .layer(
            UpgradeLayer::new()
                .protocol("echo", Arc::clone(&decides))
                .connect(decides),
        )
        .service(service_fn(plain));
    let server = Server::start_via(Via::Auto, service).await;
    let mut peer = server.connect().await;
    peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
        .await;
    let (refusal, body) = peer.response().await;
    assert_eq!(
        (refusal.status, body.as_str()),
        (501, "the upgrade was lost on its way")
    );
    peer.expect_end().await;

    let mut client = Client::connect(server.connect().await).await;
    for request in [extended_connect("echo"), connect("test:1")] {
        let answer = client.ask(request.body(()).expect("a request")).await;
        let refused = answer.refused().await;
        assert_eq!(refused, (501, "the upgrade was lost on its way".into()));
    }
    assert_eq!(
        (handler.asked(), handler.started(), handler.held()),
        (3, 0, 0)
    );
}

/// An HTTP/1.1 connection is read for a while longer before it is closed, so that unread bytes do not cause
/// a reset. An HTTP/2 stream does not need that: once the session has timed out, the stream ends together
/// with the late upgrade response.
#[tokio::test(start_paused = true)]
async fn stream_ends_at_once_after_handshake_timeout() {
    let handler = Handler::new(false);
    let registered = Arc::new(handler.clone());
    let decides = UpgradeLayer::new()
        .handshake_timeout(Duration::from_secs(1))
        .protocol("echo", Arc::clone(&registered))
        .connect(registered)
        .layer(service_fn(plain));
    let delays_response = service_fn(move |request: Request<Incoming>| {
        let decides = decides.clone();
        async move {
            let upgraded = tower::ServiceExt::oneshot(decides, request).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            upgraded
        }
    });
    let (peer, io) = tokio::io::duplex(64 * 1024);
    let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http2.enable_connect_protocol();
    let service = TowerToHyperService::new(delays_response);
    tokio::spawn(http2.serve_connection(TokioIo::new(io), service));

    let mut client = Client::connect(Peer::new(peer)).await;
    for request in [extended_connect("echo"), connect("test:1")] {
        let mut answer = client.ask(request.body(()).expect("a request")).await;
        assert_eq!((answer.head.status(), handler.held()), (StatusCode::OK, 0));
        let before = tokio::time::Instant::now();
        answer.peer.expect_end().await;
        assert_eq!(answer.peer.io.reset().await, Reason::NO_ERROR);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
    assert_eq!((handler.asked(), handler.started()), (2, 0));
}

/// Rule S9 on HTTP/2: hyper's `OnUpgrade` stays in the request for the inner service.
#[tokio::test]
async fn foreign_upgrader_works_over_http2() {
    let foreign = service_fn(|mut request: Request<Incoming>| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let io = TokioIo::new(upgrade.await.expect("an upgrade"));
            let (mut reader, mut writer) = tokio::io::split(io);
            let _ = tower_upgrade::copy(&mut reader, &mut writer).await;
        });
        std::future::ready(Ok::<_, Infallible>(Response::new(String::new())))
    });
    let server = Server::start_via(Via::Http2, UpgradeLayer::new().layer(foreign)).await;
    let mut client = Client::connect(server.connect().await).await;
    for request in [extended_connect("foreign"), connect("test:1")] {
        let answer = client.ask(request.body(()).expect("a request")).await;
        answer.expect_upgraded().expect_echo(b"hello").await;
    }
}

/// A retry layer inside the outermost layer sends a clone of a CONNECT; the outermost layer holds the upgrade.
#[tokio::test]
async fn connect_retried_by_inner_layer_commits_once() {
    struct AcceptsEverySecond(AtomicUsize);
    impl ProtocolHandler for AcceptsEverySecond {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            if self.0.fetch_add(1, Ordering::SeqCst) % 2 == 0 {
                return Err(StatusCode::SERVICE_UNAVAILABLE.into());
            }
            Ok(Accept::new(crate::support::handlers::run_echo))
        }
    }
    let decides = UpgradeLayer::new()
        .connect(AcceptsEverySecond(AtomicUsize::new(0)))
        .layer(service_fn(plain));
    let twice = service_fn(move |request: Request<Incoming>| {
        let decides = decides.clone();
        async move {
            let (parts, _body) = request.into_parts();
            let request = |parts| Request::from_parts(parts, String::new());
            let first = tower::ServiceExt::oneshot(decides.clone(), request(parts.clone())).await?;
            assert_eq!(first.status(), 503);
            tower::ServiceExt::oneshot(decides, request(parts)).await
        }
    });
    let server = Server::start_via(Via::Auto, UpgradeLayer::new().layer(twice)).await;
    let mut peer = server.connect().await;
    peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
        .await;
    assert_eq!(peer.head().await.status, 200);
    peer.expect_echo(b"hello").await;
    let mut client = Client::connect(server.connect().await).await;
    let request = connect("test:1").body(()).expect("a request");
    client
        .ask(request)
        .await
        .expect_upgraded()
        .expect_echo(b"hello")
        .await;
}

/// A server that puts no upgrade into the request's extensions can only refuse a CONNECT.
#[tokio::test]
async fn connect_without_upgrade_extension_is_answered_501() {
    let handler = Handler::new(false);
    let layer = UpgradeLayer::new().protocol("echo", Arc::new(handler.clone()));
    let layer = layer.connect(echo());
    for request in [extended_connect("echo"), connect("test:1")] {
        let mut request = request.body(String::new()).expect("a request");
        request
            .extensions_mut()
            .insert(hyper::ext::Protocol::from_static("echo"));
        let response = tower::ServiceExt::oneshot(layer.layer(service_fn(plain)), request).await;
        assert_eq!(response.expect("infallible").status(), 501);
    }
    assert_eq!(handler.asked(), 0);
}
