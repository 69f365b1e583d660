//! The parts of a connection.

use bytes::Bytes;

/// A connection, and the bytes that were already read from it.
///
/// [`Upgraded::into_parts`](crate::Upgraded::into_parts) and [`Upgraded::downcast`](crate::Upgraded::downcast) return
/// it, and [`Upgraded::from_parts`](crate::Upgraded::from_parts) takes it.
#[derive(Debug)]
#[non_exhaustive]
pub struct UpgradedParts<T> {
    /// The connection.
    pub io: T,
    /// Bytes that were read from `io` together with the head of the request: the first bytes of the new protocol.
    pub read_buf: Bytes,
}

impl<T> UpgradedParts<T> {
    /// Creates the parts of a connection. Pass an empty `read_buf` if no bytes after the head of the request were read.
    ///
    /// ```
    /// use tower_upgrade::UpgradedParts;
    ///
    /// let (io, _peer) = tokio::io::duplex(64);
    /// let parts = UpgradedParts::new(io, "early");
    /// assert_eq!(parts.read_buf, "early");
    /// ```
    pub fn new(io: T, read_buf: impl Into<Bytes>) -> Self {
        let read_buf = read_buf.into();
        Self { io, read_buf }
    }
}
