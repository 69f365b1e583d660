//! Variable-length integers (RFC 9000 §16).

/// The maximum length of an encoding, in bytes.
pub(crate) const MAX_LENGTH: usize = 8;

/// Decodes the integer at the start of `bytes`, and returns it with the length of its encoding. Returns `None` if the
/// encoding is incomplete.
///
/// An encoding can be longer than necessary.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let first = u64::from(first & 0x3f);
    let value = rest
        .iter()
        .fold(first, |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

/// Writes the shortest encoding to the start of `bytes`, and returns its length.
///
/// # Panics
///
/// If `value` is 2^62 or more, or if `bytes` is shorter than the encoding.
pub(crate) fn encode(value: u64, bytes: &mut [u8]) -> usize {
    let prefix: u64 = match value {
        0..0x40 => 0,
        0x40..0x4000 => 1,
        0x4000..0x4000_0000 => 2,
        0x4000_0000..0x4000_0000_0000_0000 => 3,
        _ => panic!("{value} is too large for a variable-length integer"),
    };
    let length = 1 << prefix;
    let encoded = (value | prefix << (8 * length - 2)).to_be_bytes();
    bytes[..length].copy_from_slice(&encoded[MAX_LENGTH - length..]);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut bytes = [0; MAX_LENGTH];
        let length = encode(value, &mut bytes);
        bytes[..length].to_vec()
    }

    /// The examples of RFC 9000 §A.1.
    #[test]
    fn d1_varint_decodes_the_examples_of_the_rfc() {
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            assert_eq!(encoded(value), bytes);
            for length in 0..bytes.len() {
                assert_eq!(decode(&bytes[..length]), None, "{bytes:?}");
            }
        }
        // An encoding that is longer than necessary.
        assert_eq!(decode(&[0x40, 0x25, 7]), Some((37, 2)));
    }

    #[test]
    fn d1_varint_has_the_shortest_encoding() {
        for (value, length) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16_383, 2),
            (16_384, 4),
            ((1 << 30) - 1, 4),
            (1 << 30, 8),
            ((1 << 62) - 1, 8),
        ] {
            let bytes = encoded(value);
            assert_eq!(bytes.len(), length, "{value}");
            assert_eq!(decode(&bytes), Some((value, length)));
        }
    }

    #[test]
    #[should_panic = "too large"]
    fn d1_varint_is_less_than_2_to_the_62() {
        encode(1 << 62, &mut [0; MAX_LENGTH]);
    }
}
