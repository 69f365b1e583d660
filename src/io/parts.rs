//! A connection in its parts.

use bytes::Bytes;

/// An IO, and what was read from it already.
#[derive(Debug)]
pub struct Parts<T> {
    /// The IO itself.
    pub io: T,
    /// What arrived behind the head of the request and was read with it: the first bytes of the
    /// new protocol.
    pub read_buf: Bytes,
}
