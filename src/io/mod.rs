//! Byte streams, independent of HTTP: type-erased connections, copying, pooled buffers, sockets.

pub(crate) mod box_io;
pub(crate) mod buffer;
pub(crate) mod copy;
pub(crate) mod linger;
pub(crate) mod parts;
pub(crate) mod pool;
pub(crate) mod read;
#[cfg(feature = "tunnel")]
pub(crate) mod socket;
#[cfg(all(feature = "tunnel", target_os = "linux"))]
pub(crate) mod splice;
#[cfg(feature = "datagram")]
pub(crate) mod varint;
