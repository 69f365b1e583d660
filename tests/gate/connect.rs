//! The gate for CONNECT and extended CONNECT: the rows of `matrix.rs`, where 200 is the switch.

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

/// Rows that do not make a success of it: to a CONNECT that is the switch.
fn refusals() -> impl Iterator<Item = (&'static Row, bool)> {
    cases().filter(|(row, _)| row.status != 200)
}

/// Both ways to ask on HTTP/2, with the lines that make the row's layer act.
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
async fn a_connect_whose_switch_was_lost_never_starts_and_closes() {
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
            // The outermost layer never sees a response that a layer around it makes.
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
async fn a_stream_whose_switch_was_lost_never_starts_and_is_cancelled() {
    for (row, around) in refusals() {
        let handler = Handler::new(row.undecided);
        let server = Server::start_via(Via::Http2, stack(row, around, &handler)).await;
        let mut client = Client::connect(server.connect().await).await;
        for request in requests(row) {
            let mut answer = client.ask(request).await;
            assert_eq!(answer.head.status(), row.status, "{}", row.name);
            assert_eq!(answer.head.headers().get("handshake"), None, "{}", row.name);
            assert_eq!(handler.held(), 0, "{}: dropped before it leaves", row.name);
            let reset = answer.peer.io.reset().await;
            assert!(
                matches!(reset, Reason::NO_ERROR | Reason::CANCEL),
                "{reset:?}"
            );
        }
        // The connection still works: the client receives a response.
        client.get_text("/x").await;
        assert_eq!((handler.started(), handler.held()), (0, 0), "{}", row.name);
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_before_the_decision_leaves_nothing_behind() {
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
async fn a_connection_that_is_lost_before_the_decision_leaves_nothing_behind() {
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

/// Any 2xx to a CONNECT is the switch, as far as hyper and the client are concerned.
#[tokio::test]
async fn another_success_still_starts_the_session() {
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

/// S8 on HTTP/2, where the layer holds the upgrade.
#[tokio::test]
async fn a_success_that_has_lost_its_session_does_not_leave() {
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

/// 101 switches nothing but an `Upgrade`, even with the session of a CONNECT in its extensions.
#[tokio::test]
async fn a_101_to_a_connect_neither_starts_its_session_nor_leaves() {
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

/// The rest of a connection is read for a while, so that its end is in order. A stream needs no such
/// thing: where the session has given up it ends with the late switch.
#[tokio::test(start_paused = true)]
async fn a_stream_whose_session_has_given_up_ends_at_once() {
    let handler = Handler::new(false);
    let registered = Arc::new(handler.clone());
    let decides = UpgradeLayer::new()
        .handshake_timeout(Duration::from_secs(1))
        .protocol("echo", Arc::clone(&registered))
        .connect(registered)
        .layer(service_fn(plain));
    let holds_back = service_fn(move |request: Request<Incoming>| {
        let decides = decides.clone();
        async move {
            let switch = tower::ServiceExt::oneshot(decides, request).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            switch
        }
    });
    let (peer, io) = tokio::io::duplex(64 * 1024);
    let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http2.enable_connect_protocol();
    let service = TowerToHyperService::new(holds_back);
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

/// S9 on HTTP/2: hyper's `OnUpgrade` stays in the request for inner services.
#[tokio::test]
async fn a_foreign_handler_on_http_2_works_as_without_us() {
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
        answer.expect_switched().expect_echo(b"hello").await;
    }
}

/// An inner retry layer sends a clone of a CONNECT. The outermost layer holds its connection.
#[tokio::test]
async fn a_connect_that_is_sent_twice_through_the_inner_layers_commits_once() {
    struct SecondTime(AtomicUsize);
    impl ProtocolHandler for SecondTime {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            if self.0.fetch_add(1, Ordering::SeqCst) % 2 == 0 {
                return Err(StatusCode::SERVICE_UNAVAILABLE.into());
            }
            Ok(Accept::new(crate::support::handlers::speak_echo))
        }
    }
    let decides = UpgradeLayer::new()
        .connect(SecondTime(AtomicUsize::new(0)))
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
        .expect_switched()
        .expect_echo(b"hello")
        .await;
}

/// The response to a CONNECT on a server that hands over no connection.
#[tokio::test]
async fn a_connect_that_nobody_can_hand_over_is_not_implemented() {
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
