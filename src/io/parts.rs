//! The parts of a connection.

use bytes::Bytes;

/// An IO, and the bytes that were already read from it.
#[derive(Debug)]
pub struct Parts<T> {
    /// The IO itself.
    pub io: T,
    /// Buffered bytes that were read together with the head of the request: the first bytes of the new
    /// protocol.
    pub read_buf: Bytes,
}
