//! The manual's claims about other layers (`src/manual/placement.rs`): where to put them, and that they do not
//! count sessions.

use crate::{
    matrix::{Boxed, boxed},
    support::{Server, handlers::echo, head, offer, plain},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use std::{convert::Infallible, time::Duration};
use tower::{
    BoxError, Layer as _, Service, ServiceBuilder, ServiceExt as _,
    buffer::BufferLayer,
    limit::{ConcurrencyLimitLayer, RateLimitLayer},
    load_shed::LoadShedLayer,
    service_fn,
};
use tower_http::{cors::CorsLayer, normalize_path::NormalizePathLayer};
use tower_upgrade::{ProtocolHandler as _, UpgradeLayer};

type Wrap = fn(Boxed) -> Boxed;

/// Layers that fail with an error, delay requests, or add headers.
const LAYERS: &[(&str, Wrap)] = &[
    ("ConcurrencyLimitLayer", |inner| {
        boxed(ConcurrencyLimitLayer::new(1).layer(inner))
    }),
    ("LoadShedLayer over ConcurrencyLimitLayer", |inner| {
        let limited = ConcurrencyLimitLayer::new(1).layer(inner);
        errors_become_503(LoadShedLayer::new().layer(limited))
    }),
    ("BufferLayer over RateLimitLayer", |inner| {
        let limited = RateLimitLayer::new(100, Duration::from_secs(60)).layer(inner);
        errors_become_503(BufferLayer::new(8).layer(limited))
    }),
    ("CorsLayer", |inner| {
        boxed(CorsLayer::permissive().layer(inner))
    }),
];

/// Turns errors of the service into 503, as axum's `HandleErrorLayer` does.
fn errors_become_503<S, B>(service: S) -> Boxed
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    boxed(service_fn(move |request| {
        let service = service.clone();
        async {
            Ok::<_, Infallible>(match service.oneshot(request).await {
                Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
                Err(_) => {
                    let mut response = Response::new(UnsyncBoxBody::default());
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    response
                }
            })
        }
    }))
}

#[tokio::test]
async fn limit_layers_pass_the_101_and_do_not_count_sessions() {
    for (name, wrap) in LAYERS {
        let decides = UpgradeLayer::new().protocol("echo", echo());
        let service = UpgradeLayer::new().layer(wrap(boxed(decides.layer(service_fn(plain)))));
        let server = Server::start(service).await;
        // `ConcurrencyLimitLayer` admits one request at a time.
        let mut peers = Vec::new();
        for _ in 0..3 {
            let mut peer = server.connect().await;
            peer.send(offer("echo", &["Origin: http://else.where"]))
                .await;
            peer.head().await.assert_upgraded("echo");
            peers.push(peer);
        }
        for peer in &mut peers {
            peer.expect_echo(name.as_bytes()).await;
        }
    }
}

/// `NormalizePathLayer` works between the outermost layer and the layer that decides.
#[tokio::test]
async fn path_is_normalized_before_handler_is_chosen() {
    let at_chat = echo().when(|parts| parts.uri.path() == "/chat");
    let service = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .layer(NormalizePathLayer::trim_trailing_slash())
        .layer(
            UpgradeLayer::new()
                .protocol("echo", at_chat)
                .connect(echo()),
        )
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[]).replacen('/', "/chat/", 1))
        .await;
    peer.head().await.assert_upgraded("echo");
    peer.expect_echo(b"hello").await;
    // A CONNECT has no path, so `NormalizePathLayer` does not change it.
    let mut peer = server.connect().await;
    peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
        .await;
    assert_eq!(peer.head().await.status, 200);
    peer.expect_echo(b"hello").await;
}
