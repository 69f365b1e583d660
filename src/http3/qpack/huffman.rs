//! The Huffman code of strings (RFC 7541 §5.2, Appendix B).
//!
//! The code is canonical: codes of the same length are consecutive numbers, in the order of their symbols, and follow
//! those of shorter codes. The lengths determine it.

use super::decode::DecodeError;

/// Returns the length of the encoding of `bytes`.
pub(super) fn encoded_len(bytes: &[u8]) -> usize {
    let bits: usize = bytes
        .iter()
        .map(|byte| usize::from(LENGTHS[usize::from(*byte)]))
        .sum();
    bits.div_ceil(8)
}

/// Appends the encoding of `bytes`.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    // The last `count` bits of `bits` are not written yet. A code has at most 30 bits, which fit beside the 31 bits that
    // wait for more.
    let (mut bits, mut count) = (0_u64, 0);
    for byte in bytes {
        let length = u32::from(LENGTHS[usize::from(*byte)]);
        bits = bits << length | u64::from(CODES[usize::from(*byte)]);
        count += length;
        if count >= 32 {
            count -= 32;
            out.extend_from_slice(&((bits >> count) as u32).to_be_bytes());
        }
    }
    // Padded with ones, the start of the code of EOS.
    let padding = (8 - count % 8) % 8;
    bits = bits << padding | ((1 << padding) - 1);
    count += padding;
    while count > 0 {
        count -= 8;
        out.push((bits >> count) as u8);
    }
}

/// Decodes `bytes`, and appends the string to `out`.
///
/// # Errors
///
/// - [`DecodeError::Malformed`] if the last code is incomplete, if the padding is longer than 7 bits or not all ones, or
///   if the string contains EOS (RFC 7541 §5.2)
/// - [`DecodeError::TooLarge`] as soon as the string is longer than `max`
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), DecodeError> {
    // The shortest code has 5 bits.
    out.reserve(max.min(bytes.len().saturating_mul(8) / 5));
    let end = out.len().saturating_add(max);
    let mut bits = Bits {
        rest: bytes,
        next: 0,
        count: 0,
    };
    loop {
        bits.fill();
        let (symbol, length) = match FIRST[(bits.next >> 56) as usize] {
            (_, 0) => long_code((bits.next >> 32) as u32),
            (symbol, length) => (u16::from(symbol), u32::from(length)),
        };
        if length > bits.count {
            return bits.check_padding();
        }
        bits.next <<= length;
        bits.count -= length;
        // Only EOS is not a byte.
        let byte = u8::try_from(symbol).map_err(|_| DecodeError::Malformed)?;
        if out.len() == end {
            return Err(DecodeError::TooLarge);
        }
        out.push(byte);
    }
}

/// The bits of a string.
struct Bits<'a> {
    rest: &'a [u8],
    /// The next `count` bits, from the highest. Zeros follow them; at the end of the string, ones.
    next: u64,
    count: u32,
}

impl Bits<'_> {
    /// Adds bytes until `next` has 32 bits or the string ends.
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some((bytes, rest)) = self.rest.split_first_chunk() {
            self.next |= u64::from(u32::from_be_bytes(*bytes)) << (32 - self.count);
            self.count += 32;
            self.rest = rest;
            return;
        }
        for byte in self.rest {
            self.next |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
        }
        self.rest = &[];
        self.next |= u64::MAX >> self.count;
    }

    /// Checks the bits after the last code: at most 7, all of them ones (RFC 7541 §5.2).
    fn check_padding(&self) -> Result<(), DecodeError> {
        match self.count <= 7 && self.next == u64::MAX {
            true => Ok(()),
            false => Err(DecodeError::Malformed),
        }
    }
}

/// Finds the code of more than 8 bits at the start of `next`, and returns its symbol and its length.
fn long_code(next: u32) -> (u16, u32) {
    let found = LONG.iter().find(|group| next <= group.last);
    let group = found.unwrap_or(&LONG[LONG.len() - 1]); // the last group ends with all ones
    let index = (next - group.first) >> (32 - group.length);
    (
        SYMBOLS[usize::from(group.symbols) + index as usize],
        group.length,
    )
}

/// The codes of one length, more than 8 bits.
#[derive(Clone, Copy)]
struct Group {
    /// The first code, followed by zeros.
    first: u32,
    /// The last code, followed by ones.
    last: u32,
    length: u32,
    /// The index of the first code's symbol in [`SYMBOLS`].
    symbols: u16,
}

const EOS: usize = 256;
const MAX_LENGTH: u8 = 30;

/// The symbol and the length of the code of up to 8 bits that starts with these bits; the length is 0 for longer codes.
static FIRST: [(u8, u8); 256] = {
    let mut first = [(0, 0); 256];
    let mut symbol = 0;
    while symbol < EOS {
        let length = LENGTHS[symbol];
        if length <= 8 {
            let mut next = (CODES[symbol] as usize) << (8 - length);
            let end = next + (1 << (8 - length));
            while next < end {
                first[next] = (symbol as u8, length);
                next += 1;
            }
        }
        symbol += 1;
    }
    first
};

/// All symbols in the order of their codes.
static SYMBOLS: [u16; LENGTHS.len()] = {
    let mut symbols = [0; LENGTHS.len()];
    let mut count = 0;
    let mut length = 0;
    while length <= MAX_LENGTH {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == length {
                symbols[count] = symbol as u16;
                count += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
};

/// The groups of codes, in the order of their lengths.
static LONG: [Group; 17] = {
    let mut groups = [Group {
        first: 0,
        last: 0,
        length: 0,
        symbols: 0,
    }; 17];
    let mut count = 0;
    let mut at = 0;
    while at < SYMBOLS.len() {
        let symbol = SYMBOLS[at] as usize;
        let length = LENGTHS[symbol] as u32;
        let first = CODES[symbol] << (32 - length);
        let last = first | u32::MAX >> length;
        if length > 8 {
            if count > 0 && groups[count - 1].length == length {
                groups[count - 1].last = last;
            } else {
                groups[count] = Group {
                    first,
                    last,
                    length,
                    symbols: at as u16,
                };
                count += 1;
            }
        }
        at += 1;
    }
    assert!(count == groups.len() && groups[count - 1].last == u32::MAX);
    groups
};

/// The code of each symbol, in the lowest bits.
static CODES: [u32; LENGTHS.len()] = {
    let mut codes = [0; LENGTHS.len()];
    let mut next = 0;
    let mut at = 0;
    let mut length = 0;
    while at < SYMBOLS.len() {
        let symbol = SYMBOLS[at] as usize;
        next <<= LENGTHS[symbol] - length;
        length = LENGTHS[symbol];
        codes[symbol] = next;
        next += 1;
        at += 1;
    }
    codes
};

/// The length of the code of each byte and of EOS, in bits.
#[rustfmt::skip] // 32 on a line
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    MAX_LENGTH, // EOS
];

#[cfg(test)]
mod tests;
