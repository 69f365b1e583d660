//! HTTP/1.1: a client that shuts its side down before the response.

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

/// A service that responds on demand, and counts calls and dropped calls.
#[derive(Clone, Default)]
struct Slow {
    asked: Arc<AtomicUsize>,
    given_up: Arc<AtomicUsize>,
    answer: Arc<Notify>,
}

struct Unanswered(Option<Arc<AtomicUsize>>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(given_up) = &self.0 {
            given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Slow {
    async fn call(self) -> &'static str {
        let mut unanswered = Unanswered(Some(Arc::clone(&self.given_up)));
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answer.notified().await;
        unanswered.0 = None;
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

    /// Sends a request, and shuts the peer's side down when the service has it.
    async fn ask_and_finish(&self, peer: &mut Peer<TcpStream>, request: String) {
        let before = self.asked.load(Ordering::SeqCst);
        peer.send(request).await;
        until(|| self.asked.load(Ordering::SeqCst) > before).await;
        peer.finish().await;
    }

    async fn is_given_up(&self) {
        until(|| self.given_up.load(Ordering::SeqCst) == 1).await;
    }
}

/// Manual: "A client that half-closes counts as gone". `src/lib.rs` says it under "What the server has
/// to do".
#[tokio::test]
async fn without_half_close_a_client_that_shuts_its_side_down_is_not_answered() {
    for via in [Via::Http1, Via::Auto] {
        let slow = Slow::default();
        let server = slow.serve(via).await;
        let mut peer = server.connect().await;
        slow.ask_and_finish(&mut peer, offer("echo", &[])).await;
        slow.is_given_up().await;
        peer.expect_end().await;
    }
}

/// Manual: "A client that half-closes counts as gone".
#[tokio::test]
async fn with_half_close_a_client_that_shuts_its_side_down_is_answered() {
    let slow = Slow::default();
    let server = slow.serve(Via::HalfClose).await;
    let mut peer = server.connect().await;
    slow.ask_and_finish(&mut peer, offer("echo", &[])).await;
    // Another connection is accepted and asks: hyper had every chance to see the first one's end.
    let mut other = server.connect().await;
    slow.ask_and_finish(&mut other, offer("echo", &[])).await;
    for answered in [&mut peer, &mut other] {
        slow.answer.notify_one();
        assert_eq!(answered.response().await.1, "answered");
    }
    assert_eq!(slow.given_up.load(Ordering::SeqCst), 0);
}

/// Manual: "A client that half-closes counts as gone": hyper sees an end only when it has taken all
/// bytes before it.
#[tokio::test]
async fn early_bytes_hide_the_end_from_hyper() {
    let slow = Slow::default();
    let server = slow.serve(Via::Http1).await;
    let mut peer = server.connect().await;
    slow.ask_and_finish(&mut peer, offer("echo", &[]) + "early")
        .await;
    // Another connection, whose end is seen: hyper had every chance to see the first one's.
    let mut other = server.connect().await;
    slow.ask_and_finish(&mut other, offer("echo", &[])).await;
    slow.is_given_up().await;
    other.expect_end().await;
    slow.answer.notify_one();
    assert_eq!(peer.response().await.1, "answered");
    assert_eq!(slow.given_up.load(Ordering::SeqCst), 1);
}

/// Manual: "A client that half-closes counts as gone": if `axum::serve` gets such a setting, or has
/// it always, say how.
#[tokio::test]
async fn axum_serve_takes_a_client_that_half_closes_for_gone() {
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
    slow.is_given_up().await;
    peer.expect_end().await;
    serving.abort();
}

/// Manual: "A client that half-closes counts as gone": after the switch it is an end like any other.
#[tokio::test]
async fn after_the_switch_a_half_close_is_the_sessions_eof() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_switched("echo");
    peer.send(b"last words").await;
    soon(peer.finish()).await;
    assert_eq!(peer.rest().await.expect("an end in order"), b"last words");
}
