//! Idle timeout, lifetime and shutdown timeout, in paused time.

use crate::{
    closed::{Report, next, reporting},
    drain::secs,
    support::{handlers::run_echo, plain},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc::UnboundedReceiver,
    time::{Instant, sleep},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, Session, Sessions, UpgradeLayer, UpgradeRequest,
    Upgraded, handler_fn, testing,
};

/// Opens a session and returns its peer and its report.
async fn open(
    set_up: impl FnOnce(UpgradeLayer) -> UpgradeLayer,
    handler: impl ProtocolHandler,
) -> (Upgraded, UnboundedReceiver<Report>) {
    let (layer, reports) = reporting();
    let layer = set_up(layer).protocol("test", handler);
    let request = testing::request("test").body(String::new());
    let exchange = testing::upgrade(layer.layer(service_fn(plain)), request.expect("a request"));
    let peer = exchange.await.expect("a response").expect_upgraded("test");
    (peer, reports)
}

/// Reads to the end of stream, and returns the elapsed milliseconds.
async fn ends_after(peer: &mut Upgraded, start: Instant) -> u128 {
    let mut rest = Vec::new();
    let read = peer.read_to_end(&mut rest).await;
    read.expect("an orderly end");
    start.elapsed().as_millis()
}

/// Ends at the stop signal.
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

/// Accepts sessions that end when their credentials do.
struct Expires(Duration);

impl ProtocolHandler for Expires {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Ok(Accept::new(heeds).lifetime(self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn shorter_lifetime_of_accept_and_layer_applies() {
    for (of_layer, of_accept, ends) in [
        (None, secs(60), 60_000),
        (Some(secs(30)), secs(60), 30_000),
        (Some(secs(90)), secs(60), 60_000),
        (Some(secs(90)), Duration::MAX, 90_000),
    ] {
        let set_up = |layer: UpgradeLayer| layer.lifetime(of_layer);
        let (mut peer, mut reports) = open(set_up, Expires(of_accept)).await;
        assert_eq!(ends_after(&mut peer, Instant::now()).await, ends);
        assert_eq!(next(&mut reports).await.reason, "lifetime");
    }
}

#[tokio::test(start_paused = true)]
async fn session_without_limits_stays_open() {
    let (mut peer, mut reports) = open(|layer| layer, handler_fn(run_echo)).await;
    sleep(secs(86400 * 365)).await;
    assert!(reports.try_recv().is_err());
    peer.write_all(b"x").await.expect("it is open");
    assert_eq!(peer.read_u8().await.expect("it is open"), b'x');
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_closes_session() {
    let start = Instant::now();
    let set_up = |layer: UpgradeLayer| layer.idle_timeout(secs(60));
    let (mut peer, mut reports) = open(set_up, handler_fn(ignores)).await;
    assert_eq!(ends_after(&mut peer, start).await, 60_000);
    let report = next(&mut reports).await;
    assert_eq!((report.reason, report.duration.as_secs()), ("idle", 60));
}

#[tokio::test(start_paused = true)]
async fn byte_in_either_direction_resets_idle_timeout() {
    let start = Instant::now();
    let set_up = |layer: UpgradeLayer| layer.idle_timeout(secs(60));
    // Reads, and writes after 150 seconds.
    let talks = handler_fn(|mut session: Session| async move {
        let mut byte = [0];
        let talk_at = Instant::now() + secs(150);
        loop {
            tokio::select! {
                read = session.io_mut().read(&mut byte) => drop(read?),
                () = tokio::time::sleep_until(talk_at) => break,
            }
        }
        session.io_mut().write_all(b"x").await?;
        std::future::pending().await
    });
    let (mut peer, mut reports) = open(set_up, talks).await;
    for _ in 0..2 {
        sleep(secs(50)).await;
        peer.write_all(b"x").await.expect("it is open");
    }
    assert_eq!(peer.read_u8().await.expect("it talks"), b'x');
    assert_eq!(start.elapsed().as_secs(), 150);
    assert_eq!(ends_after(&mut peer, start).await, 210_000);
    let report = next(&mut reports).await;
    assert_eq!((report.reason, report.bytes), ("idle", (2, 1)));
}

#[tokio::test(start_paused = true)]
async fn lifetime_sends_the_stop_signal() {
    let start = Instant::now();
    let set_up = |layer: UpgradeLayer| layer.lifetime(secs(3600)).idle_timeout(secs(7200));
    let (mut peer, mut reports) = open(set_up, handler_fn(heeds)).await;
    let mut said = [0; 3];
    peer.read_exact(&mut said).await.expect("it says so");
    assert_eq!((&said, start.elapsed().as_secs()), (b"bye", 3600));
    assert_eq!(next(&mut reports).await.reason, "lifetime");
}

#[tokio::test(start_paused = true)]
async fn lifetime_aborts_handler_after_shutdown_timeout() {
    for (shutdown_timeout, ends) in [(None, 3_610_000), (Some(secs(60)), 3_660_000)] {
        let start = Instant::now();
        let set_up = |layer: UpgradeLayer| {
            let layer = layer.lifetime(secs(3600));
            match shutdown_timeout {
                Some(timeout) => layer.shutdown_timeout(timeout),
                None => layer,
            }
        };
        let (mut peer, mut reports) = open(set_up, handler_fn(ignores)).await;
        assert_eq!(ends_after(&mut peer, start).await, ends);
        assert_eq!(next(&mut reports).await.reason, "lifetime");
    }
}

/// The earlier stop signal keeps its deadline.
#[tokio::test(start_paused = true)]
async fn stopping_session_keeps_its_deadline_at_its_lifetime() {
    let sessions = Sessions::new();
    let start = Instant::now();
    let set_up = |layer: UpgradeLayer| layer.sessions(sessions.clone()).lifetime(secs(10));
    let (mut peer, mut reports) = open(set_up, handler_fn(ignores)).await;
    assert!(sessions.close(sessions.list()[0].id(), secs(60)));
    assert_eq!(ends_after(&mut peer, start).await, 60_000);
    assert_eq!(next(&mut reports).await.reason, "aborted");
}

#[tokio::test(start_paused = true)]
async fn limits_can_be_disabled_or_set_to_the_maximum() {
    for absurd in [None, Some(Duration::MAX - secs(1))] {
        let set_up = |layer: UpgradeLayer| {
            let layer = layer.idle_timeout(secs(1)).lifetime(secs(1));
            layer.idle_timeout(absurd).lifetime(absurd)
        };
        let (mut peer, _reports) = open(set_up, handler_fn(run_echo)).await;
        sleep(secs(1000)).await;
        peer.write_all(b"x").await.expect("it is open");
        assert_eq!(peer.read_u8().await.expect("it is open"), b'x');
    }
}

#[tokio::test(start_paused = true)]
async fn closed_session_has_its_grace_period() {
    let start = Instant::now();
    let sessions = Sessions::new();
    let set_up = |layer: UpgradeLayer| layer.sessions(sessions.clone());
    let (mut peer, mut reports) = open(set_up, handler_fn(ignores)).await;
    let id = sessions.list()[0].id();
    assert!(sessions.close(id, secs(100)));
    // The earliest deadline holds.
    assert!(sessions.close(id, secs(5)));
    assert!(sessions.close(id, secs(50)));
    assert_eq!(ends_after(&mut peer, start).await, 5_000);
    assert_eq!(next(&mut reports).await.reason, "aborted");

    let (mut peer, mut reports) = open(set_up, handler_fn(heeds)).await;
    assert!(sessions.close(sessions.list()[0].id(), secs(100)));
    assert_eq!(ends_after(&mut peer, start).await, 5_000);
    assert_eq!(next(&mut reports).await.reason, "drained");
}

/// Late and multiple waiters receive the signal.
#[tokio::test(start_paused = true)]
async fn stop_signal_reaches_early_and_late_waiters() {
    let sessions = Sessions::new();
    let set_up = |layer: UpgradeLayer| layer.sessions(sessions.clone());
    let asks_late = handler_fn(|session: Session| async move {
        let early = tokio::spawn(session.stop());
        drop(session.stop());
        tokio::time::sleep(secs(10)).await;
        session.stop().await;
        early.await?;
        session.stop().await;
        Ok(())
    });
    let (_peer, mut reports) = open(set_up, asks_late).await;
    assert!(sessions.close(sessions.list()[0].id(), secs(100)));
    let report = next(&mut reports).await;
    assert_eq!((report.reason, report.duration.as_secs()), ("drained", 10));
}
