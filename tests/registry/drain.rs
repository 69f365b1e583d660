//! `Sessions::drain`.

use crate::{
    closed::{next, reporting},
    support::{
        Peer, Server, Via,
        h2::{Client, connect, extended_connect},
        handlers::{Counted, echo},
        head, offer, plain, soon, until,
    },
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    time::Instant,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, DrainReport, ProtocolHandler, Rejection, Session, Sessions, UpgradeLayer,
    UpgradeRequest, Upgraded, handler_fn, testing,
};

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn report(ended: usize, aborted: usize, left: usize) -> DrainReport {
    let mut report = DrainReport::default();
    (report.ended, report.aborted, report.left) = (ended, aborted, left);
    report
}

/// Sends `bye` on the stop signal and returns.
async fn heeds(session: Session) -> Result<(), BoxError> {
    let stop = session.stop();
    let mut io = session.into_io();
    tokio::select! {
        read = io.read_u8() => drop(read?),
        () = stop => io.write_all(b"bye").await?,
    }
    Ok(())
}

/// Ignores the stop signal.
async fn ignores(session: Session) -> Result<(), BoxError> {
    let _io = session.into_io();
    std::future::pending().await
}

fn both(sessions: &Sessions) -> UpgradeLayer {
    UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("heed", handler_fn(heeds))
        .protocol("ignore", handler_fn(ignores))
}

/// Opens a session in memory, for paused time, and returns its peer.
pub(crate) async fn open(layer: &UpgradeLayer, protocol: &str) -> Upgraded {
    let request = testing::request(protocol).body(String::new());
    let service = layer.layer(service_fn(plain));
    let exchange = testing::upgrade(service, request.expect("a request")).await;
    exchange.expect("a response").expect_upgraded(protocol)
}

async fn rest(mut peer: Upgraded) -> String {
    let mut rest = String::new();
    let read = peer.read_to_string(&mut rest).await;
    read.expect("an orderly end");
    rest
}

#[tokio::test(start_paused = true)]
async fn drain_returns_once_sessions_end_on_the_stop_signal() {
    let sessions = Sessions::new();
    let layer = both(&sessions);
    let peers = [open(&layer, "heed").await, open(&layer, "heed").await];
    let start = Instant::now();
    let said = tokio::spawn(async move {
        let [first, second] = peers;
        tokio::join!(rest(first), rest(second))
    });
    assert_eq!(sessions.drain(secs(30)).await, report(2, 0, 0));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let said = said.await.expect("no panic");
    assert_eq!(said, ("bye".into(), "bye".into()));
    assert!(sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn session_that_ignores_the_stop_signal_is_aborted_at_the_deadline() {
    let sessions = Sessions::new();
    let (layer, mut reports) = reporting();
    let layer = layer
        .sessions(sessions.clone())
        .protocol("heed", handler_fn(heeds))
        .protocol("ignore", handler_fn(ignores));
    let stubborn = open(&layer, "ignore").await;
    let peer = tokio::spawn(rest(open(&layer, "heed").await));
    let start = Instant::now();
    let drained = sessions.drain(secs(30)).await;
    assert_eq!(drained, report(1, 1, 0));
    assert_eq!(drained.to_string(), "1 sessions ended, 1 aborted, 0 left");
    assert_eq!(start.elapsed(), secs(30));
    assert_eq!(peer.await.expect("no panic"), "bye");
    // The drain resolves after the connection has shut down.
    assert_eq!(rest(stubborn).await, "");
    assert_eq!(start.elapsed(), secs(30));
    assert_eq!(next(&mut reports).await.reason, "drained");
    assert_eq!(next(&mut reports).await.reason, "aborted");
}

#[tokio::test(start_paused = true)]
async fn earliest_drain_deadline_applies() {
    let sessions = Sessions::new();
    let _stubborn = open(&both(&sessions), "ignore").await;
    let start = Instant::now();
    let patient = sessions.drain(secs(100));
    let hasty = async {
        tokio::time::sleep(secs(5)).await;
        sessions.drain(secs(5)).await
    };
    let (patient, hasty) = tokio::join!(patient, hasty);
    assert_eq!((patient, hasty), (report(0, 1, 0), report(0, 1, 0)));
    assert_eq!(start.elapsed(), secs(10));
}

/// The idle timeout drops the handler, not the deadline of the drain.
#[tokio::test(start_paused = true)]
async fn idle_session_at_the_deadline_does_not_count_as_aborted() {
    let sessions = Sessions::new();
    let layer = both(&sessions).idle_timeout(secs(5));
    let peer = open(&layer, "ignore").await;
    let drained = sessions.drain(secs(30));
    drop(peer);
    assert_eq!(drained.await, report(1, 0, 0));
}

/// The longest timeout, which cannot be added to an `Instant`.
#[tokio::test(start_paused = true)]
async fn drain_accepts_the_longest_timeout() {
    let now = std::time::Instant::now();
    let fits = |seconds: &u64| now.checked_add(secs(*seconds)).is_some();
    let last = (0..u64::BITS).rev().fold(0, |last, bit| {
        let more = last | 1 << bit;
        if fits(&more) { more } else { last }
    });
    for absurd in [secs(last), Duration::MAX] {
        let sessions = Sessions::new();
        let mut peer = open(&both(&sessions), "heed").await;
        let drained = tokio::spawn(sessions.drain(absurd));
        peer.shutdown().await.expect("memory");
        assert_eq!(drained.await.expect("no panic"), report(1, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_drain_future_does_not_stop_the_drain() {
    let sessions = Sessions::new();
    let stubborn = open(&both(&sessions), "ignore").await;
    let start = Instant::now();
    drop(sessions.drain(secs(10)));
    assert!(sessions.list().len() == 1 && sessions.is_draining());
    assert_eq!(rest(stubborn).await, "");
    assert_eq!(start.elapsed(), secs(10));
    assert!(sessions.is_draining());
}

#[tokio::test(start_paused = true)]
async fn drain_of_empty_registry_returns_at_once() {
    let sessions = Sessions::new();
    let start = Instant::now();
    assert_eq!(sessions.drain(secs(30)).await, report(0, 0, 0));
    assert_eq!(sessions.drain(Duration::MAX).await, report(0, 0, 0));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// An aborted handler, and an IO with a peer that does not read.
#[tokio::test(start_paused = true)]
async fn drain_leaves_connection_that_does_not_shut_down() {
    let sessions = Sessions::new();
    let writes = handler_fn(|mut session: Session| async move {
        // More than the connection holds.
        session.io_mut().write_all(&[0; 1024 * 1024]).await?;
        Ok(())
    });
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("write", writes)
        .shutdown_timeout(secs(60));
    let peer = open(&layer, "write").await;
    let start = Instant::now();
    let drained = sessions.drain(secs(5)).await;
    // The duplex pipe shuts down without flushing, so the connection is not counted as left.
    assert_eq!((drained.aborted, drained.left), (1, 0));
    assert_eq!(start.elapsed(), secs(5));
    drop(peer);
}

/// Accepts once notified.
struct Waits(Arc<Notify>);

impl ProtocolHandler for Waits {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        self.0.notified().await;
        Ok(Accept::new(heeds))
    }
}

#[tokio::test(start_paused = true)]
async fn pending_decision_completes_and_its_session_is_drained() {
    let (sessions, go_on) = (Sessions::new(), Arc::new(Notify::new()));
    let layer = both(&sessions).protocol("wait", Waits(Arc::clone(&go_on)));
    let layer = layer.accept_timeout(None);
    let opening = tokio::spawn({
        let layer = layer.clone();
        async move { rest(open(&layer, "wait").await).await }
    });
    until(|| sessions.len() == 1).await;
    let start = Instant::now();
    let drain = sessions.drain(secs(30));
    let go_on = async {
        tokio::time::sleep(secs(10)).await;
        go_on.notify_one();
    };
    let (drained, ()) = tokio::join!(drain, go_on);
    assert_eq!((drained, start.elapsed()), (report(1, 0, 0), secs(10)));
    assert_eq!(opening.await.expect("no panic"), "bye");
}

#[tokio::test(start_paused = true)]
async fn pending_decision_is_rejected_at_the_drain_deadline() {
    let (sessions, never) = (Sessions::new(), Arc::new(Notify::new()));
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("wait", Waits(never))
        .accept_timeout(None);
    let asking = tokio::spawn(async move {
        let request = testing::request("wait").body(String::new());
        let service = layer.layer(service_fn(plain));
        let exchange = testing::upgrade(service, request.expect("a request")).await;
        let exchange = exchange.expect("a response");
        exchange.expect_rejected(http::StatusCode::SERVICE_UNAVAILABLE)
    });
    until(|| sessions.len() == 1).await;
    let start = Instant::now();
    assert_eq!(sessions.drain(secs(30)).await, report(0, 0, 0));
    assert_eq!(start.elapsed(), secs(30));
    let refusal = asking.await.expect("no panic");
    assert_eq!(refusal.headers()["retry-after"], "5");
    assert_eq!(refusal.body(), "the server is shutting down");
}

#[tokio::test]
async fn drain_rejects_upgrades_and_passes_plain_requests() {
    let handler = Counted::default();
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("echo", handler.clone())
        .connect(echo());
    let server = Server::start_via(Via::Auto, layer.layer(service_fn(plain))).await;
    let mut http1 = server.connect().await;
    let mut http2 = Client::connect(server.connect().await).await;
    assert_eq!(soon(sessions.drain(secs(30))).await, report(0, 0, 0));

    http1.send(offer("echo", &[])).await;
    let (refusal, body) = http1.response().await;
    assert_eq!(
        (refusal.status, body.as_str()),
        (503, "the server is shutting down")
    );
    assert_eq!(refusal.get("retry-after").as_deref(), Some("5"));
    for request in [extended_connect("echo"), connect("test:1")] {
        let answer = http2.ask(request.body(()).expect("a request")).await;
        assert_eq!(answer.head.headers()["retry-after"], "5");
        assert_eq!(answer.refused().await.0, 503);
    }
    assert_eq!(handler.accepted(), 0);
    http1.send(head(&["GET /x HTTP/1.1", "Host: test"])).await;
    assert_eq!(http1.response().await.1, "plain GET /x");
    assert_eq!(http2.get_text("/x").await, "plain GET /x");
}

/// Graceful shutdown of an HTTP/2 connection completes once the sessions have ended their streams.
#[tokio::test]
async fn drain_composes_with_axum_graceful_shutdown_in_either_order() {
    for drain_first in [true, false] {
        let sessions = Sessions::new();
        let app = axum::Router::new().layer(both(&sessions));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let serving = tokio::spawn(async move {
            let graceful = async move { stopped.notified().await };
            axum::serve(listener, app)
                .with_graceful_shutdown(graceful)
                .await
        });
        let connect = || async {
            Peer::new(
                tokio::net::TcpStream::connect(address)
                    .await
                    .expect("loopback"),
            )
        };
        let mut http1 = connect().await;
        http1.send(offer("heed", &[])).await;
        http1.head().await.assert_upgraded("heed");
        let mut client = Client::connect(connect().await).await;
        let request = extended_connect("heed").body(()).expect("a request");
        let mut http2 = client.ask(request).await.expect_upgraded();

        let peers = tokio::spawn(async move {
            assert_eq!(http1.rest().await.expect("an orderly end"), b"bye");
            http1.finish().await;
            assert_eq!(http2.rest().await.expect("an orderly end"), b"bye");
            http2.finish().await;
        });
        if !drain_first {
            stop.notify_one();
        }
        assert_eq!(soon(sessions.drain(secs(30))).await, report(2, 0, 0));
        stop.notify_one();
        soon(peers).await.expect("no panic");
        drop(client);
        soon(serving)
            .await
            .expect("no panic")
            .expect("an orderly end");
    }
}

#[tokio::test]
async fn drain_composes_with_hyper_util_graceful_shutdown_in_either_order() {
    for drain_first in [true, false] {
        let sessions = Sessions::new();
        let service = TowerToHyperService::new(both(&sessions).layer(service_fn(plain)));
        let connections = GracefulShutdown::new();
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http2().enable_connect_protocol();
        let connect = || {
            let (peer, io) = tokio::io::duplex(64 * 1024);
            let service = service.clone();
            let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service);
            let serving = tokio::spawn(connections.watch(connection.into_owned()));
            (Peer::new(peer), serving)
        };
        let (mut http1, first) = connect();
        http1.send(offer("heed", &[])).await;
        http1.head().await.assert_upgraded("heed");
        let (http2, second) = connect();
        let mut client = Client::connect(http2).await;
        let request = extended_connect("heed").body(()).expect("a request");
        let mut http2 = client.ask(request).await.expect_upgraded();

        let peers = tokio::spawn(async move {
            assert_eq!(http1.rest().await.expect("an orderly end"), b"bye");
            http1.finish().await;
            assert_eq!(http2.rest().await.expect("an orderly end"), b"bye");
            http2.finish().await;
        });
        let shutdown = if drain_first {
            assert_eq!(soon(sessions.drain(secs(30))).await, report(2, 0, 0));
            tokio::spawn(connections.shutdown())
        } else {
            let shutdown = tokio::spawn(connections.shutdown());
            assert_eq!(soon(sessions.drain(secs(30))).await, report(2, 0, 0));
            shutdown
        };
        soon(peers).await.expect("no panic");
        soon(shutdown).await.expect("no panic");
        for serving in [first, second] {
            // A client that has already left receives nothing.
            let _ = soon(serving).await.expect("no panic");
        }
    }
}

#[tokio::test]
async fn incomplete_handshake_does_not_outlive_the_drain() {
    let sessions = Sessions::new();
    let layer = both(&sessions).handshake_timeout(None);
    let (_hand_over, io) = tokio::sync::oneshot::channel::<Upgraded>();
    let mut request = testing::request("heed")
        .body(String::new())
        .expect("a request");
    let pending = tower_upgrade::PendingUpgrade::new(async move { Ok(io.await?) });
    request.extensions_mut().insert(pending);
    let response = tower::ServiceExt::oneshot(layer.layer(service_fn(plain)), request).await;
    assert_eq!(response.expect("infallible").status(), 101);
    assert_eq!(sessions.len(), 1);
    let drained = soon(sessions.drain(Duration::from_millis(1))).await;
    assert_eq!(drained, report(0, 1, 0));
}
