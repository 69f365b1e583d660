//! The client side: the result of a call over each inner client.

#[path = "../support/mod.rs"]
mod support;

mod dial;
mod failures;
mod futures;
mod http2;
mod inner_clients;
mod tunnel;
