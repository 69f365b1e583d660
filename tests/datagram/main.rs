//! `ConnectUdp`, HTTP datagrams and the client side, over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod capsules;
mod client;
mod end;
mod flow;
mod proxy;
mod quic;
mod request;
mod target;
