//! Capsules (RFC 9297 §3).

use crate::io::varint;
use std::{borrow::Cow, fmt, io};

/// The type of a capsule that contains an HTTP datagram.
pub(super) const DATAGRAM: u64 = 0;

/// The maximum length of the header of a capsule: its type and the length of its value.
pub(super) const MAX_HEADER: usize = 2 * varint::MAX_LENGTH;

/// Writes the header of a DATAGRAM capsule to the start of `bytes`, and returns its length. The value of the capsule
/// follows in the stream.
pub(super) fn datagram_header(length: usize, bytes: &mut [u8]) -> usize {
    let at = varint::encode(DATAGRAM, bytes);
    at + varint::encode(length as u64, &mut bytes[at..])
}

/// Decodes DATAGRAM capsules from a stream that arrives in any parts, and skips all other capsules.
///
/// A capsule that arrives in several parts is collected; its memory grows with the bytes that have arrived. Skipped
/// capsules use no memory.
pub(super) struct Decoder {
    /// The maximum length of a datagram.
    max: usize,
    state: State,
}

enum State {
    /// The first bytes of an incomplete header.
    Header {
        start: [u8; MAX_HEADER],
        length: usize,
    },
    /// The value of a DATAGRAM capsule of this length.
    Value { partial: Vec<u8>, length: usize },
    /// The rest of the value of another capsule has this length.
    Skip(u64),
}

impl State {
    fn boundary() -> Self {
        Self::Header {
            start: [0; MAX_HEADER],
            length: 0,
        }
    }
}

impl Decoder {
    /// Creates a decoder for datagrams of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            state: State::boundary(),
        }
    }

    /// Returns the value of the next DATAGRAM capsule, and removes its bytes from `input`. Returns `None` if `input`
    /// does not contain the rest of the capsule, and removes all bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if the next datagram is too long. The decoder must not be used afterwards.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        loop {
            match &mut self.state {
                State::Header { start, length } => {
                    let before = *length;
                    let more = input.len().min(MAX_HEADER - before);
                    start[before..before + more].copy_from_slice(&input[..more]);
                    let Some(header) = Header::decode(&start[..before + more]) else {
                        *length = before + more;
                        *input = &[];
                        return Ok(None);
                    };
                    *input = &input[header.length - before..];
                    self.state = self.value(&header)?;
                }
                State::Value { partial, length } => {
                    let missing = *length - partial.len();
                    let Some((rest, after)) = input.split_at_checked(missing) else {
                        partial.extend_from_slice(input);
                        *input = &[];
                        return Ok(None);
                    };
                    *input = after;
                    let mut value = Cow::Borrowed(rest);
                    if !partial.is_empty() {
                        partial.extend_from_slice(rest);
                        value = Cow::Owned(std::mem::take(partial));
                    }
                    self.state = State::boundary();
                    return Ok(Some(value));
                }
                State::Skip(left) => {
                    let skipped = input
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *input = &input[skipped..];
                    *left -= skipped as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::boundary();
                }
            }
        }
    }

    /// Returns the state after a header.
    fn value(&self, header: &Header) -> Result<State, Malformed> {
        if header.kind != DATAGRAM {
            return Ok(State::Skip(header.value));
        }
        match usize::try_from(header.value) {
            Ok(length) if length <= self.max => Ok(State::Value {
                partial: Vec::new(),
                length,
            }),
            _ => Err(Malformed::TooLong),
        }
    }

    /// Checks that the stream can end here.
    ///
    /// # Errors
    ///
    /// Returns an error within a capsule.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        match self.state {
            State::Header { length: 0, .. } => Ok(()),
            _ => Err(Malformed::CutOff),
        }
    }
}

/// The header of a capsule.
struct Header {
    kind: u64,
    /// The length of the value.
    value: u64,
    /// The length of the header.
    length: usize,
}

impl Header {
    /// Returns `None` if the header is incomplete.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, at) = varint::decode(bytes)?;
        let (value, length) = varint::decode(&bytes[at..])?;
        Some(Self {
            kind,
            value,
            length: at + length,
        })
    }
}

/// A violation of the capsule protocol, or of CONNECT-UDP, by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A datagram exceeds its limit.
    TooLong,
    /// The stream ends within a capsule.
    CutOff,
    /// A datagram has no complete Context ID.
    NoContext,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the peer sent a datagram that is too long",
            Self::CutOff => "the stream of the peer ended within a capsule",
            Self::NoContext => "the peer sent a datagram without a complete Context ID",
        })
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        let kind = match malformed {
            Malformed::CutOff => io::ErrorKind::UnexpectedEof,
            Malformed::TooLong | Malformed::NoContext => io::ErrorKind::InvalidData,
        };
        Self::new(kind, malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The limit in these tests.
    const MAX: usize = 300;

    /// Encodes a capsule; `wide` selects integers of 8 bytes.
    fn capsule(kind: u64, value: &[u8], wide: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [kind, value.len() as u64] {
            let mut encoded = [0; varint::MAX_LENGTH];
            match wide {
                true => bytes.extend_from_slice(&(number | 3 << 62).to_be_bytes()),
                false => {
                    let length = varint::encode(number, &mut encoded);
                    bytes.extend_from_slice(&encoded[..length]);
                }
            }
        }
        bytes.extend_from_slice(value);
        bytes
    }

    /// Decodes a stream that arrives in parts.
    fn decode<'a>(
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Vec<u8>>, Result<(), Malformed>) {
        let mut decoder = Decoder::new(MAX);
        let mut found = Vec::new();
        for mut part in parts {
            loop {
                match decoder.next(&mut part) {
                    Ok(Some(value)) => found.push(value.into_owned()),
                    Ok(None) => break,
                    Err(error) => return (found, Err(error)),
                }
            }
            assert!(part.is_empty());
        }
        (found, decoder.end())
    }

    /// Decodes a whole stream, without the code under test.
    fn reference(mut stream: &[u8]) -> (Vec<Vec<u8>>, Result<(), Malformed>) {
        fn number(stream: &mut &[u8]) -> Option<u64> {
            let length = 1 << (stream.first()? >> 6);
            let (bytes, rest) = stream.split_at_checked(length)?;
            *stream = rest;
            let mut whole = [0; 8];
            whole[8 - length..].copy_from_slice(bytes);
            Some(u64::from_be_bytes(whole) & (u64::MAX >> 2 >> (64 - 8 * length)))
        }
        let mut found = Vec::new();
        while !stream.is_empty() {
            let (Some(kind), Some(length)) = (number(&mut stream), number(&mut stream)) else {
                return (found, Err(Malformed::CutOff));
            };
            if kind == 0 && length > MAX as u64 {
                return (found, Err(Malformed::TooLong));
            }
            if length > stream.len() as u64 {
                return (found, Err(Malformed::CutOff));
            }
            let (value, rest) = stream.split_at(length as usize);
            stream = rest;
            if kind == 0 {
                found.push(value.to_vec());
            }
        }
        (found, Ok(()))
    }

    #[test]
    fn d1_capsules_parse_at_every_split() {
        let mut stream = capsule(DATAGRAM, b"one", false);
        stream.extend(capsule(0x17, &[9; 100], false));
        stream.extend(capsule(DATAGRAM, b"", false));
        stream.extend(capsule(DATAGRAM, &[7; 70], true));
        stream.extend(capsule(1 << 40, b"", true));
        stream.extend(capsule(DATAGRAM, b"last", false));
        let expected = vec![b"one".to_vec(), Vec::new(), vec![7; 70], b"last".to_vec()];
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let parts = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(decode(parts), (expected.clone(), Ok(())));
            }
        }
        assert_eq!(decode(stream.chunks(1)), (expected, Ok(())));
    }

    #[test]
    fn d1_whole_datagram_is_not_copied() {
        let stream = capsule(DATAGRAM, b"whole", false);
        let mut input = &stream[..];
        let value = Decoder::new(MAX).next(&mut input);
        assert!(matches!(value, Ok(Some(Cow::Borrowed(b"whole")))));
    }

    #[test]
    fn d1_unknown_capsule_of_any_length_is_skipped_without_a_buffer() {
        let mut header = Vec::from((0x17_u64 | 3 << 62).to_be_bytes());
        header.extend_from_slice(&u64::MAX.to_be_bytes());
        let mut decoder = Decoder::new(MAX);
        for mut part in [&header[..], &[0; 100_000], &[0; 100_000]] {
            assert_eq!(decoder.next(&mut part), Ok(None));
            assert!(part.is_empty());
        }
        let left = (1 << 62) - 1 - 200_000;
        assert!(matches!(decoder.state, State::Skip(found) if found == left));
        assert_eq!(decoder.end(), Err(Malformed::CutOff));
    }

    #[test]
    fn d1_datagram_over_the_limit_is_an_error_at_its_header() {
        let allowed = capsule(DATAGRAM, &[1; MAX], false);
        assert_eq!(decode([&allowed[..]]), (vec![vec![1; MAX]], Ok(())));
        let long = capsule(DATAGRAM, &[1; MAX + 1], false);
        assert_eq!(decode([&long[..3]]), (vec![], Err(Malformed::TooLong)));
    }

    #[test]
    fn d1_capsule_cut_off_by_the_end_is_an_error() {
        for stream in [
            capsule(DATAGRAM, b"value", true),
            capsule(0x17, b"value", true),
        ] {
            assert_eq!(decode([&stream[..]]).1, Ok(()));
            for end in 1..stream.len() {
                assert_eq!(decode([&stream[..end]]), (vec![], Err(Malformed::CutOff)));
            }
        }
    }

    #[test]
    fn d1_memory_of_a_partial_datagram_is_bounded_by_the_bytes_that_arrived() {
        let mut decoder = Decoder::new(65_543);
        let stream = capsule(DATAGRAM, &[1; 65_543], false);
        let mut part = &stream[..105];
        assert_eq!(decoder.next(&mut part), Ok(None));
        assert!(
            matches!(&decoder.state, State::Value { partial, .. } if partial.capacity() <= 200)
        );
    }

    proptest! {
        #[test]
        fn d1_decoder_agrees_with_the_reference(
            capsules in prop::collection::vec(
                (prop_oneof![Just(0_u64), Just(1), 0..1_u64 << 62], prop::collection::vec(any::<u8>(), 0..320), any::<bool>()),
                0..6,
            ),
            cut in 0_usize..40,
            lengths in prop::collection::vec(1_usize..50, 1..8),
        ) {
            let mut stream: Vec<u8> = capsules
                .iter()
                .flat_map(|(kind, value, wide)| capsule(*kind, value, *wide))
                .collect();
            stream.truncate(stream.len().saturating_sub(cut));
            let mut rest = &stream[..];
            let parts = lengths.iter().cycle().map_while(|length| {
                let (part, after) = rest.split_at(rest.len().min(*length));
                rest = after;
                (!part.is_empty()).then_some(part)
            });
            prop_assert_eq!(decode(parts), reference(&stream));
        }

        #[test]
        fn d1_decoder_agrees_with_the_reference_on_any_bytes(stream: Vec<u8>, length in 1_usize..20) {
            prop_assert_eq!(decode(stream.chunks(length)), reference(&stream));
        }

        #[test]
        fn d1_encoded_header_decodes(length in 0_usize..=65_543) {
            let mut bytes = [0; MAX_HEADER];
            let end = datagram_header(length, &mut bytes);
            let header = Header::decode(&bytes[..end]).expect("a whole header");
            prop_assert_eq!((header.kind, header.value, header.length), (DATAGRAM, length as u64, end));
        }
    }
}
