//! Bytes: connections without their types, copying, pooled buffers, sockets. No HTTP here.

pub(crate) mod box_io;
pub(crate) mod buffer;
pub(crate) mod copy;
pub(crate) mod linger;
pub(crate) mod parts;
pub(crate) mod pool;
#[cfg(feature = "tunnel")]
pub(crate) mod socket;
#[cfg(all(feature = "tunnel", target_os = "linux"))]
pub(crate) mod splice;
