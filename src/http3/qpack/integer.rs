//! Integers with a prefix (RFC 9204 §4.1.1, RFC 7541 §5.1).

use super::decode::DecodeError;

/// The maximum value that a decoder has to support (RFC 9204 §4.1.1).
const MAX: u64 = (1 << 62) - 1;

/// The maximum length of an encoding: a prefix of one bit or more, and 62 bits in groups of seven.
const MAX_LENGTH: usize = 10;

/// Decodes the integer at the start of `bytes`, and removes it. The first byte holds `prefix` bits of the integer.
///
/// An encoding can be longer than necessary.
///
/// # Errors
///
/// Returns [`DecodeError::Malformed`] if the encoding is incomplete or longer than 10 bytes, or if the value is 2^62 or
/// more.
pub(super) fn decode(bytes: &mut &[u8], prefix: u32) -> Result<u64, DecodeError> {
    let (first, mut rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
    let max_prefix = (1 << prefix) - 1;
    let mut value = u64::from(*first) & max_prefix;
    if value == max_prefix {
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first().ok_or(DecodeError::Malformed)?;
            rest = after;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift == 7 * (MAX_LENGTH - 1) {
                return Err(DecodeError::Malformed);
            }
        }
        if value > MAX {
            return Err(DecodeError::Malformed);
        }
    }
    *bytes = rest;
    Ok(value)
}

/// Appends the shortest encoding of an integer. The first byte holds `prefix` bits of the integer, and the bits of
/// `flags` above them.
pub(super) fn encode(out: &mut Vec<u8>, flags: u8, prefix: u32, value: usize) {
    let max_prefix = (1 << prefix) - 1;
    if value < max_prefix {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | max_prefix as u8);
    let mut rest = value - max_prefix;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(mut bytes: &[u8], prefix: u32) -> Result<(u64, usize), DecodeError> {
        let length = bytes.len();
        let value = decode(&mut bytes, prefix)?;
        Ok((value, length - bytes.len()))
    }

    /// The examples of RFC 7541 §C.1.
    #[test]
    fn e8_integer_examples_of_the_rfc() {
        for (bytes, prefix, value) in [
            (&[0b1110_1010][..], 5, 10),
            (&[0b1111_1111, 0b1001_1010, 0b0000_1010], 5, 1337),
            (&[0b0010_1010], 8, 42),
        ] {
            assert_eq!(decoded(bytes, prefix), Ok((value, bytes.len())));
            let mut encoded = Vec::new();
            let flags = bytes[0] & !((1_u16 << prefix) - 1) as u8;
            encode(&mut encoded, flags, prefix, value as usize);
            assert_eq!(encoded, bytes);
        }
    }

    #[test]
    fn e8_integer_of_2_to_the_62_or_10_bytes_is_malformed() {
        // 127, and 62 bits that add up to 2^62 - 1 and to 2^62.
        let largest = [
            0x7f, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xaa,
        ];
        assert_eq!(decoded(&largest, 7), Ok((MAX, 10)));
        let mut larger = largest;
        larger[1] += 1;
        assert_eq!(decoded(&larger, 7), Err(DecodeError::Malformed));
        // Longer than necessary: zeros follow the value.
        let mut long = [0x80; 12];
        long[0] = 0x7f;
        long[9] = 0;
        assert_eq!(decoded(&long, 7), Ok((127, 10)));
        long[9] = 0x80;
        long[10] = 0;
        assert_eq!(decoded(&long, 7), Err(DecodeError::Malformed));
        assert_eq!(decoded(&[0xff; 12], 7), Err(DecodeError::Malformed));
    }

    proptest! {
        #[test]
        fn e8_integer_round_trip(bits in 0_u32..62, low: u64, prefix in 3_u32..=8, flags: u8) {
            let value = (1 << bits | low & ((1 << bits) - 1)) - u64::from(low & 1 << 63 == 0);
            let flags = (u16::from(flags) >> prefix << prefix) as u8;
            let mut encoded = Vec::new();
            encode(&mut encoded, flags, prefix, value as usize);
            prop_assert_eq!(u16::from(encoded[0]) >> prefix << prefix, u16::from(flags));
            for length in 0..encoded.len() {
                prop_assert_eq!(decoded(&encoded[..length], prefix), Err(DecodeError::Malformed));
            }
            prop_assert_eq!(decoded(&encoded, prefix), Ok((value, encoded.len())));
        }
    }
}
