//! Handlers and clients that make it hard to end a session in time.

use crate::{
    closed::{next, reporting},
    drain::{open, report, secs},
    support::{Server, log::Log, offer, plain, soon, until},
};
use http::StatusCode;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep},
};
use tower::{Layer as _, Service as _, ServiceBuilder, service_fn};
use tower_upgrade::{
    Accept, BoxError, PendingUpgrade, ProtocolHandler, Rejection, Session, Sessions, UpgradeLayer,
    UpgradeRequest, handler_fn, testing,
};

fn with(sessions: &Sessions, handler: impl ProtocolHandler) -> UpgradeLayer {
    let layer = UpgradeLayer::new().sessions(sessions.clone());
    layer.protocol("test", handler)
}

/// The handler yields only because its coop budget is exhausted, as with a peer that floods it.
async fn is_busy(session: Session) -> Result<(), BoxError> {
    let _io = session.into_io();
    loop {
        tokio::task::consume_budget().await;
    }
}

#[tokio::test]
async fn busy_handler_is_aborted_at_the_deadline() {
    let sessions = Sessions::new();
    let _peer = open(&with(&sessions, handler_fn(is_busy)), "test").await;
    let drained = soon(sessions.drain(Duration::from_millis(1))).await;
    assert_eq!(drained, report(0, 1, 0));

    let (layer, mut reports) = reporting();
    let layer = layer
        .lifetime(Duration::from_millis(1))
        .shutdown_timeout(Duration::from_millis(1))
        .protocol("test", handler_fn(is_busy));
    let _peer = open(&layer, "test").await;
    assert_eq!(next(&mut reports).await.reason, "lifetime");
}

#[tokio::test(start_paused = true)]
async fn request_with_unread_body_is_rejected_at_the_drain_deadline() {
    let sessions = Sessions::new();
    let layer = with(&sessions, handler_fn(is_busy)).body_timeout(None);
    let service = TowerToHyperService::new(layer.layer(service_fn(plain)));
    let (mut peer, io) = tokio::io::duplex(1024);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    tokio::spawn(connection);
    let request = offer("test", &["Content-Length: 10"]);
    peer.write_all(request.as_bytes()).await.expect("memory");
    until(|| sessions.len() == 1).await;
    let start = Instant::now();
    assert_eq!(sessions.drain(secs(30)).await, report(0, 0, 0));
    assert_eq!(start.elapsed(), secs(30));
    let mut response = String::new();
    let read = peer.read_to_string(&mut response).await;
    read.expect("an orderly end");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    // The server must not parse the rest of the body as a request.
    assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
}

/// Delays a response.
macro_rules! held_back {
    ($layer:expr, $seconds:expr) => {
        ServiceBuilder::new()
            .layer(UpgradeLayer::new())
            .then(|response| async {
                sleep(secs($seconds)).await;
                response
            })
            .layer($layer)
            .service(service_fn(plain))
    };
}

#[tokio::test(start_paused = true)]
async fn upgrade_response_delayed_past_the_drain_deadline_is_replaced() {
    let sessions = Sessions::new();
    let service = held_back!(with(&sessions, handler_fn(is_busy)), 60);
    let request = testing::request("test").body(String::new());
    let asking = tokio::spawn(testing::upgrade(service, request.expect("a request")));
    until(|| sessions.len() == 1).await;
    assert_eq!(sessions.drain(secs(30)).await, report(0, 0, 1));
    let exchange = asking.await.expect("no panic").expect("a response");
    exchange.expect_rejected(StatusCode::SERVICE_UNAVAILABLE);
    assert!(sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn lifetime_counts_from_the_handover() {
    let (layer, mut reports) = reporting();
    let brief = handler_fn(|_session| async {
        sleep(secs(2)).await;
        Ok(())
    });
    let layer = layer.idle_timeout(secs(3)).lifetime(secs(4));
    let service = held_back!(layer.protocol("test", brief), 5);
    let request = testing::request("test").body(String::new());
    let exchange = testing::upgrade(service, request.expect("a request")).await;
    let _peer = exchange.expect("a response").expect_upgraded("test");
    let report = next(&mut reports).await;
    assert_eq!((report.reason, report.duration), ("finished", secs(2)));
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_does_not_apply_after_downcast() {
    let (layer, mut reports) = reporting();
    let takes = handler_fn(|session: Session| async move {
        let mut io = session.into_io().into_parts().io;
        let mut byte = [0];
        while io.read(&mut byte).await? > 0 {
            io.write_all(&byte).await?;
        }
        Ok(())
    });
    let layer = layer.idle_timeout(secs(5)).protocol("test", takes);
    let mut peer = open(&layer, "test").await;
    for _ in 0..10 {
        sleep(secs(4)).await;
        peer.write_all(b"x").await.expect("it is open");
        assert_eq!(peer.read_u8().await.expect("it is open"), b'x');
    }
    drop(peer);
    let report = next(&mut reports).await;
    assert_eq!((report.reason, report.duration.as_secs()), ("finished", 40));
}

/// A handler that is dropped at the deadline of a drain counts as aborted, whatever its close reason.
#[tokio::test(start_paused = true)]
async fn drained_session_past_its_lifetime_counts_once() {
    let (layer, mut reports) = reporting();
    let sessions = Sessions::new();
    let ignores = handler_fn(|session: Session| async move {
        let _io = session.into_io();
        std::future::pending().await
    });
    let layer = layer
        .sessions(sessions.clone())
        .lifetime(secs(10))
        .shutdown_timeout(secs(100))
        .protocol("test", ignores);
    let _old = open(&layer, "test").await;
    sleep(secs(11)).await;
    let _young = open(&layer, "test").await;
    let start = Instant::now();
    assert_eq!(sessions.drain(secs(20)).await, report(0, 2, 0));
    // The shutdown of the connection takes another second.
    assert_eq!(start.elapsed(), secs(21));
    let mut reasons = [
        next(&mut reports).await.reason,
        next(&mut reports).await.reason,
    ];
    reasons.sort_unstable();
    assert_eq!(reasons, ["aborted", "lifetime"]);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("when it was dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_captured_destructor_is_reported() {
    let (layer, mut reports) = reporting();
    let sessions = Sessions::new();
    let armed = handler_fn(|session: Session| async move {
        let _bomb = Bomb;
        let _io = session.into_io();
        std::future::pending().await
    });
    let layer = layer.sessions(sessions.clone()).protocol("test", armed);
    let mut peer = open(&layer, "test").await;
    assert_eq!(sessions.drain(secs(1)).await, report(0, 1, 0));
    assert_eq!(
        next(&mut reports).await.text,
        "panicked: when it was dropped"
    );
    let read = peer.read_to_end(&mut Vec::new()).await;
    assert_eq!(read.expect("an orderly end"), 0);
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_dropped_decision_becomes_a_response() {
    struct Armed;
    impl ProtocolHandler for Armed {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let _bomb = Bomb;
            std::future::pending().await
        }
    }
    let sessions = Sessions::new();
    let service = with(&sessions, Armed).layer(service_fn(plain));
    let request = testing::request("test").body(String::new());
    let exchange = testing::upgrade(service, request.expect("a request")).await;
    let refusal = exchange.expect("a response");
    let refusal = refusal.expect_rejected(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(refusal.headers()["connection"], "close");
    assert!(sessions.is_empty());
}

#[test]
fn runtime_shutdown_reports_session_as_aborted() {
    let (layer, mut reports) = reporting();
    let sessions = Sessions::new();
    let layer = layer
        .sessions(sessions.clone())
        .protocol("test", handler_fn(crate::support::handlers::run_echo));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let peer = runtime.block_on(async {
        let mut peer = open(&layer, "test").await;
        peer.write_all(b"x").await.expect("it is open");
        assert_eq!(peer.read_u8().await.expect("it is open"), b'x');
        peer
    });
    drop(runtime);
    let report = reports.try_recv().expect("a report");
    assert_eq!((report.reason, report.bytes), ("aborted", (1, 1)));
    assert!(sessions.is_empty());
    drop(peer);
}

/// The runtime stops after the upgrade response and before the first poll of the session task.
#[test]
fn runtime_shutdown_reports_unpolled_session_as_aborted() {
    let (layer, mut reports) = reporting();
    let sessions = Sessions::new();
    let layer = layer
        .sessions(sessions.clone())
        .protocol("test", handler_fn(crate::support::handlers::run_echo));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut request = testing::request("test")
        .body(String::new())
        .expect("a request");
    let never = std::future::pending();
    request.extensions_mut().insert(PendingUpgrade::new(never));
    let mut service = layer.layer(service_fn(plain));
    let response = runtime.block_on(async { service.call(request).await.expect("infallible") });
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    drop(runtime);
    let report = reports.try_recv().expect("a report");
    assert_eq!((report.reason, report.bytes), ("aborted", (0, 0)));
    assert!(sessions.is_empty());
}

/// Panics in `Display`.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("it has no words");
    }
}

impl std::error::Error for Unspeakable {}

#[tokio::test]
async fn panic_in_the_display_of_an_error_is_caught() {
    let (log, _guard) = Log::start();
    let (sender, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let fails = handler_fn(|session: Session| async move {
        session.into_io().write_all(b"last words").await?;
        Err(Unspeakable.into())
    });
    let layer = UpgradeLayer::new()
        .on_close(move |closed| sender.send(closed.reason().as_str()).expect("a test"))
        .protocol("test", fails);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("test", &[]) + "unread").await;
    peer.head().await.assert_upgraded("test");
    // Shutdown is orderly although unread bytes were buffered, which could reset the connection.
    assert_eq!(peer.exactly(10).await, b"last words");
    peer.finish().await;
    peer.expect_end().await;
    assert_eq!(soon(closed.recv()).await, Some("failed"));
    let reported = log.lines("report of a session panicked");
    assert!(
        reported.len() == 1 && reported[0].contains("it has no words"),
        "{reported:?}"
    );
}
