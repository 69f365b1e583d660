//! Identities of sessions.

use crate::{
    drain::{open, report, secs},
    support::{handlers::echo, log::Log, plain},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::AsyncReadExt as _;
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_upgrade::{
    Accept, Closed, Identity, ProtocolHandler, Rejection, Session, Sessions, UpgradeLayer,
    UpgradeRequest, Upgraded, testing,
};

/// Accepts for the user that the request names.
struct Users;

impl ProtocolHandler for Users {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let user = request.headers().get("user").cloned();
        let accept = Accept::new(|session: Session| async move {
            let (stop, mut io) = (session.stop(), session.into_io());
            tokio::select! {
                read = io.read_u8() => drop(read?),
                () = stop => {}
            }
            Ok(())
        });
        let user = user.and_then(|user| user.to_str().map(str::to_owned).ok());
        Ok(match user {
            Some(user) => accept.identity(Identity::new(user)),
            None => accept,
        })
    }
}

async fn open_as(layer: &UpgradeLayer, user: &str) -> Upgraded {
    let request = testing::request("test")
        .header("user", user)
        .body(String::new());
    let service = layer.layer(service_fn(plain));
    let exchange = testing::upgrade(service, request.expect("a request")).await;
    exchange.expect("a response").expect_upgraded("test")
}

fn ann() -> Identity {
    Identity::new("ann".to_owned())
}

#[tokio::test(start_paused = true)]
async fn sessions_are_listed_counted_and_closed_by_identity() {
    let sessions = Sessions::new();
    let closed = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&closed);
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("test", Users)
        .on_close(move |closed: &Closed| {
            let user = closed.identity().and_then(Identity::get::<String>).cloned();
            noted
                .lock()
                .expect("no panic")
                .push((user, closed.reason().as_str()));
        });
    let mut of_ann = [open_as(&layer, "ann").await, open_as(&layer, "ann").await];
    let of_bob = open_as(&layer, "bob").await;
    let without = open(&layer, "test").await;

    assert_eq!(sessions.count_of(&ann()), 2);
    let ids: Vec<_> = sessions
        .list_of(&ann())
        .iter()
        .map(|session| session.id())
        .collect();
    assert!(ids.len() == 2 && ids[0] < ids[1]);
    // Another type is another identity.
    assert_eq!(sessions.count_of(&Identity::new("ann")), 0);
    let users: Vec<_> = sessions
        .list()
        .iter()
        .map(|s| s.identity().map(ToString::to_string))
        .collect();
    assert_eq!(
        users,
        [
            Some("ann".into()),
            Some("ann".into()),
            Some("bob".into()),
            None
        ]
    );

    assert_eq!(sessions.close_of(&ann(), secs(1)), 2);
    for peer in &mut of_ann {
        assert_eq!(peer.read(&mut [0]).await.expect("an orderly end"), 0);
    }
    drop(of_ann);
    crate::support::until(|| sessions.len() == 2).await;
    assert_eq!(sessions.close_of(&ann(), secs(1)), 0);
    assert_eq!(sessions.drain(secs(1)).await, report(2, 0, 0));
    drop((of_bob, without));
    let mut closed = closed.lock().expect("no panic").clone();
    closed.sort();
    assert_eq!(
        closed,
        [
            (None, "drained"),
            (Some("ann".into()), "drained"),
            (Some("ann".into()), "drained"),
            (Some("bob".into()), "drained"),
        ]
    );
}

#[tokio::test]
async fn identity_of_the_handler_overrides_that_of_the_layer() {
    let (log, _guard) = Log::start();
    let sessions = Sessions::builder()
        .max_per_key(2, |request| request.extensions.get::<Identity>().cloned())
        .build();
    let inner = UpgradeLayer::new()
        .protocol("test", Users)
        .protocol("echo", echo());
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new().sessions(sessions.clone()))
        .map_request(|mut request: http::Request<_>| {
            request.extensions_mut().insert(ann());
            request
        })
        .service(inner.layer(service_fn(plain)));
    let ask = |protocol: &'static str, user: Option<&'static str>| {
        let mut request = testing::request(protocol);
        if let Some(user) = user {
            request = request.header("user", user);
        }
        testing::upgrade(
            service.clone(),
            request.body(String::new()).expect("a request"),
        )
    };
    let _first = ask("echo", None)
        .await
        .expect("a response")
        .expect_upgraded("echo");
    assert_eq!(sessions.count_of(&ann()), 1);
    let _second = ask("test", Some("bob"))
        .await
        .expect("a response")
        .expect_upgraded("test");
    assert_eq!(sessions.count_of(&ann()), 1);
    assert_eq!(sessions.count_of(&Identity::new("bob".to_owned())), 1);
    crate::support::until(|| log.lines("identity=bob").len() == 1).await;
    assert_eq!(log.lines("identity=ann").len(), 1);
    // The key is the identity of the layer: admission comes before the handler.
    let refused = ask("echo", None).await.expect("a response");
    refused.expect_rejected(http::StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn spread_drain_stops_sessions_evenly_from_the_oldest() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("test", Users);
    let start = tokio::time::Instant::now();
    let ended = Arc::new(Mutex::new(Vec::new()));
    let mut peers = Vec::new();
    for number in 0..100 {
        let mut peer = open(&layer, "test").await;
        let ended = Arc::clone(&ended);
        peers.push(tokio::spawn(async move {
            assert_eq!(peer.read(&mut [0]).await.expect("an orderly end"), 0);
            ended
                .lock()
                .expect("no panic")
                .push((number, start.elapsed()));
        }));
    }
    let options = tower_upgrade::DrainOptions::new(secs(60)).spread(secs(10));
    let report = sessions.drain(options).await;
    assert_eq!((report.ended, report.aborted, report.left), (100, 0, 0));
    assert_eq!(report.spread, secs(10));
    let text = "100 sessions ended, 0 aborted, 0 left, stop signals spread over 10s";
    assert_eq!(report.to_string(), text);
    for peer in peers {
        peer.await.expect("no panic");
    }
    let ended = ended.lock().expect("no panic").clone();
    let numbers: Vec<_> = ended.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    for second in 0..10 {
        let within = |(_, at): &&(i32, Duration)| at.as_secs() == second;
        assert_eq!(ended.iter().filter(within).count(), 10, "second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn spread_drain_ends_at_its_deadline_without_its_future() {
    let sessions = Sessions::new();
    let layer = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("test", Users);
    let mut peers = Vec::new();
    for _ in 0..10 {
        peers.push(open(&layer, "test").await);
    }
    // The spread is longer than the timeout.
    drop(sessions.drain(tower_upgrade::DrainOptions::new(secs(10)).spread(secs(3600))));
    tokio::time::sleep(secs(5) + Duration::from_millis(1)).await;
    assert!((4..=5).contains(&sessions.len()), "{}", sessions.len());
    // Another drain moves the deadline forward, also for sessions without a stop signal yet.
    let start = tokio::time::Instant::now();
    let report = sessions.drain(secs(1)).await;
    assert_eq!((report.ended, report.spread), (10, secs(10)));
    // Their peers have not ended: each connection lingers for a second.
    assert!(start.elapsed() <= secs(1), "{:?}", start.elapsed());
}
