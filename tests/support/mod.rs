//! Shared by the tests: a hyper server on a loopback socket, a peer that sends and reads raw bytes, and more.

#![allow(dead_code, unreachable_pub, missing_debug_implementations)]

pub mod build;
#[cfg(feature = "client")]
pub mod clients;
pub mod frames;
pub mod h2;
#[cfg(all(feature = "client", feature = "http3"))]
pub mod h3;
pub mod handlers;
mod head;
pub mod log;
pub mod meter;
mod peer;
mod server;
pub mod spans;
pub mod tcp;
pub mod tls;
#[cfg(feature = "tunnel")]
pub mod tunnel;
pub mod websocket;

#[allow(unused_imports)] // not every test target uses all of them
pub use self::{
    head::{Head, head, offer},
    peer::{AnyIo, Peer, text},
    server::{Server, Via},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use std::{convert::Infallible, future::Future, time::Duration};

/// The time after which a wait counts as a hang.
const HANG: Duration = Duration::from_secs(30);

/// Waits for a future, and panics with the caller's location if it hangs.
#[track_caller]
pub fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(HANG, future).await {
            Ok(output) => output,
            Err(_) => panic!("hangs at {caller}"),
        }
    }
}

/// Polls a condition until it is true.
#[track_caller]
pub fn until(is_so: impl Fn() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
}

/// The inner service of most tests: answers `plain`, the method and the path.
pub async fn plain<B: Body>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("plain {} {}", request.method(), request.uri().path());
    Ok(Response::new(Full::new(Bytes::from(text))))
}
