//! Each time limit: its default, the outer layer's, and the inner layer's, in paused time.

use crate::support::plain;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::StreamBody;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::Instant,
};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, Parts, PendingUpgrade, ProtocolHandler, Rejection, Unsupported, UpgradeLayer,
    UpgradeRequest, Upgraded, testing,
};

/// Accepts, except at the path for rejections; its session ends at once.
#[derive(Clone)]
struct Brief;

impl ProtocolHandler for Brief {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        match request.uri().path() {
            "/no" => Err(StatusCode::FORBIDDEN.into()),
            _ => Ok(Accept::new(|_session| async { Ok(()) })),
        }
    }
}

/// How many seconds pass until what hangs is given up.
async fn until_body_is_late(
    protocol: &str,
    path: &str,
    status: u16,
    outer: UpgradeLayer,
    inner: UpgradeLayer,
) -> u64 {
    let service = ServiceBuilder::new()
        .layer(outer)
        .layer(inner.protocol("echo", Brief))
        .service(service_fn(plain));
    let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BoxError>>();
    let request = testing::request(protocol)
        .method("POST")
        .uri(path)
        .body(StreamBody::new(never))
        .expect("a request");
    let before = Instant::now();
    let exchange = testing::upgrade(service, request).await;
    let status = StatusCode::from_u16(status).expect("a status");
    let refusal = exchange.expect("a response").expect_refused(status);
    let connection = refusal.headers()["connection"].to_str();
    assert!(connection.expect("text").ends_with("close"), "{refusal:?}");
    before.elapsed().as_secs()
}

async fn until_body_of_a_switch_is_late(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    until_body_is_late("echo", "/", 408, outer, inner).await
}

async fn until_body_of_a_refusal_is_late(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    until_body_is_late("echo", "/no", 403, outer, inner).await
}

/// Of a request that the layer itself refuses, without a handler.
async fn until_body_of_no_protocol_is_late(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    let inner = inner.unsupported(Unsupported::Refuse);
    until_body_is_late("other", "/", 426, outer, inner).await
}

/// Sends a request through both layers, and expects it to be accepted.
async fn accepted<F>(outer: UpgradeLayer, inner: UpgradeLayer, upgrade: F)
where
    F: Future<Output = Result<Upgraded, BoxError>> + Send + 'static,
{
    let mut request: Request<String> = testing::request("echo")
        .body(String::new())
        .expect("a request");
    request
        .extensions_mut()
        .insert(PendingUpgrade::new(upgrade));
    let service = ServiceBuilder::new()
        .layer(outer)
        .layer(inner.protocol("echo", Brief))
        .service(service_fn(plain));
    let response = service.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
}

async fn until_the_switch_is_late(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    let (mut never_sent, io) = oneshot::channel();
    let before = Instant::now();
    accepted(outer, inner, async move { Ok(io.await?) }).await;
    never_sent.closed().await;
    before.elapsed().as_secs()
}

async fn until_the_end_is_late(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    let (dropped, is_dropped) = oneshot::channel();
    let io = Upgraded::from_parts(Parts {
        io: NeverEnds { _dropped: dropped },
        read_buf: Bytes::new(),
    });
    let before = Instant::now();
    accepted(outer, inner, async move { Ok(io) }).await;
    let _ = is_dropped.await;
    before.elapsed().as_secs()
}

/// Is never shut down.
struct NeverEnds {
    _dropped: oneshot::Sender<()>,
}

impl AsyncRead for NeverEnds {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for NeverEnds {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A limit at its default of 10 seconds, then set by the outer layer, by the inner, by both.
async fn assert_nests<F, Fut>(set: fn(UpgradeLayer, Duration) -> UpgradeLayer, measure: F)
where
    F: Fn(UpgradeLayer, UpgradeLayer) -> Fut,
    Fut: Future<Output = u64>,
{
    let with = |seconds: Option<u64>| match seconds {
        Some(seconds) => set(UpgradeLayer::new(), Duration::from_secs(seconds)),
        None => UpgradeLayer::new(),
    };
    for (outer, inner, expected) in [
        (None, None, 10),
        (Some(7), None, 7),
        (None, Some(50), 50),
        (Some(7), Some(90), 90),
        (Some(90), Some(7), 7),
    ] {
        let measuring = measure(with(outer), with(inner));
        let measured = tokio::time::timeout(Duration::from_secs(86_400), measuring).await;
        let measured = measured.expect("it is given up in the end");
        assert_eq!(measured, expected, "{outer:?} around {inner:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_timeout_nests() {
    let set = |layer: UpgradeLayer, limit: Duration| layer.body_timeout(limit);
    assert_nests(set, until_body_of_a_switch_is_late).await;
    assert_nests(set, until_body_of_a_refusal_is_late).await;
    assert_nests(set, until_body_of_no_protocol_is_late).await;
}

#[tokio::test(start_paused = true)]
async fn the_handshake_timeout_nests() {
    let set = |layer: UpgradeLayer, limit: Duration| layer.handshake_timeout(limit);
    assert_nests(set, until_the_switch_is_late).await;
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_timeout_nests() {
    let set = |layer: UpgradeLayer, limit: Duration| layer.shutdown_timeout(limit);
    assert_nests(set, until_the_end_is_late).await;
}

#[tokio::test]
async fn the_body_limit_nests() {
    const DEFAULT: u64 = 64 * 1024;
    let with = |limit: Option<u64>| match limit {
        Some(limit) => UpgradeLayer::new().body_limit(limit),
        None => UpgradeLayer::new(),
    };
    for (outer, inner, limit) in [
        (None, None, DEFAULT),
        (Some(7), None, 7),
        (None, Some(50), 50),
        (Some(7), Some(90), 90),
        (Some(90), Some(7), 7),
    ] {
        for length in [limit, limit + 1] {
            let service = ServiceBuilder::new()
                .layer(with(outer))
                .layer(with(inner).protocol("echo", Brief))
                .service(service_fn(plain));
            let body = "x".repeat(usize::try_from(length).expect("it fits"));
            let request = testing::request("echo").body(body).expect("a request");
            let exchange = testing::upgrade(service, request).await;
            let exchange = exchange.expect("a response");
            if length > limit {
                exchange.expect_refused(StatusCode::PAYLOAD_TOO_LARGE);
            } else {
                let _peer = exchange.expect_switched("echo");
            }
        }
    }
}
