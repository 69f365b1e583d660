//! Bytes between two connections: a relay, and the proxies made of it.
//!
//! | | what it is | where it goes |
//! |---|---|---|
//! | [`ConnectProxy`] | a forward proxy: clients ask for a tunnel to a host and a port, with CONNECT | [`UpgradeLayer::connect`](crate::UpgradeLayer::connect) |
//! | [`ReverseProxy`] | passes upgrades on to a backend, of any protocol | [`UpgradeLayer::any_protocol`](crate::UpgradeLayer::any_protocol), or [`protocol`](crate::UpgradeLayer::protocol) for some only |
//! | [`relay`] | joins a session with another connection | the end of a handler of one's own that has dialed |
//! | [`Relay`] | joins any two connections | anywhere |
//!
//! The two proxies are handlers: limits, timeouts, authentication, drain and metrics are those of the layers around
//! them. They ask before they answer: a client is told that it has its tunnel when it has it, and why not
//! otherwise.
//!
//! A tunnel whose peer has vanished without a word is noticed by nothing but a limit in time: set
//! [`UpgradeLayer::idle_timeout`](crate::UpgradeLayer::idle_timeout).

mod address;
mod connect;
mod dial;
mod direction;
mod failure;
pub(crate) mod host;
mod look;
mod policy;
mod race;
mod relay;
mod reverse;

pub use crate::io::socket::Socket;

pub use self::{
    connect::ConnectProxy,
    host::InvalidHost,
    policy::Policy,
    relay::{Relay, RelayEnd, Relayed, relay},
    reverse::{Forwarding, ReverseProxy},
};
