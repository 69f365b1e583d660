//! The behaviour on the wire, rule by rule.
//!
//! Each test is named after its rule in `README.md`. The tests exchange raw bytes with a real hyper server over a
//! loopback socket, so that they check the bytes on the wire and not the API.

#[path = "../support/mod.rs"]
mod support;

mod any_protocol;
mod client;
mod closing;
mod connect;
mod http2;
mod kinds;
mod proxy;
mod refused_connect;
mod request_body;
mod resets;
mod safety;
mod server;
mod upgrade;
mod websocket;
