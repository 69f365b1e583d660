//! C3 and C5: bytes behind a refused CONNECT on HTTP/1 are never read as a request (RFC 9931).

use crate::connect::{SMUGGLED, connect_to, counting, expect_refusal};
use crate::server::{Refuse, echo_server};
use crate::support::{
    Server, Via,
    handlers::{Counted, echo, run_echo},
    head, plain, soon,
};
use http::{HeaderValue, Response, StatusCode, header};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tower::{Layer as _, service_fn};
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Unsupported, UpgradeLayer, UpgradeRequest,
};

#[tokio::test]
async fn c3_bytes_after_a_connect_refused_by_a_handler_are_ignored() {
    for via in [Via::Http1, Via::Auto, Via::HalfClose] {
        let asked = Arc::new(AtomicUsize::new(0));
        let layer = UpgradeLayer::new().connect(Refuse);
        let server = Server::start_via(via, layer.layer(counting(&asked))).await;
        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
        let (_, body) = expect_refusal(&mut peer, 403).await;
        assert_eq!(body, "not you");
        server.connections_ended().await;
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn c3_bytes_after_a_connect_refused_by_the_inner_service_are_ignored() {
    let pass = UpgradeLayer::new()
        .protocol("echo", echo())
        .unsupported(Unsupported::Pass);
    let declining = UpgradeLayer::new().connect(echo().when(|_parts| false));
    for layer in [UpgradeLayer::new(), pass, declining] {
        let asked = Arc::new(AtomicUsize::new(0));
        let server = Server::start(layer.layer(counting(&asked))).await;
        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
        expect_refusal(&mut peer, 404).await;
        server.connections_ended().await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn c3_refusal_reaches_a_client_that_still_sends() {
    let server = echo_server(UpgradeLayer::new().connect(Refuse)).await;
    let requests = [
        connect_to("test:1", &[]),
        head(&["CONNECT test:1 HTTP/1.0"]),
    ];
    for request in requests.iter().cycle().take(20) {
        let mut peer = server.connect().await;
        peer.send(request).await;
        peer.send(vec![b'x'; 500_000]).await;
        expect_refusal(&mut peer, 403).await;
    }
}

#[tokio::test]
async fn c3_long_refusal_is_complete() {
    /// More than the send buffer of any socket.
    const LENGTH: usize = 20_000_000;
    struct Long;
    impl ProtocolHandler for Long {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Err(Rejection::new(StatusCode::FORBIDDEN, "x".repeat(LENGTH)))
        }
    }
    let server = echo_server(UpgradeLayer::new().connect(Long)).await;
    let mut peer = server.connect().await;
    peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
    let (_, body) = expect_refusal(&mut peer, 403).await;
    assert_eq!(body.len(), LENGTH);
}

/// hyper hands over the connection whatever the response, so the layer must not leave it to inner services.
#[tokio::test]
async fn c3_foreign_upgrader_inside_does_not_get_the_connection() {
    let taken = Arc::new(AtomicUsize::new(0));
    let foreign = service_fn({
        let taken = Arc::clone(&taken);
        move |mut request: http::Request<hyper::body::Incoming>| {
            let taken = Arc::clone(&taken);
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                if upgrade.await.is_ok() {
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            });
            let mut response = Response::new("no".to_owned());
            *response.status_mut() = StatusCode::FORBIDDEN;
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        }
    });
    let server = Server::start(UpgradeLayer::new().layer(foreign)).await;
    let mut peer = server.connect().await;
    peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
    expect_refusal(&mut peer, 403).await;
    server.connections_ended().await;
    assert_eq!(taken.load(Ordering::SeqCst), 0);
}

/// A layer around has taken the `OnUpgrade` out of the request.
#[tokio::test]
async fn c3_connect_without_its_upgrade_is_refused_and_closes() {
    for (status, sent) in [(StatusCode::OK, 501), (StatusCode::NOT_FOUND, 404)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let inner = service_fn(move |_: http::Request<hyper::body::Incoming>| {
            count.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new("an answer".to_owned());
            *response.status_mut() = status;
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let service = tower::ServiceBuilder::new()
            .map_request(|mut request: http::Request<_>| {
                let extensions = request.extensions_mut();
                extensions.remove::<hyper::upgrade::OnUpgrade>();
                request
            })
            .layer(UpgradeLayer::new())
            .service(inner);
        let server = Server::start(service).await;
        let mut peer = server.connect().await;
        peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
        expect_refusal(&mut peer, sent).await;
        server.connections_ended().await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn c5_407_from_a_layer_around_reaches_the_client() {
    let tunnel = Counted::default();
    #[allow(
        clippy::result_large_err,
        reason = "tower-http wants the response itself"
    )]
    let auth = ValidateRequestHeaderLayer::custom(|request: &mut http::Request<_>| {
        if request.headers().contains_key(header::PROXY_AUTHORIZATION) {
            return Ok(());
        }
        let mut response = Response::default();
        *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let challenge = HeaderValue::from_static("Basic realm=\"test\"");
        response
            .headers_mut()
            .insert(header::PROXY_AUTHENTICATE, challenge);
        Err(response)
    });
    let service = tower::ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .layer(auth)
        .layer(UpgradeLayer::new().connect(tunnel.clone()))
        .service(service_fn(plain));
    let server = Server::start(service).await;
    let mut peer = server.connect().await;
    peer.send(connect_to("test:1", &[]) + SMUGGLED).await;
    let (refusal, _) = expect_refusal(&mut peer, 407).await;
    assert_eq!(
        refusal.get("proxy-authenticate").as_deref(),
        Some("Basic realm=\"test\"")
    );
    assert_eq!(tunnel.accepted(), 0);

    let mut peer = server.connect().await;
    peer.send(connect_to(
        "test:1",
        &["Proxy-Authorization: Basic YW5uOg=="],
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    peer.expect_echo(b"hello").await;
    assert_eq!(tunnel.started(), 1);
}

#[tokio::test]
async fn c3_panic_or_timeout_in_accept_closes() {
    struct Panics;
    impl ProtocolHandler for Panics {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            if request.port() == Some(1) {
                panic!("on purpose");
            }
            std::future::pending::<()>().await;
            Ok(Accept::new(run_echo))
        }
    }
    let layer = UpgradeLayer::new()
        .connect(Panics)
        .accept_timeout(std::time::Duration::from_millis(1));
    let server = echo_server(layer).await;
    for (target, status) in [("test:1", 500), ("test:2", 504)] {
        let mut peer = server.connect().await;
        peer.send(connect_to(target, &[]) + SMUGGLED).await;
        soon(expect_refusal(&mut peer, status)).await;
    }
}
