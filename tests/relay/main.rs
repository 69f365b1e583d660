//! `Relay` and `relay` between two connections. The suite runs with copying and with splicing.

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
async fn tcp_to_hidden_socket() {
    suite(Wire::Tcp, Wire::Hidden).await;
}

#[tokio::test]
async fn hidden_socket_to_unix() {
    suite(Wire::Hidden, Wire::Unix).await;
}

#[tokio::test]
async fn hidden_socket_to_hidden_socket() {
    suite(Wire::Hidden, Wire::Hidden).await;
}
