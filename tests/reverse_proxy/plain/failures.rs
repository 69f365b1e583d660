//! Failures of the backend, time limits, and clients that leave.

use super::{SECOND, front, get, http2_backend, pool, scripted};
use crate::{
    chain::{client, send_through},
    support::{
        Server, Via, clients::Scripted, h2::Client, head, log::Log, plain, soon, tunnel::Refuses,
    },
};
use bytes::Bytes;
use h2::Reason;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use std::{
    error::Error as _,
    sync::{Arc, Mutex},
};
use tokio::time::{Instant, sleep};
use tower::{Layer as _, ServiceBuilder, ServiceExt, service_fn, steer::Steer};
use tower_upgrade::{
    BoxError, RejectionReason, UpgradeLayer,
    client::{Body, Pool},
    tunnel::ReverseProxy,
};

#[tokio::test]
async fn unreachable_backend_becomes_502() {
    let (log, _guard) = Log::start();
    let refuses = Refuses::new();
    let proxy = ReverseProxy::new(pool(Via::Http1, refuses.address));
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&reasons);
    let app = UpgradeLayer::new().layer(proxy);
    let app = ServiceExt::<Request<Incoming>>::map_response(app, move |response: Response<_>| {
        let reason = response.extensions().get::<RejectionReason>();
        let reason = reason.map(|reason| format!("{reason}: {:?}", reason.source()));
        recorded.lock().expect("no panic").extend(reason);
        response
    });
    let front = Server::start(app).await;
    let mut client = front.connect().await;
    client.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
    let (head, body) = client.response().await;
    assert_eq!(
        (head.status, body.as_str()),
        (502, "the backend cannot be reached")
    );
    assert_eq!(
        head.get("content-type").as_deref(),
        Some("text/plain; charset=utf-8")
    );
    let lines = log.lines("request rejected");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("DEBUG") && lines[0].contains("status=502"),
        "{lines:?}"
    );
    let reasons = reasons.lock().expect("no panic").clone();
    assert!(reasons[0].contains("refused"), "{reasons:?}");
}

#[tokio::test]
async fn broken_backend_connection_becomes_502() {
    for (broken, why) in [
        ("", "the backend did not answer: the connection broke"),
        (
            "HTTP/1.1 200 O",
            "the backend did not answer: the connection broke",
        ),
        (
            "SSH-2.0-OpenSSH\r\n",
            "the backend did not answer: the response is not valid HTTP",
        ),
    ] {
        let (backend, front) = scripted().await;
        let (mut client, mut at_backend) = get(&front, &backend).await;
        at_backend.send(broken).await;
        at_backend.finish().await;
        let (head, body) = client.response().await;
        assert_eq!((head.status, body.as_str()), (502, why));
    }
}

#[tokio::test]
async fn unknown_client_error_becomes_502() {
    let failing = service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, BoxError>("out of capacity".into())
    });
    let front = front(ReverseProxy::new(failing)).await;
    let mut client = front.connect().await;
    client.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
    let (head, body) = client.response().await;
    assert_eq!(head.status, 502);
    assert!(!body.contains("capacity"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn late_response_becomes_504() {
    let silent = Server::start(service_fn(|request: Request<_>| async {
        sleep(1000 * SECOND).await;
        plain::<Incoming>(request).await
    }))
    .await;
    let own = || pool(Via::Http1, silent.address);
    let by_tower = ServiceBuilder::new().timeout(SECOND).service(own());
    // A client that is never ready.
    let unready = tower::limit::ConcurrencyLimit::new(own(), 0);
    for (proxy, seconds) in [
        (ReverseProxy::new(own()), 60),
        (ReverseProxy::new(own()).response_timeout(5 * SECOND), 5),
        (ReverseProxy::new(own()).response_timeout(None), 1000),
        (ReverseProxy::new(by_tower), 1),
        (ReverseProxy::new(unready).response_timeout(5 * SECOND), 5),
    ] {
        let start = Instant::now();
        let request = Request::get("/").header("host", "test").body(Body::empty());
        let response = proxy
            .oneshot(request.expect("a request"))
            .await
            .expect("infallible");
        let status = if seconds == 1000 { 200 } else { 504 };
        assert_eq!(response.status(), status);
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

/// The limit starts again with each frame of the request body.
#[tokio::test(start_paused = true)]
async fn response_timeout_counts_from_the_last_frame_of_the_request() {
    let reads = service_fn(|request: Request<Body>| async {
        use http_body_util::BodyExt as _;
        let _ = request.into_body().collect().await;
        std::future::pending::<Result<Response<Body>, BoxError>>().await
    });
    let frames = futures_util::stream::unfold(0, |sent| async move {
        sleep(4 * SECOND).await;
        let frame = http_body::Frame::data(Bytes::from_static(b"part"));
        (sent < 5).then_some((Ok::<_, BoxError>(frame), sent + 1))
    });
    let body = http_body_util::StreamBody::new(frames);
    let proxy = ReverseProxy::new(reads).response_timeout(5 * SECOND);
    let start = Instant::now();
    let request = Request::post("/").header("host", "test").body(body);
    let response = proxy
        .oneshot(request.expect("a request"))
        .await
        .expect("infallible");
    assert_eq!(response.status(), 504);
    // Five frames, the end 4 seconds after the last, and the limit.
    assert_eq!(start.elapsed().as_secs(), 5 * 4 + 4 + 5);
}

#[tokio::test]
async fn client_that_leaves_cancels_the_request() {
    // Before the response.
    let (backend, front1) = scripted().await;
    let (client, mut at_backend) = get(&front1, &backend).await;
    drop(client);
    at_backend.expect_end().await;
    // During the response.
    let (mut client, mut at_backend) = get(&front1, &backend).await;
    at_backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
        .await;
    client.head().await;
    drop(client);
    at_backend.expect_end().await;
    // With HTTP/2 on both sides only the stream ends.
    let (reset, was_reset) = tokio::sync::oneshot::channel();
    let address = http2_backend(move |_, mut respond| async move {
        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        reset.send(reason.expect("a reset")).expect("open");
    })
    .await;
    let front = front(ReverseProxy::new(pool(Via::Http2, address))).await;
    let mut client = Client::connect(front.connect().await).await;
    let request = Request::get("http://test/")
        .version(Version::HTTP_2)
        .body(());
    let (response, mut body) = client.send(request.expect("a request")).await;
    body.send_data(Bytes::new(), true).expect("open");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop((response, body));
    assert_eq!(soon(was_reset).await.expect("open"), Reason::CANCEL);
}

/// Upgrades and plain requests go through the same `Steer`.
#[tokio::test]
async fn steer_selects_the_backend_by_path() {
    let (api, web) = (Scripted::start().await, Scripted::start().await);
    let backends = [&api, &web].map(|backend| Pool::new(client(Via::Http1, backend.address)));
    let by_path = |request: &Request<Body>, _: &[_]| match request.uri().path().starts_with("/api/")
    {
        true => 0,
        false => 1,
    };
    let front = front(ReverseProxy::new(Steer::new(backends, by_path))).await;
    for (path, backend) in [("/api/users", &api), ("/index.html", &web)] {
        for more in [&[][..], &["Connection: Upgrade", "Upgrade: chat"]] {
            let line = format!("GET {path} HTTP/1.1");
            let request = [&[line.as_str(), "Host: test"], more].concat();
            let (seen, ..) = send_through(&front, backend, &head(&request)).await;
            assert!(seen.starts_with(&line), "{seen}");
        }
    }
}
