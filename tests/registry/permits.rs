//! Every outcome releases the permit. Each test covers one outcome, with a limit of one session.

use crate::support::{
    Peer, Server, Via,
    h2::{Client, extended_connect},
    handlers::{echo, run_echo},
    offer, plain, soon, until,
};
use h2::Reason;
use http::{Response, StatusCode};
use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use tokio::net::TcpStream;
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_http::timeout::TimeoutLayer;
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, Sessions, UpgradeLayer, UpgradeRequest, handler_fn,
};

fn room_for_one() -> (Sessions, UpgradeLayer) {
    let sessions = Sessions::builder().max(1).build();
    let layer = UpgradeLayer::new().sessions(sessions.clone());
    (sessions, layer)
}

async fn start(layer: UpgradeLayer) -> Server {
    Server::start(layer.protocol("echo", echo()).layer(service_fn(plain))).await
}

async fn ask(server: &Server, protocol: &str) -> Peer<TcpStream> {
    let mut peer = server.connect().await;
    peer.send(offer(protocol, &[])).await;
    peer
}

async fn open(server: &Server, protocol: &str) -> Peer<TcpStream> {
    let mut peer = ask(server, protocol).await;
    peer.head().await.assert_upgraded(protocol);
    peer
}

/// Asserts that the registry is empty and admits another session.
async fn assert_permit_released(server: &Server, sessions: &Sessions) {
    until(|| sessions.is_empty()).await;
    assert!(sessions.list().is_empty());
    let mut peer = open(server, "echo").await;
    peer.expect_echo(b"hello").await;
    assert_eq!(sessions.len(), 1);
}

#[tokio::test]
async fn permit_is_released_when_the_handler_returns() {
    let (sessions, layer) = room_for_one();
    let server = start(layer.protocol("done", handler_fn(|_session| async { Ok(()) }))).await;
    open(&server, "done").await.expect_end().await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_peer_closes() {
    let (sessions, layer) = room_for_one();
    let server = start(layer).await;
    let mut peer = open(&server, "echo").await;
    assert_eq!(sessions.len(), 1);
    peer.finish().await;
    peer.expect_end().await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_handler_fails() {
    let (sessions, layer) = room_for_one();
    let fails = handler_fn(|_session| async { Err("on purpose".into()) });
    let server = start(layer.protocol("fail", fails)).await;
    open(&server, "fail").await.expect_end().await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_handler_panics() {
    let (sessions, layer) = room_for_one();
    let panics = handler_fn(|session: Session| async move {
        drop(session);
        panic!("on purpose")
    });
    let at_once = |_session| -> std::future::Ready<_> { panic!("on purpose, at once") };
    let layer = layer
        .protocol("panic", panics)
        .protocol("at-once", handler_fn(at_once));
    let server = start(layer).await;
    open(&server, "panic").await.expect_end().await;
    assert_permit_released(&server, &sessions).await;
    open(&server, "at-once").await.expect_end().await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_handler_takes_the_io() {
    let (sessions, layer) = room_for_one();
    let takes = handler_fn(|session: Session| async move {
        drop(session.into_io().into_parts());
        Ok(())
    });
    let server = start(layer.protocol("take", takes)).await;
    open(&server, "take").await.rest().await.expect("an end");
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_session_is_closed() {
    let (sessions, layer) = room_for_one();
    let server = start(layer).await;
    let mut peer = open(&server, "echo").await;
    assert!(sessions.close(sessions.list()[0].id(), Duration::ZERO));
    peer.expect_end().await;
    assert_permit_released(&server, &sessions).await;
}

/// Rejects, panics, or never decides.
struct Decides(fn() -> Option<Rejection>);

impl ProtocolHandler for Decides {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        match (self.0)() {
            Some(rejection) => Err(rejection),
            None => std::future::pending().await,
        }
    }
}

async fn assert_refused(server: &Server, protocol: &str, status: u16) {
    let mut peer = ask(server, protocol).await;
    assert_eq!(peer.head().await.status, status);
}

#[tokio::test]
async fn permit_is_released_when_the_handler_rejects() {
    let (sessions, layer) = room_for_one();
    let refuses = Decides(|| Some(StatusCode::FORBIDDEN.into()));
    let server = start(layer.protocol("refuse", refuses)).await;
    assert_refused(&server, "refuse", 403).await;
    assert_permit_released(&server, &sessions).await;
}

/// hyper reads the rest of the body only if it keeps the connection open.
#[tokio::test]
async fn permit_is_released_on_rejection_with_an_unread_body() {
    let (sessions, layer) = room_for_one();
    let refuses = Decides(|| Some(StatusCode::FORBIDDEN.into()));
    let layer = layer.body_timeout(None).protocol("refuse", refuses);
    let (server, mut has_read) = Server::start_metered(
        Via::Http1,
        layer.protocol("echo", echo()).layer(service_fn(plain)),
    )
    .await;
    let mut peer = server.connect().await;
    let request = offer("refuse", &["Content-Length: 4"]);
    peer.send(&request).await;
    let all = |read: &usize| *read == request.len();
    soon(has_read.wait_for(all)).await.expect("a server");
    assert_permit_released(&server, &sessions).await;
    peer.send("body").await;
    assert_eq!(peer.head().await.status, 403);
}

#[tokio::test]
async fn permit_is_released_when_accept_panics() {
    let (sessions, layer) = room_for_one();
    let server = start(layer.protocol("panic", Decides(|| panic!("on purpose")))).await;
    assert_refused(&server, "panic", 500).await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_accept_times_out() {
    let (sessions, layer) = room_for_one();
    let layer = layer.accept_timeout(Duration::from_millis(1));
    let server = start(layer.protocol("hang", Decides(|| None))).await;
    assert_refused(&server, "hang", 504).await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_client_leaves_during_accept() {
    let (sessions, layer) = room_for_one();
    let server = start(layer.protocol("hang", Decides(|| None))).await;
    let peer = ask(&server, "hang").await;
    until(|| sessions.len() == 1).await;
    assert!(sessions.list().is_empty(), "it is not accepted yet");
    drop(peer);
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_request_body_is_too_long() {
    let (sessions, layer) = room_for_one();
    let server = start(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &["Content-Length: 1000000"])).await;
    assert_eq!(peer.head().await.status, 413);
    assert_permit_released(&server, &sessions).await;
}

/// Nests the outermost layer, a layer that acts on the protocol name, and the layer with the handlers.
macro_rules! around {
    ($registry:expr, $between:expr) => {{
        let service = ServiceBuilder::new()
            .layer($registry)
            .layer($between)
            .layer(
                UpgradeLayer::new()
                    .protocol("lost", echo())
                    .protocol("hang", Decides(|| None))
                    .protocol("echo", echo()),
            )
            .service(service_fn(plain));
        Server::start(service).await
    }};
}

/// A layer that replaces the upgrade response for `lost`.
fn act<B>(
    on_lost: impl Fn(Response<B>) -> Response<B> + Clone,
) -> impl Fn(Response<B>) -> Response<B> + Clone {
    move |response| {
        let lost = response
            .headers()
            .get("upgrade")
            .is_some_and(|to| to == "lost");
        if lost { on_lost(response) } else { response }
    }
}

#[tokio::test]
async fn permit_is_released_when_a_layer_replaces_the_response() {
    let (sessions, layer) = room_for_one();
    let replace = act(|mut response: Response<_>| {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    });
    let server = around!(layer, tower::util::MapResponseLayer::new(replace));
    assert_refused(&server, "lost", 403).await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_a_layer_drops_the_session() {
    let (sessions, layer) = room_for_one();
    let rebuild = act(|mut response: Response<_>| {
        response.extensions_mut().clear();
        response
    });
    let server = around!(layer, tower::util::MapResponseLayer::new(rebuild));
    assert_refused(&server, "lost", 500).await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_a_layer_times_out() {
    let (sessions, layer) = room_for_one();
    let status = StatusCode::GATEWAY_TIMEOUT;
    let timeout = TimeoutLayer::with_status_code(status, Duration::from_millis(1));
    let server = around!(layer, timeout);
    assert_refused(&server, "hang", 504).await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_service_fails() {
    let (sessions, layer) = room_for_one();
    let decides = layer.protocol("lost", echo()).protocol("echo", echo());
    let decides = decides.layer(service_fn(plain));
    // A layer around all `UpgradeLayer`s, which drops their responses.
    let fails = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let lost = request.headers()["upgrade"] == "lost";
        let answer = tower::ServiceExt::oneshot(decides.clone(), request);
        async move {
            match answer.await {
                Ok(_) if lost => Err("on purpose"),
                Ok(answer) => Ok(answer),
                Err(never) => match never as Infallible {},
            }
        }
    });
    let server = Server::start(fails).await;
    ask(&server, "lost").await.expect_end().await;
    assert_permit_released(&server, &sessions).await;
}

#[tokio::test]
async fn permit_is_released_when_the_server_cannot_upgrade() {
    let (sessions, layer) = room_for_one();
    let service = layer.protocol("echo", echo()).layer(service_fn(plain));
    let server = Server::start_via(Via::NoUpgrades, service).await;
    for _ in 0..3 {
        open(&server, "echo").await;
        until(|| sessions.is_empty()).await;
    }
}

/// On HTTP/2 the client can reset a stream at any time.
#[tokio::test]
async fn permit_is_released_when_a_stream_is_reset() {
    let (sessions, layer) = room_for_one();
    let layer = layer
        .protocol("hang", Decides(|| None))
        .protocol("echo", handler_fn(run_echo));
    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let mut client = Client::connect(server.connect().await).await;
    for _ in 0..2 {
        let request = extended_connect("hang").body(()).expect("a request");
        let (_response, mut stream) = client.send(request).await;
        until(|| sessions.len() == 1).await;
        stream.send_reset(Reason::CANCEL);
        until(|| sessions.is_empty()).await;

        let request = extended_connect("echo").body(()).expect("a request");
        let mut peer = client.ask(request).await.expect_upgraded();
        peer.expect_echo(b"hello").await;
        peer.io.send.send_reset(Reason::INTERNAL_ERROR);
        until(|| sessions.is_empty()).await;
    }
}

#[tokio::test]
async fn permit_is_released_when_a_callback_panics() {
    let sessions = Sessions::builder()
        .max(1)
        .max_per_key(1, |request: &http::request::Parts| {
            assert!(!request.headers.contains_key("panic"), "on purpose");
            Some(())
        })
        .build();
    let server = start(UpgradeLayer::new().sessions(sessions.clone())).await;
    for _ in 0..3 {
        let mut peer = server.connect().await;
        peer.send(offer("echo", &["Panic: please"])).await;
        assert_eq!(peer.head().await.status, 500);
    }
    assert_permit_released(&server, &sessions).await;
}

/// Users define the key type, and its `Drop` may panic.
#[tokio::test]
async fn permit_is_released_when_a_key_panics_on_drop() {
    static IS_ARMED: AtomicBool = AtomicBool::new(false);

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Key(u64);

    impl Drop for Key {
        fn drop(&mut self) {
            assert!(!IS_ARMED.swap(false, Ordering::Relaxed), "on purpose");
        }
    }

    let id = AtomicU64::new(0);
    let sessions = Sessions::builder()
        .max(1)
        .max_per_key(1, move |_: &http::request::Parts| {
            Some(Key(id.fetch_add(1, Ordering::Relaxed)))
        })
        .build();
    let server = start(UpgradeLayer::new().sessions(sessions.clone())).await;
    for _ in 0..3 {
        let mut peer = server.connect().await;
        peer.send(offer("echo", &[])).await;
        peer.head().await.assert_upgraded("echo");
        IS_ARMED.store(true, Ordering::Relaxed);
        peer.finish().await;
        peer.expect_end().await;
        until(|| sessions.is_empty()).await;
        assert!(!IS_ARMED.load(Ordering::Relaxed));
    }
}
