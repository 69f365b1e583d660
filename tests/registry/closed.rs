//! Close reasons, as `on_close` reports them.

use crate::support::{Peer, Server, Via, handlers::run_echo, log::Log, offer, plain, soon};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_upgrade::{Closed, Session, SessionId, Sessions, UpgradeKind, UpgradeLayer, handler_fn};

/// The parts of a report that tests check.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) id: SessionId,
    pub(crate) kind: UpgradeKind,
    pub(crate) protocol: Option<String>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
    pub(crate) error: Option<String>,
    pub(crate) duration: Duration,
    pub(crate) bytes: (u64, u64),
}

/// A layer with `on_close`, and a channel of its reports.
pub(crate) fn reporting() -> (UpgradeLayer, UnboundedReceiver<Report>) {
    let (sender, reports) = unbounded_channel();
    let layer = UpgradeLayer::new().on_close(move |closed: &Closed| {
        let report = Report {
            id: closed.id(),
            kind: closed.kind(),
            protocol: closed.protocol().map(ToString::to_string),
            peer: closed.peer(),
            reason: closed.reason().as_str(),
            text: closed.reason().to_string(),
            error: closed.reason().error().map(ToString::to_string),
            duration: closed.duration(),
            bytes: (closed.bytes_read(), closed.bytes_written()),
        };
        // The test may have dropped the receiver.
        let _ = sender.send(report);
    });
    (layer, reports)
}

pub(crate) async fn next(reports: &mut UnboundedReceiver<Report>) -> Report {
    soon(reports.recv()).await.expect("a session ends")
}

/// Returns, fails, panics or echoes, as the first byte selects.
async fn obey(mut session: Session) -> Result<(), tower_upgrade::BoxError> {
    match session.io_mut().read_u8().await? {
        b'f' => Ok(()),
        b'e' => Err("something broke".into()),
        b'p' => panic!("the handler's {}", "message"),
        _ => run_echo(session).await,
    }
}

async fn open(server: &Server, say: &str) -> Peer<TcpStream> {
    let mut peer = server.connect().await;
    peer.send(offer("obey/1", &[])).await;
    peer.head().await.assert_upgraded("obey/1");
    peer.send(say).await;
    peer
}

#[tokio::test]
async fn each_outcome_has_its_close_reason() {
    let (log, _guard) = Log::start();
    let (layer, mut reports) = reporting();
    let layer = layer.protocol("obey", handler_fn(obey));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    for (say, reason, text, error) in [
        ("f", "finished", "finished", None),
        (
            "e",
            "failed",
            "failed: something broke",
            Some("something broke"),
        ),
        ("p", "panicked", "panicked: the handler's message", None),
    ] {
        let mut peer = open(&server, say).await;
        let report = next(&mut reports).await;
        assert_eq!((report.reason, report.text.as_str()), (reason, text));
        assert_eq!(report.error.as_deref(), error);
        assert_eq!(report.kind, UpgradeKind::Upgrade);
        assert_eq!(report.protocol.as_deref(), Some("obey/1"));
        assert_eq!((report.bytes, report.peer), ((1, 0), None));
        peer.expect_end().await;
        let logged = log.lines(&format!("session{{id={} ", report.id));
        let logged: Vec<_> = logged
            .iter()
            .filter(|line| line.contains("bytes_read"))
            .collect();
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(
            logged[0].contains(&format!("reason={reason} ")),
            "{logged:?}"
        );
        assert!(logged[0].contains("bytes_read=1"), "{logged:?}");
    }
}

#[tokio::test]
async fn bytes_are_counted_in_both_directions() {
    let (layer, mut reports) = reporting();
    let layer = layer.protocol("obey", handler_fn(obey));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = open(&server, "x").await;
    peer.expect_echo(&[b'y'; 100_000]).await;
    peer.finish().await;
    let report = next(&mut reports).await;
    assert_eq!(
        (report.reason, report.bytes),
        ("finished", (100_001, 100_000))
    );
}

#[tokio::test]
async fn session_that_does_not_start_reports_its_reason() {
    let (layer, mut reports) = reporting();
    let layer = layer.protocol("obey", handler_fn(obey));
    let server = Server::start_via(Via::NoUpgrades, layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("obey/1", &[])).await;
    peer.head().await.assert_upgraded("obey/1");
    let report = next(&mut reports).await;
    assert_eq!(report.reason, "not-upgraded");
    assert!(report.error.is_some_and(|error| !error.is_empty()));
}

#[tokio::test]
async fn peer_address_is_read_from_the_extensions() {
    let address: SocketAddr = "192.0.2.1:99".parse().expect("an address");
    for sessions in [
        Sessions::new(),
        Sessions::builder()
            .peer(|extensions| extensions.get::<(SocketAddr,)>().map(|found| found.0))
            .build(),
    ] {
        let (layer, mut reports) = reporting();
        let seen = Arc::new(Mutex::new(None));
        let finish = handler_fn({
            let seen = Arc::clone(&seen);
            move |session: Session| {
                *seen.lock().expect("no panic") = Some((session.id(), session.peer()));
                async { Ok(()) }
            }
        });
        let service = ServiceBuilder::new()
            .map_request(move |mut request: http::Request<_>| {
                request.extensions_mut().insert(address);
                request.extensions_mut().insert((address,));
                request
            })
            .layer(layer.sessions(sessions).protocol("finish", finish))
            .service(service_fn(plain));
        let server = Server::start(service).await;
        let mut peer = server.connect().await;
        peer.send(offer("finish", &[])).await;
        peer.head().await.assert_upgraded("finish");
        let report = next(&mut reports).await;
        assert_eq!(report.peer, Some(address));
        let seen = seen.lock().expect("no panic").take();
        assert_eq!(seen, Some((report.id, Some(address))));
    }
}

#[tokio::test]
async fn panic_in_on_close_is_caught() {
    let (log, _guard) = Log::start();
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .on_close(|_closed| panic!("a user's mistake"))
        .protocol("obey", handler_fn(obey));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = open(&server, "f").await;
    peer.send(b"unread").await;
    peer.finish().await;
    peer.expect_end().await;
    crate::support::until(|| sessions.is_empty()).await;
    assert_eq!(log.lines("a user's mistake").len(), 1);
}

/// The innermost setting applies, and the outermost one if the inner layer sets none.
#[tokio::test]
async fn settings_of_outermost_layer_apply_to_inner_sessions() {
    let (outer, mut outer_reports) = reporting();
    let (inner, mut inner_reports) = reporting();
    let sessions = Sessions::new();
    let service = ServiceBuilder::new()
        .layer(outer.sessions(sessions.clone()))
        .layer(UpgradeLayer::new().protocol("outer", handler_fn(obey)))
        .layer(
            inner
                .sessions(Sessions::new())
                .protocol("inner", handler_fn(obey)),
        )
        .service(service_fn(plain));
    let server = Server::start(service).await;
    for (protocol, listed) in [("outer", 1), ("inner", 0)] {
        let mut peer = server.connect().await;
        peer.send(offer(protocol, &[])).await;
        peer.head().await.assert_upgraded(protocol);
        assert_eq!(sessions.len(), listed);
        peer.send(b"f").await;
        let reports = match protocol {
            "outer" => &mut outer_reports,
            _ => &mut inner_reports,
        };
        assert_eq!(next(reports).await.protocol.as_deref(), Some(protocol));
        peer.finish().await;
        peer.expect_end().await;
        crate::support::until(|| sessions.is_empty()).await;
    }
    assert!(outer_reports.try_recv().is_err());
}

#[tokio::test]
async fn io_mut_and_split_halves_are_counted_alike() {
    let (layer, mut reports) = reporting();
    let both = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(b"one").await?;
        let (_reader, mut writer) = tokio::io::split(session.into_io());
        writer.write_all(b"two").await?;
        Ok(())
    });
    let server = Server::start(layer.protocol("both", both).layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("both", &[])).await;
    peer.head().await.assert_upgraded("both");
    assert_eq!(peer.exactly(6).await, b"onetwo");
    assert_eq!(next(&mut reports).await.bytes, (0, 6));
}

#[tokio::test]
async fn closed_and_session_info_can_be_sent_to_another_task() {
    let (closed, mut received) = tokio::sync::mpsc::unbounded_channel();
    let sessions = tower_upgrade::Sessions::new();
    let fails = tower_upgrade::handler_fn(|_session| async { Err("it went wrong".into()) });
    let layer = tower_upgrade::UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("test", fails)
        .on_close(move |ended: &tower_upgrade::Closed| drop(closed.send(ended.clone())));
    let request = tower_upgrade::testing::request("test").body(String::new());
    let exchange =
        tower_upgrade::testing::upgrade(layer.into_service(), request.expect("a request"));
    let _peer = exchange.await.expect("a response").expect_upgraded("test");
    let list: Vec<tower_upgrade::SessionInfo> = sessions.list().to_vec();
    let closed = tokio::spawn(async move { received.recv().await }).await;
    let closed = closed.expect("no panic").expect("a session has ended");
    assert_eq!(closed.reason().to_string(), "failed: it went wrong");
    assert!(list.iter().all(|session| session.id() == closed.id()));
}
