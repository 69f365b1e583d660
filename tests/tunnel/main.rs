//! `ConnectProxy`. `tests/conformance` tests its HTTP messages.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod policy;
mod resolver;
