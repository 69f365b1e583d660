//! HTTP/1.1: a client that shuts down its write side before it has the response.

use crate::support::{Peer, Server, Via, handlers::echo, offer, plain, soon, until};
use axum::{Router, routing::get};
use http::{Request, Response};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::UpgradeLayer;

/// A service that answers when notified, and counts received and cancelled requests.
#[derive(Clone, Default)]
struct Slow {
    asked: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
    answer: Arc<Notify>,
}

struct CountsDrop(Option<Arc<AtomicUsize>>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        if let Some(cancelled) = &self.0 {
            cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Slow {
    async fn call(self) -> &'static str {
        let mut guard = CountsDrop(Some(Arc::clone(&self.cancelled)));
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answer.notified().await;
        guard.0 = None;
        "answered"
    }

    async fn serve(&self, via: Via) -> Server {
        let slow = self.clone();
        let service = service_fn(move |_request: Request<Incoming>| {
            let slow = slow.clone();
            async move { Ok::<_, Infallible>(Response::new(String::from(slow.call().await))) }
        });
        Server::start_via(via, service).await
    }

    /// Sends a request and shuts down the peer's write side once the service has received the request.
    async fn ask_and_finish(&self, peer: &mut Peer<TcpStream>, request: String) {
        let before = self.asked.load(Ordering::SeqCst);
        peer.send(request).await;
        until(|| self.asked.load(Ordering::SeqCst) > before).await;
        peer.finish().await;
    }

    async fn wait_until_cancelled(&self) {
        until(|| self.cancelled.load(Ordering::SeqCst) == 1).await;
    }
}

/// Manual: "A client that half-closes counts as disconnected", and `src/lib.rs` under "Requirements on the server".
#[tokio::test]
async fn half_closed_client_is_not_answered_by_default() {
    for via in [Via::Http1, Via::Auto] {
        let slow = Slow::default();
        let server = slow.serve(via).await;
        let mut peer = server.connect().await;
        slow.ask_and_finish(&mut peer, offer("echo", &[])).await;
        slow.wait_until_cancelled().await;
        peer.expect_end().await;
    }
}

/// Manual: "A client that half-closes counts as disconnected".
#[tokio::test]
async fn half_closed_client_is_answered_with_half_close_set() {
    let slow = Slow::default();
    let server = slow.serve(Via::HalfClose).await;
    let mut peer = server.connect().await;
    slow.ask_and_finish(&mut peer, offer("echo", &[])).await;
    // When the request of another connection has arrived, hyper has had time to notice the first EOF.
    let mut other = server.connect().await;
    slow.ask_and_finish(&mut other, offer("echo", &[])).await;
    for answered in [&mut peer, &mut other] {
        slow.answer.notify_one();
        assert_eq!(answered.response().await.1, "answered");
    }
    assert_eq!(slow.cancelled.load(Ordering::SeqCst), 0);
}

/// Manual: "A client that half-closes counts as disconnected". hyper notices EOF only after it has read all bytes
/// before it.
#[tokio::test]
async fn half_close_behind_early_bytes_is_not_noticed() {
    let slow = Slow::default();
    let server = slow.serve(Via::Http1).await;
    let mut peer = server.connect().await;
    slow.ask_and_finish(&mut peer, offer("echo", &[]) + "early")
        .await;
    // When hyper has noticed the EOF of another connection, it has had time to notice the first one.
    let mut other = server.connect().await;
    slow.ask_and_finish(&mut other, offer("echo", &[])).await;
    slow.wait_until_cancelled().await;
    other.expect_end().await;
    slow.answer.notify_one();
    assert_eq!(peer.response().await.1, "answered");
    assert_eq!(slow.cancelled.load(Ordering::SeqCst), 1);
}

/// Manual: "A client that half-closes counts as disconnected". If `axum::serve` gets such a setting, document it there.
#[tokio::test]
async fn axum_serve_does_not_answer_half_closed_client() {
    let slow = Slow::default();
    let answer = get({
        let slow = slow.clone();
        move || slow.call()
    });
    let app = Router::new().route("/", answer);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut peer = Peer::new(TcpStream::connect(address).await.expect("loopback"));
    slow.ask_and_finish(&mut peer, offer("echo", &[])).await;
    slow.wait_until_cancelled().await;
    peer.expect_end().await;
    serving.abort();
}

/// Manual: "A client that half-closes counts as disconnected". After the upgrade response the session reads EOF.
#[tokio::test]
async fn half_close_after_101_is_eof_for_the_session() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    peer.send(b"last words").await;
    soon(peer.finish()).await;
    assert_eq!(peer.rest().await.expect("an orderly end"), b"last words");
}
