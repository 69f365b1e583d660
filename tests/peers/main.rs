//! Peers that nobody here wrote. They have to be installed: a test says which one is missing.

#[path = "../support/mod.rs"]
mod support;

mod curl;
mod docker;
mod example;
mod graceful;
mod haproxy;
mod node;
mod proxy;
mod reverse;
mod reverse_proxy;
#[cfg(target_os = "linux")]
mod splice;
mod upcat;
mod websocket;
