//! The behaviour on the wire, rule by rule.
//!
//! A test is named after the rule that it shows. It speaks raw bytes over a loopback socket to a
//! real hyper server, so that it checks what a peer sees and not what a type says. The rules are in
//! `README.md` beside this file.

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
