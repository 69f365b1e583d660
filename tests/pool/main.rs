//! `client::Pool`: the connection that each request takes, and the end of each connection.
//!
//! Connections are in memory and the clock is paused, so that `settle` returns once no task has work left.

#[path = "../support/mod.rs"]
mod support;

mod backend;
mod bodies;
mod http2;
mod idle;
mod requests;
mod retry;
mod upgrades;
