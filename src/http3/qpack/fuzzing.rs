//! The decoder and the encoder, for the targets in `fuzz/`.

use super::{
    decode::{self, DecodeError},
    encode,
};

/// Decodes a field section. Returns the field lines, and the error that ended them.
pub(crate) fn decode(
    section: &[u8],
    max_size: usize,
) -> (Vec<(Vec<u8>, Vec<u8>)>, Option<&'static str>) {
    let mut lines = Vec::new();
    let end = decode::decode(section, max_size, |name, value| {
        lines.push((name.to_vec(), value.to_vec()));
        Ok(())
    });
    let error = end.err().map(|error| match error {
        DecodeError::Malformed => "malformed",
        DecodeError::TooLarge => "too large",
    });
    (lines, error)
}

/// Encodes a field section of lines with a name, a value, and `true` if the value is sensitive.
pub(crate) fn encode<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8], bool)>) -> Vec<u8> {
    let mut section = Vec::new();
    encode::begin(&mut section);
    for (name, value, is_sensitive) in lines {
        encode::field(&mut section, name, value, is_sensitive);
    }
    section
}
