//! Decodes field sections (RFC 9204 §4.5).

use super::{huffman, integer, static_table};

/// The reason that a field section does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// The section is invalid, or refers to the dynamic table: `QPACK_DECOMPRESSION_FAILED`.
    Malformed,
    /// The section is larger than the limit.
    TooLarge,
}

/// The size of a field line in addition to its name and its value (RFC 9114 §4.2.2).
const LINE_OVERHEAD: usize = 32;

/// Decodes an encoded field section, and passes the name and the value of each field line to `field`, in their order.
///
/// `max_size` limits the size of the section as RFC 9114 §4.2.2 defines it: name + value + 32 bytes for each line. Only
/// Huffman strings are copied, into one buffer, which is not larger than this limit.
///
/// # Errors
///
/// Returns the error of the first line that is malformed, exceeds the limit, or for which `field` returns an error.
/// `field` has then received the lines before it.
pub(crate) fn decode<E: From<DecodeError>>(
    section: &[u8],
    max_size: usize,
    mut field: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = section;
    prefix(&mut rest)?;
    let mut left = max_size;
    let mut decoded = Vec::new();
    while let Some(first) = rest.first() {
        left = left
            .checked_sub(LINE_OVERHEAD)
            .ok_or(DecodeError::TooLarge)?;
        let (name, value) = line(*first, &mut rest)?;
        decoded.clear();
        let name_end = name.decode_huffman(&mut decoded, left)?;
        value.decode_huffman(&mut decoded, left - name_end)?;
        let (name_decoded, value_decoded) = decoded.split_at(name_end);
        let (name, value) = (name.get(name_decoded), value.get(value_decoded));
        left = left
            .checked_sub(name.len())
            .and_then(|left| left.checked_sub(value.len()))
            .ok_or(DecodeError::TooLarge)?;
        field(name, value)?;
    }
    Ok(())
}

/// Decodes the prefix of a section (RFC 9204 §4.5.1).
fn prefix(rest: &mut &[u8]) -> Result<(), DecodeError> {
    let required_insert_count = integer::decode(rest, 8)?;
    let is_negative = rest.first().is_some_and(|first| first & 0x80 != 0);
    // Without references, the base can have any value, except below zero: `Base = 0 - Delta Base - 1`.
    let _delta_base = integer::decode(rest, 7)?;
    match required_insert_count == 0 && !is_negative {
        true => Ok(()),
        false => Err(DecodeError::Malformed),
    }
}

/// Decodes the name and the value of the line that begins with the byte `first`.
fn line<'a>(first: u8, rest: &mut &'a [u8]) -> Result<(Text<'a>, Text<'a>), DecodeError> {
    match first {
        // Indexed field line: `11`, index (6+).
        0xc0.. => {
            let (name, value) = static_line(integer::decode(rest, 6)?)?;
            Ok((Text::Plain(name), Text::Plain(value)))
        }
        // Literal field line with name reference: `01`, N, `1`, index (4+), value.
        0x40..0x80 if first & 0x10 != 0 => {
            let (name, _) = static_line(integer::decode(rest, 4)?)?;
            Ok((Text::Plain(name), text(rest, 7)?))
        }
        // Literal field line with literal name: `001`, N, name, value.
        0x20..0x40 => Ok((text(rest, 3)?, text(rest, 7)?)),
        // A reference to the dynamic table, by index (`10`, or `01N0`) or by post-base index (`0001`, or `0000`).
        _ => Err(DecodeError::Malformed),
    }
}

fn static_line(index: u64) -> Result<(&'static [u8], &'static [u8]), DecodeError> {
    let index = usize::try_from(index).map_err(|_| DecodeError::Malformed)?;
    static_table::get(index).ok_or(DecodeError::Malformed)
}

/// A string literal.
enum Text<'a> {
    Plain(&'a [u8]),
    Huffman(&'a [u8]),
}

/// Decodes a string literal (RFC 9204 §4.1.2): the first byte holds `prefix` bits of the length, and the flag H above
/// them.
fn text<'a>(rest: &mut &'a [u8], prefix: u32) -> Result<Text<'a>, DecodeError> {
    let first = *rest.first().ok_or(DecodeError::Malformed)?;
    let length = integer::decode(rest, prefix)?;
    let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
    let (bytes, after) = rest
        .split_at_checked(length)
        .ok_or(DecodeError::Malformed)?;
    *rest = after;
    match first & 1 << prefix {
        0 => Ok(Text::Plain(bytes)),
        _ => Ok(Text::Huffman(bytes)),
    }
}

impl<'a> Text<'a> {
    /// Appends the string, of at most `max` bytes, to `decoded` if it is in Huffman code. Returns the new length.
    fn decode_huffman(&self, decoded: &mut Vec<u8>, max: usize) -> Result<usize, DecodeError> {
        if let Text::Huffman(bytes) = self {
            huffman::decode(bytes, decoded, max)?;
        }
        Ok(decoded.len())
    }

    /// Returns the string. `decoded` is the part that [`Text::decode_huffman`] has appended.
    fn get<'b>(&self, decoded: &'b [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Huffman(_) => decoded,
        }
    }
}
