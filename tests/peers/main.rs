//! Tests against other programs. If a program is not installed, its tests fail with the name of its Debian package.

#[path = "../support/mod.rs"]
mod support;

mod connect_proxy;
mod connect_udp;
mod curl;
#[cfg(feature = "deflate")]
mod deflate;
mod docker;
mod govern;
mod graceful;
mod haproxy;
#[cfg(feature = "http3")]
mod http3;
mod node;
mod process;
mod python_websockets;
mod reverse_proxy_chains;
mod reverse_proxy_example;
mod reverse_proxy_programs;
mod rolling_restart;
#[cfg(target_os = "linux")]
mod splice;
mod upcat;
