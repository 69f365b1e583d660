//! Bytes between two connections. `tests/conformance` tests the messages of a forward proxy.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod policy;
mod resolver;
