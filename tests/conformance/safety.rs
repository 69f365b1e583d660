//! S: safety.

use crate::closing::tls_server;
use crate::support::{
    Server, Via,
    handlers::{Counted, echo, run_echo},
    head,
    log::Log,
    offer, plain, text, until,
};
use http::{HeaderValue, Response, StatusCode};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::AsyncWriteExt as _;
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, Session, Unsupported, UpgradeLayer,
    UpgradeRequest, handler_fn,
};

#[tokio::test]
async fn s1_panic_ends_only_its_session() {
    let (log, _guard) = Log::start();
    let panics = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(b"last words").await?;
        if session
            .protocol()
            .is_some_and(|protocol| *protocol == "panic")
        {
            panic!("the handler's {}", "message");
        }
        Ok(())
    });
    let layer = UpgradeLayer::new()
        .protocol("panic", panics)
        .protocol("echo", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;

    let mut other = server.connect().await;
    other.send(offer("echo", &[])).await;
    other.head().await.assert_upgraded("echo");

    let mut peer = server.connect().await;
    peer.send(offer("panic", &[])).await;
    peer.head().await.assert_upgraded("panic");
    // The session still shuts down in order, and the written bytes arrive.
    assert_eq!(
        text(&peer.rest().await.expect("an orderly end")),
        "last words"
    );

    let reported = log.lines("session panicked");
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].contains("the handler's message"),
        "{reported:?}"
    );
    other.expect_echo(b"untouched").await;
    let mut next = server.connect().await;
    next.send(offer("echo", &[])).await;
    next.head().await.assert_upgraded("echo");
}

#[tokio::test]
async fn s1_panic_before_the_future_exists_is_caught() {
    struct Panics;
    impl ProtocolHandler for Panics {
        #[allow(clippy::manual_async_fn, reason = "it panics before there is a future")]
        fn accept(
            &self,
            request: &mut UpgradeRequest,
        ) -> impl Future<Output = Result<Accept, Rejection>> + Send {
            let protocol = request.protocol().expect("an `Upgrade` has one");
            assert_ne!(protocol, &"early", "no future to decide");
            let speak = |_session: Session| -> std::future::Ready<Result<(), BoxError>> {
                panic!("no future to speak")
            };
            std::future::ready(Ok(Accept::new(speak)))
        }
    }
    let (log, _guard) = Log::start();
    let layer = UpgradeLayer::new()
        .protocol("early", Panics)
        .protocol("late", Panics);
    let (server, tls) = tls_server(Via::Http1, layer).await;
    let mut peer = tls.connect(server.connect().await).await;
    peer.send(offer("early", &[])).await;
    assert_eq!(peer.response().await.0.status, 500);
    let reported = log.lines("handler panicked before accepting or rejecting");
    assert_eq!(reported.len(), 1, "{reported:?}");
    peer.send(offer("late", &[])).await;
    peer.head().await.assert_upgraded("late");
    // EOF with a close_notify.
    peer.expect_end().await;
    let reported = log.lines("session panicked");
    assert!(
        reported.len() == 1 && reported[0].contains("no future to speak"),
        "{reported:?}"
    );
}

#[tokio::test]
async fn s1_panic_in_accept_is_a_500() {
    struct Panics;
    impl ProtocolHandler for Panics {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            panic!("cannot decide on {}", request.uri());
        }
    }
    let (log, _guard) = Log::start();
    let layer = UpgradeLayer::new().protocol("echo", Panics);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let (refusal, body) = peer.response().await;
    refusal.assert_no_handshake();
    assert_eq!(
        (refusal.status, body.as_str()),
        (500, "Internal Server Error")
    );
    assert_eq!(
        log.lines("cannot decide on /").len(),
        2,
        "one for the panic, one for the refusal"
    );
    peer.send(head(&["GET /next HTTP/1.1", "Host: test"])).await;
    assert_eq!(peer.response().await.1, "plain GET /next");
}

#[tokio::test]
async fn s1_panic_in_wants_is_a_500() {
    let (log, _guard) = Log::start();
    let choosy = handler_fn(run_echo).when(|parts| panic!("cannot judge {}", parts.uri));
    let layer = UpgradeLayer::new().protocol("echo", choosy);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let (refusal, _) = peer.response().await;
    refusal.assert_no_handshake();
    assert_eq!(refusal.status, 500);
    assert_eq!(
        log.lines("cannot judge /").len(),
        2,
        "one for the panic, one for the refusal"
    );
    peer.send(head(&["GET /next HTTP/1.1", "Host: test"])).await;
    assert_eq!(peer.response().await.1, "plain GET /next");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("when it was dropped");
    }
}

/// The 403 of the layer in between still reaches the client.
#[tokio::test]
async fn s1_panic_while_dropping_an_unstarted_session_is_caught() {
    struct Armed;
    impl ProtocolHandler for Armed {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let bomb = Bomb;
            Ok(Accept::new(|_session| async move {
                drop(bomb);
                Ok(())
            }))
        }
    }
    let (log, _guard) = Log::start();
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        })
        .layer(UpgradeLayer::new().protocol("armed", Armed))
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("armed", &[])).await;
    assert_eq!(peer.head().await.status, 403);
    assert_eq!(log.lines("when it was dropped").len(), 1);
}

/// Counts its drops.
struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Never decides, and counts started and cancelled decisions.
#[derive(Clone, Default)]
struct Undecided {
    asked: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
}

impl ProtocolHandler for Undecided {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let _dropped = CountDrop(Arc::clone(&self.cancelled));
        self.asked.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test]
async fn s2_client_disconnect_cancels_the_decision() {
    let handler = Undecided::default();
    let layer = UpgradeLayer::new().protocol("echo", handler.clone());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    until(|| handler.asked.load(Ordering::SeqCst) == 1).await;
    drop(peer);
    until(|| handler.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn s2_accept_timeout_cancels_the_decision_if_early_bytes_hide_the_disconnect() {
    let handler = Undecided::default();
    let layer = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .accept_timeout(Duration::from_millis(1));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    // hyper does not read the socket while it has unread bytes, so it does not notice EOF.
    peer.send(offer("echo", &[]) + "early").await;
    drop(peer);
    until(|| handler.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn s2_accept_timeout_is_a_504() {
    let layer = UpgradeLayer::new()
        .protocol("echo", Undecided::default())
        .accept_timeout(Duration::from_millis(1));
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let (refusal, body) = peer.response().await;
    refusal.assert_no_handshake();
    assert_eq!(
        (refusal.status, body.as_str()),
        (504, "the upgrade was not accepted in time")
    );
    peer.send(head(&["GET /next HTTP/1.1", "Host: test"])).await;
    assert_eq!(peer.response().await.1, "plain GET /next");
}

#[tokio::test]
async fn s2_accept_timeout_cancels_the_decision_if_half_close_hides_the_disconnect() {
    let handler = Undecided::default();
    let layer = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .accept_timeout(Duration::from_millis(1));
    let server = Server::start_via(Via::HalfClose, layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    drop(peer);
    until(|| handler.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn s2_half_closed_client_is_answered_with_half_close() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start_via(Via::HalfClose, layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[]) + "all there is").await;
    peer.finish().await;
    peer.head().await.assert_upgraded("echo");
    assert_eq!(
        text(&peer.rest().await.expect("an orderly end")),
        "all there is"
    );
}

#[tokio::test]
async fn s2_session_of_a_disconnected_client_ends() {
    let handler = Counted::default();
    let layer = UpgradeLayer::new().protocol("echo", handler.clone());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    for (count, early) in [(1, ""), (2, "early")] {
        let mut peer = server.connect().await;
        peer.send(offer("echo", &[]) + early).await;
        until(|| handler.accepted() >= count).await;
        drop(peer);
        server.connections_ended().await;
        until(|| handler.held() == 0).await;
    }
}

#[tokio::test]
async fn s3_request_headers_are_not_copied() {
    let marked: Vec<String> = [
        "Cookie",
        "Authorization",
        "X-Custom",
        "Origin",
        "Via",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Extensions",
        "Keep-Alive",
        "Content-Type",
        "Date",
        "Server",
        "Set-Cookie",
        "Location",
        "Vary",
        "TE",
        "Trailer",
        "HTTP2-Settings",
        "Referer",
    ]
    .iter()
    .map(|name| format!("{name}: marked"))
    .collect();
    let marked: Vec<&str> = marked.iter().map(String::as_str).collect();
    struct Refuse;
    impl ProtocolHandler for Refuse {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Err(StatusCode::FORBIDDEN.into())
        }
    }
    let layer = UpgradeLayer::new()
        .protocol("no", Refuse)
        .protocol("never", Undecided::default())
        .protocol("echo", echo())
        .accept_timeout(Duration::from_millis(1))
        .body_limit(3)
        .unsupported(Unsupported::Refuse);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    for (offered, more, status) in [
        ("marked, echo", &[][..], 101),
        ("marked", &[], 426),
        ("no, marked", &[], 403),
        ("never", &[], 504),
        ("echo", &["Content-Length: 4"], 413),
    ] {
        let mut peer = server.connect().await;
        peer.send(offer(offered, &[&marked[..], more].concat()))
            .await;
        let head = peer.head().await;
        assert_eq!(head.status, status);
        let copied = head
            .lines
            .iter()
            .find(|(_, value)| value.contains("marked"));
        assert_eq!(copied, None, "{offered}");
    }
}

/// Asserts that a 101 becomes a 500 if a layer in between rebuilds the response without its session.
async fn assert_session_lost(rebuild: fn(Response<String>) -> Response<String>) {
    let (log, _guard) = Log::start();
    let handler = Counted::default();
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .map_response(move |response: Response<_>| rebuild(response.map(|_| String::new())))
        .layer(UpgradeLayer::new().protocol("echo", handler.clone()))
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let (refusal, body) = peer.response().await;
    refusal.assert_no_handshake();
    assert_eq!(
        (refusal.status, body.as_str()),
        (500, "the upgrade was lost on its way")
    );
    assert_eq!(refusal.get("added"), None);
    assert_eq!(refusal.get("connection").as_deref(), Some("close"));
    assert_eq!((handler.accepted(), handler.held()), (1, 0));
    let reported = log.lines("upgrade response lost its session");
    assert!(
        reported.len() == 1 && reported[0].contains("status=101"),
        "{reported:?}"
    );
    peer.finish().await;
    peer.expect_end().await;
    server.connections_ended().await;
    assert_eq!(handler.started(), 0);
}

#[tokio::test]
async fn s8_101_without_its_session_becomes_500() {
    assert_session_lost(|response| {
        let mut other = Response::new(String::new());
        *other.status_mut() = response.status();
        other.headers_mut().clone_from(response.headers());
        other
    })
    .await;
}

#[tokio::test]
async fn s8_clone_of_a_response_carries_no_session() {
    assert_session_lost(|response| response.clone()).await;
}

#[tokio::test]
async fn s8_rejection_with_101_becomes_500() {
    struct Confused;
    impl ProtocolHandler for Confused {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Err(Rejection::from(StatusCode::SWITCHING_PROTOCOLS)
                .header("upgrade", HeaderValue::from_static("echo")))
        }
    }
    let layer = UpgradeLayer::new().protocol("echo", Confused);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    let (refusal, _) = peer.response().await;
    refusal.assert_no_handshake();
    assert_eq!(refusal.status, 500);
}

#[tokio::test]
async fn s9_foreign_upgrader_is_left_alone() {
    let foreign = service_fn(|mut request: http::Request<_>| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let io = hyper_util::rt::TokioIo::new(upgrade.await.expect("an upgrade"));
            let (mut reader, mut writer) = tokio::io::split(io);
            tower_upgrade::copy(&mut reader, &mut writer)
                .await
                .expect("an echo");
        });
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert("connection", HeaderValue::from_static("upgrade"));
        response
            .headers_mut()
            .insert("upgrade", HeaderValue::from_static("foreign"));
        Ok::<_, Infallible>(response)
    });
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .layer(UpgradeLayer::new().protocol("echo", handler_fn(run_echo)))
        .service(foreign);
    let server = Server::start(service).await;
    for protocol in ["foreign", "echo"] {
        let mut peer = server.connect().await;
        peer.send(offer(protocol, &[])).await;
        peer.head().await.assert_upgraded(protocol);
        peer.expect_echo(b"hello").await;
    }
}
