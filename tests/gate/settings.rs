//! Nested settings: the default, the outer layer's value, and the inner layer's value. Time is paused.

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
    Accept, BoxError, PendingUpgrade, ProtocolHandler, Rejection, Unsupported, UpgradeLayer,
    UpgradeRequest, Upgraded, UpgradedParts, testing,
};

/// Accepts every path except `/no`. Its sessions end at once.
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

/// Sends a request with an endless body, and returns the seconds until the layer answers `status`.
async fn seconds_until_body_timeout(
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
    let refusal = exchange.expect("a response").expect_rejected(status);
    let connection = refusal.headers()["connection"].to_str();
    assert!(connection.expect("text").ends_with("close"), "{refusal:?}");
    before.elapsed().as_secs()
}

async fn body_timeout_of_accepted_request(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    seconds_until_body_timeout("echo", "/", 408, outer, inner).await
}

async fn body_timeout_of_rejected_request(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    seconds_until_body_timeout("echo", "/no", 403, outer, inner).await
}

/// The layer itself refuses this request, without a handler.
async fn body_timeout_of_unsupported_protocol(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    let inner = inner.unsupported(Unsupported::Refuse);
    seconds_until_body_timeout("other", "/", 426, outer, inner).await
}

/// Sends a request with this upgrade through both layers, and expects 101.
async fn expect_accepted<F>(outer: UpgradeLayer, inner: UpgradeLayer, upgrade: F)
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

async fn handshake_timeout(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    let (mut never_sent, io) = oneshot::channel();
    let before = Instant::now();
    expect_accepted(outer, inner, async move { Ok(io.await?) }).await;
    never_sent.closed().await;
    before.elapsed().as_secs()
}

async fn shutdown_timeout(outer: UpgradeLayer, inner: UpgradeLayer) -> u64 {
    let (dropped, is_dropped) = oneshot::channel();
    let io = Upgraded::from_parts(UpgradedParts::new(
        NeverEnds { _dropped: dropped },
        Bytes::new(),
    ));
    let before = Instant::now();
    expect_accepted(outer, inner, async move { Ok(io) }).await;
    let _ = is_dropped.await;
    before.elapsed().as_secs()
}

/// An IO that never completes a shutdown.
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

/// Checks a time limit at its default of 10 seconds, then set by the outer layer, by the inner, and by both.
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
        let measured = measured.expect("the time limit is never reached");
        assert_eq!(measured, expected, "{outer:?} around {inner:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn inner_body_timeout_overrides_outer() {
    let set = |layer: UpgradeLayer, limit: Duration| layer.body_timeout(limit);
    assert_nests(set, body_timeout_of_accepted_request).await;
    assert_nests(set, body_timeout_of_rejected_request).await;
    assert_nests(set, body_timeout_of_unsupported_protocol).await;
}

#[tokio::test(start_paused = true)]
async fn inner_handshake_timeout_overrides_outer() {
    let set = |layer: UpgradeLayer, limit: Duration| layer.handshake_timeout(limit);
    assert_nests(set, handshake_timeout).await;
}

#[tokio::test(start_paused = true)]
async fn inner_shutdown_timeout_overrides_outer() {
    let set = |layer: UpgradeLayer, limit: Duration| layer.shutdown_timeout(limit);
    assert_nests(set, shutdown_timeout).await;
}

#[tokio::test]
async fn inner_body_limit_overrides_outer() {
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
            let body = "x".repeat(usize::try_from(length).expect("a small number"));
            let request = testing::request("echo").body(body).expect("a request");
            let exchange = testing::upgrade(service, request).await;
            let exchange = exchange.expect("a response");
            if length > limit {
                exchange.expect_rejected(StatusCode::PAYLOAD_TOO_LARGE);
            } else {
                let _peer = exchange.expect_upgraded("echo");
            }
        }
    }
}
