//! The suite in `suite.rs` runs the same handlers over each transport.

#[path = "../support/mod.rs"]
mod support;

#[cfg(all(feature = "datagram", feature = "http3", feature = "websocket"))]
mod clients;
mod flow;
mod suite;
mod transport;

use suite::suite;
use transport::{Http1, Http1Tls, Http2, Http2Tls};

#[tokio::test]
async fn http1() {
    suite::<Http1>().await;
}

#[tokio::test]
async fn http1_over_tls() {
    suite::<Http1Tls>().await;
}

#[tokio::test]
async fn http2() {
    suite::<Http2>().await;
}

#[tokio::test]
async fn http2_over_tls() {
    suite::<Http2Tls>().await;
}

#[cfg(all(feature = "client", feature = "http3"))]
#[tokio::test]
async fn http3() {
    suite::<transport::Http3>().await;
}
