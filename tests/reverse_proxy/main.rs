//! `ReverseProxy` between a raw client and a scripted backend: the bytes on both connections.

#[path = "../support/mod.rs"]
mod support;

mod backend_errors;
mod chain;
mod ends;
mod forwarded;
mod headers;
mod plain;
mod protocols;
mod refusals;
mod smuggling;
mod versions;
mod websocket_ends;
