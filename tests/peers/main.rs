//! Tests against other programs. Each has to be installed: a test fails with the package that is missing.

#[path = "../support/mod.rs"]
mod support;

mod connect_proxy;
mod curl;
mod docker;
mod graceful;
mod node;
mod process;
mod python_websockets;
mod reverse_proxy_chains;
mod reverse_proxy_example;
mod rolling_restart;
#[cfg(target_os = "linux")]
mod splice;
mod upcat;
