//! Relays bytes between two connections, and the proxies built on the relay.
//!
//! | | purpose | used with |
//! |---|---|---|
//! | [`ConnectProxy`] | a forward proxy: clients request a tunnel to a host and a port with CONNECT | [`UpgradeLayer::connect`](crate::UpgradeLayer::connect) |
//! | [`ReverseProxy`] | forwards upgrades of any protocol, and plain requests, to a backend | [`UpgradeLayer::any_protocol`](crate::UpgradeLayer::any_protocol), or [`protocol`](crate::UpgradeLayer::protocol) for selected protocols; for plain requests also as the inner service |
//! | [`relay`] | joins a session with another connection | a custom handler that has connected to its upstream |
//! | [`Relay`] | joins any two connections | anywhere |
//!
//! Both proxies are handlers: the surrounding layers provide limits, timeouts, authentication, drain and metrics.
//! Each proxy connects upstream before it answers: the client receives a success status only after the tunnel is
//! established, and an error status with the reason otherwise.
//!
//! Only a timeout detects a peer that disappears without closing its connection: set
//! [`UpgradeLayer::idle_timeout`](crate::UpgradeLayer::idle_timeout).

mod address;
mod connect;
pub(crate) mod dial;
mod direction;
pub(crate) mod failure;
pub(crate) mod happy_eyeballs;
pub(crate) mod host;
mod policy;
mod relay;
pub(crate) mod resolve;
mod reverse;
mod sender_check;
mod websocket;

pub use crate::io::socket::Socket;

pub use self::{
    connect::ConnectProxy,
    host::InvalidHost,
    policy::Policy,
    relay::{Relay, RelayEnd, Relayed, relay},
    resolve::Resolve,
    reverse::{ForwardFuture, Forwarding, ReverseProxy},
};
