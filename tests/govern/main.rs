//! Foreign upgraders inside a layer that governs them: code that upgrades with hyper's `OnUpgrade`, unchanged.

#[path = "../gate/matrix.rs"]
#[allow(dead_code)]
mod matrix;
#[path = "../support/mod.rs"]
mod support;

mod closing;
mod gate;
mod http2;
mod keep_alive;
mod observing;
mod request;
mod sessions;
#[cfg(unix)]
mod socket;
mod upgraders;
