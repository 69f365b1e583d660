//! Bytes between two connections. What a forward proxy says on the wire is in `tests/conformance`.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod policy;
