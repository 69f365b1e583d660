//! Errors of the connection to the backend: the proxy answers 502 or 504.

use crate::{
    chain::{client, front, proxy, scripted, send_through},
    support::{Server, Via, clients::Scripted, handlers::echo, log::Log, offer, plain},
};
use http::Response;
use std::{
    error::Error as _,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, RejectionReason, UpgradeLayer, UpgradeRequest,
    client::Body, tunnel::ReverseProxy,
};

/// The rejection reasons that an outer layer finds in response extensions.
type Reasons = Arc<Mutex<Vec<String>>>;

async fn front_with_reasons(proxy: ReverseProxy) -> (Server, Reasons) {
    let reasons = Reasons::default();
    let service = UpgradeLayer::new()
        .any_protocol(proxy)
        .layer(service_fn(plain));
    let recorded = Arc::clone(&reasons);
    let service = service.map_response(move |response: Response<_>| {
        if let Some(reason) = response.extensions().get::<RejectionReason>() {
            let reason = format!("{reason}: {:?}", reason.source());
            recorded.lock().expect("no panic").push(reason);
        }
        response
    });
    (Server::start_via(Via::Auto, service).await, reasons)
}

#[tokio::test]
async fn unreachable_backend_becomes_502() {
    let (log, _guard) = Log::start();
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = unused.local_addr().expect("bound");
    drop(unused);
    let (front, reasons) = front_with_reasons(proxy(Via::Http1, address)).await;
    let mut peer = front.connect().await;
    peer.send(offer("chat", &[])).await;
    let (head, body) = peer.response().await;
    assert_eq!(head.status, 502);
    // The response does not contain the backend's address.
    assert_eq!(body, "the backend cannot be reached");
    let reasons = reasons.lock().expect("no panic").clone();
    assert!(reasons[0].contains("refused"), "{reasons:?}");
    assert_eq!(log.lines("the backend cannot be reached").len(), 1);
    // The client connection stays open.
    peer.send(offer("h2c", &[])).await;
    assert_eq!(peer.response().await.1, "plain GET /");
}

#[tokio::test]
async fn broken_backend_connection_becomes_502() {
    let reset = "the backend did not answer: the connection broke";
    for (broken, why) in [
        ("", reset),
        ("HTTP/1.1 101 Swit", reset),
        (
            "SSH-2.0-OpenSSH\r\n",
            "the backend did not answer: the response is not valid HTTP",
        ),
    ] {
        let (backend, front) = scripted().await;
        let (_, mut client, mut at_backend) =
            send_through(&front, &backend, &offer("chat", &[])).await;
        at_backend.send(broken).await;
        at_backend.finish().await;
        let (head, body) = client.response().await;
        assert_eq!((head.status, body.as_str()), (502, why));
    }
}

/// Never decides.
struct NeverDecides;

impl ProtocolHandler for NeverDecides {
    async fn accept(&self, _: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn backend_timeout_becomes_504() {
    let layer = UpgradeLayer::new()
        .protocol("chat", NeverDecides)
        .accept_timeout(None);
    let backend = Server::start(layer.layer(service_fn(plain))).await;
    let second = Duration::from_secs(1);
    let by_proxy = proxy(Via::Http1, backend.address).response_timeout(second);
    let by_tower = ServiceBuilder::new()
        .timeout(second)
        .service(client(Via::Http1, backend.address));
    for proxy in [by_proxy, ReverseProxy::new(by_tower)] {
        let (front, reasons) = front_with_reasons(proxy).await;
        let mut peer = front.connect().await;
        let start = tokio::time::Instant::now();
        peer.send(offer("chat", &[])).await;
        let (head, body) = peer.response().await;
        assert_eq!(head.status, 504);
        assert_eq!(body, "the backend did not answer in time");
        // The 30 second timeouts of the layers have not passed.
        assert!(start.elapsed() < 2 * second, "{:?}", start.elapsed());
        assert_eq!(reasons.lock().expect("no panic").len(), 1);
    }
}

/// The proxy finds the client's error inside errors of layers around the client.
#[tokio::test]
async fn rejection_passes_through_client_layers() {
    let backend = Scripted::start().await;
    let layered = ServiceBuilder::new()
        .timeout(Duration::from_secs(60))
        .service(client(Via::Http1, backend.address));
    let front = front(ReverseProxy::new(layered)).await;
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &offer("chat", &[])).await;
    at_backend
        .send("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 5\r\n\r\nshort")
        .await;
    let (head, body) = client.response().await;
    assert_eq!((head.status, body.as_str()), (418, "short"));
}

#[tokio::test]
async fn request_impossible_over_http2_becomes_502() {
    let layer = UpgradeLayer::new().protocol("chat", echo());
    let plain = layer.layer(service_fn(plain));
    let without = Server::start_via(Via::AutoWithoutExtendedConnect, plain.clone()).await;
    let with = Server::start_via(Via::Http2, plain).await;
    let post = offer("chat", &["Content-Length: 4"]).replace("GET", "POST") + "body";
    for (backend, request) in [(&without, offer("chat", &[])), (&with, post)] {
        let front = front(proxy(Via::Http2, backend.address)).await;
        let mut peer = front.connect().await;
        peer.send(request).await;
        let (head, body) = peer.response().await;
        assert_eq!(head.status, 502);
        assert_eq!(body, "the backend does not support this request");
    }
}

/// A layer around the client fails with an unrelated error.
#[tokio::test]
async fn unknown_client_error_becomes_502() {
    let failing = service_fn(|_: http::Request<Body>| async {
        Err::<Response<Body>, BoxError>("out of capacity".into())
    });
    let (front, reasons) = front_with_reasons(ReverseProxy::new(failing)).await;
    let mut peer = front.connect().await;
    peer.send(offer("chat", &[])).await;
    let (head, body) = peer.response().await;
    assert_eq!(head.status, 502);
    assert!(!body.contains("capacity"), "{body}");
    let reasons = reasons.lock().expect("no panic").clone();
    assert!(reasons[0].contains("capacity"), "{reasons:?}");
}
