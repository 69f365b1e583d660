//! Encodes field sections (RFC 9204 §4.5).

use super::{
    huffman, integer,
    static_table::{self, Found},
};

/// Appends the prefix of a field section that does not refer to the dynamic table (RFC 9204 §4.5.1): a Required Insert
/// Count of 0 and a Base of 0.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends a field line: a reference to the static table if it has the line, a literal with the name of an entry if it
/// has the name, or else a literal.
///
/// A sensitive value is always a literal with the flag N, which obliges intermediaries to encode the line as a literal,
/// too (RFC 9204 §4.5.4).
pub(crate) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8], is_sensitive: bool) {
    match static_table::find(name, value) {
        Found::Line(index) if !is_sensitive => integer::encode(out, 0xc0, 6, index),
        Found::Line(index) | Found::Name(index) => {
            let flag_n = if is_sensitive { 0x20 } else { 0 };
            integer::encode(out, 0x50 | flag_n, 4, index);
            text(out, 0, 7, value);
        }
        Found::Nothing => {
            let flag_n = if is_sensitive { 0x10 } else { 0 };
            text(out, 0x20 | flag_n, 3, name);
            text(out, 0, 7, value);
        }
    }
}

/// Appends a string literal, in Huffman code if that is shorter. The first byte holds `prefix` bits of the length, the
/// flag H above them, and `flags` above that.
fn text(out: &mut Vec<u8>, flags: u8, prefix: u32, bytes: &[u8]) {
    let encoded_len = huffman::encoded_len(bytes);
    if encoded_len < bytes.len() {
        integer::encode(out, flags | 1 << prefix, prefix, encoded_len);
        huffman::encode(bytes, out);
    } else {
        integer::encode(out, flags, prefix, bytes.len());
        out.extend_from_slice(bytes);
    }
}
