//! The boundaries of WebSocket frames in a byte stream that arrives in any parts (RFC 6455 §5.2).
//!
//! The first input byte is a number of lengths, the next bytes are these lengths, and the rest is the stream. The
//! stream arrives in parts of these lengths, repeated until its end, or in one part without a length.

use self::tracked::Frames;
use crate::parts;

/// The source file of the crate, unchanged.
#[allow(dead_code)]
#[path = "../../src/frames.rs"]
mod tracked;

pub fn run(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    let (lengths, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    let frames = Frame::all(stream);
    let expected = |at: usize| {
        let is_boundary = |frame: &Frame| frame.end == at as u128;
        let is_close = |frame: &Frame| frame.opcode == 8 && frame.payload <= at;
        (
            at == 0 || frames.iter().any(is_boundary),
            frames.iter().any(is_close),
        )
    };

    let mut tracked = Frames::default();
    let mut at = 0;
    assert_eq!((tracked.is_between(), tracked.has_closed()), expected(at));
    for length in parts::lengths(lengths, stream.len(), 1) {
        tracked.follow(&stream[at..at + length]);
        at += length;
        let found = (tracked.is_between(), tracked.has_closed());
        assert_eq!(found, expected(at), "after {at} bytes");
    }
    assert_eq!(at, stream.len());
}

/// A frame whose header is complete.
struct Frame {
    opcode: u8,
    /// The offset of the payload.
    payload: usize,
    /// The offset of the next frame, which may be far beyond the end of the stream.
    end: u128,
}

impl Frame {
    /// Decodes a whole stream at once. The length of a payload need not have the shortest encoding.
    fn all(stream: &[u8]) -> Vec<Self> {
        let mut frames = Vec::new();
        let mut start = 0;
        while let Some(frame) = Self::at(start, stream) {
            let end = usize::try_from(frame.end);
            frames.push(frame);
            match end {
                Ok(end) => start = end,
                Err(_) => break,
            }
        }
        frames
    }

    fn at(start: usize, stream: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = stream.get(start..)? else {
            return None;
        };
        let (extended, length) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (8, u64::from_be_bytes(*rest.first_chunk()?)),
            length => (0, u64::from(length)),
        };
        let key = if second & 0x80 == 0 { 0 } else { 4 };
        if rest.len() < extended + key {
            return None;
        }
        let payload = start + 2 + extended + key;
        Some(Self {
            opcode: first & 0x0f,
            payload,
            end: payload as u128 + u128::from(length),
        })
    }
}
