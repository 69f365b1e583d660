//! Byte streams, independent of HTTP: type-erased connections, copying, pooled buffers, sockets.

pub(crate) mod box_io;
pub(crate) mod buffer;
pub(crate) mod copy;
#[cfg(feature = "datagram")]
pub(crate) mod datagrams;
pub(crate) mod linger;
pub(crate) mod parts;
pub(crate) mod pool;
pub(crate) mod read;
#[cfg(feature = "tunnel")]
pub(crate) mod socket;
#[cfg(all(feature = "tunnel", target_os = "linux"))]
pub(crate) mod splice;
#[cfg(any(feature = "datagram", feature = "http3"))]
pub(crate) mod varint;
