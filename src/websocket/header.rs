//! Headers of received frames.

use tungstenite::protocol::frame::coding::OpCode;

/// The maximum length of a header.
pub(super) const MAX_LENGTH: usize = 14;

/// The header of a frame (RFC 6455 §5.2).
pub(super) struct Header {
    pub(super) is_final: bool,
    /// The reserved bits, in their place.
    pub(super) reserved: u8,
    pub(super) opcode: OpCode,
    pub(super) mask: Option<[u8; 4]>,
    /// The length of the payload.
    pub(super) payload: u64,
    pub(super) has_shortest_length: bool,
}

impl Header {
    /// Parses a header, and returns it with its own length. Returns `None` if it is incomplete.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (payload, shortest, rest) = match second & 0x7f {
            126 => {
                let (payload, rest) = rest.split_first_chunk()?;
                (u16::from_be_bytes(*payload).into(), 126, rest)
            }
            127 => {
                let (payload, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*payload), 1 << 16, rest)
            }
            payload => (payload.into(), 0, rest),
        };
        let (mask, rest) = match second & 0x80 {
            0 => (None, rest),
            _ => {
                let (mask, rest) = rest.split_first_chunk()?;
                (Some(*mask), rest)
            }
        };
        let header = Self {
            is_final: first & 0x80 != 0,
            reserved: first & 0x70,
            opcode: OpCode::from(first & 0x0f),
            mask,
            payload,
            has_shortest_length: payload >= shortest,
        };
        Some((header, bytes.len() - rest.len()))
    }
}
