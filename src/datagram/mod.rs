//! HTTP datagrams (RFC 9297), and a proxy for UDP (RFC 9298).
//!
//! | | purpose | used with |
//! |---|---|---|
//! | [`ConnectUdp`] | a proxy for UDP: clients request a flow to a host and a port | [`UpgradeLayer::protocol`](crate::UpgradeLayer::protocol), for `connect-udp` |
//! | [`UdpRequest`], [`Udp`] | the client side of such a proxy | any service of the module [`client`](crate::client) |
//! | [`HttpDatagrams`] | sends and receives datagrams of any protocol | a [`Session`](crate::Session) of the server or of the client |
//! | [`Transport`], [`QuicDatagrams`] | the QUIC datagrams of a request stream | servers and clients of HTTP/3 |
//!
//! The same handlers serve HTTP/1.1, with `Upgrade`, and HTTP/2, with extended CONNECT. Both carry datagrams in capsules,
//! in a stream that is reliable and ordered: a lost packet of the TCP connection delays all datagrams after it. QUIC
//! through such a proxy works.
//!
//! Over HTTP/3, with the server of the module `http3`, its client, or another that provides a [`Transport`], datagrams are
//! QUIC datagrams, which are neither reliable nor ordered. Handlers and clients need no change.

mod capsule;
mod client;
mod connect_udp;
mod datagrams;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod relay;
mod send_queue;
mod socket;
mod template;
mod udp;

pub use self::{
    client::{Udp, UdpRequest},
    connect_udp::ConnectUdp,
    datagrams::HttpDatagrams,
    template::InvalidTemplate,
};
pub use crate::io::datagrams::{QuicDatagrams, SendError, Transport};
