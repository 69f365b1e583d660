//! `Relay` and `relay`: two connections, joined. The suite runs over both gears.

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod session;
mod suite;
mod wire;

use suite::suite;
use wire::Wire;

#[tokio::test]
async fn tcp_to_tcp() {
    suite(Wire::Tcp, Wire::Tcp).await;
}

#[tokio::test]
async fn unix_to_unix() {
    suite(Wire::Unix, Wire::Unix).await;
}

#[tokio::test]
async fn tcp_to_unix() {
    suite(Wire::Tcp, Wire::Unix).await;
}

#[tokio::test]
async fn tcp_to_what_is_no_socket() {
    suite(Wire::Tcp, Wire::Hidden).await;
}

#[tokio::test]
async fn what_is_no_socket_to_unix() {
    suite(Wire::Hidden, Wire::Unix).await;
}

#[tokio::test]
async fn no_socket_at_all() {
    suite(Wire::Hidden, Wire::Hidden).await;
}
