//! `ConnectUdp`, HTTP datagrams and the client side, over real sockets.

#[path = "../support/mod.rs"]
mod support;
