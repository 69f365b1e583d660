//! Field sections of a peer (RFC 9204 §4.5), and sections that the crate encodes, against the crate `qpack`, which has the
//! code of `h3`.
//!
//! The first input byte selects decoding or encoding. To decode, it also selects the size limit, and whether the rest is a
//! section or the lines of one. To encode, the rest are field lines: a byte of flags, an index of the static table, the
//! lengths of name and value, name and value.

use ::qpack::{HeaderField, decode_stateless, encode_stateless};
use tower_upgrade::fuzzing;

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

pub fn run(data: &[u8]) {
    let [settings, rest @ ..] = data else {
        return;
    };
    if settings & 1 == 0 {
        let max = [0, 70, 1_000, 1 << 20][usize::from(settings >> 2 & 3)];
        match settings >> 1 & 1 {
            0 => check_decoder(&[&[0, 0], rest].concat(), max),
            _ => check_decoder(rest, max),
        }
    } else {
        check_encoder(rest);
    }
}

fn check_decoder(section: &[u8], max: usize) {
    let (lines, error) = fuzzing::decode_section(section, max);
    let size = lines
        .iter()
        .map(|(name, value)| name.len() + value.len() + 32);
    assert!(size.sum::<usize>() <= max);
    let expected = reference(section, max).filter(|lines| is_valid(section, lines));
    match error {
        None => assert_eq!(Some(lines), expected),
        Some(error) => assert_eq!(expected, None, "{error}"),
    }
}

/// Decodes a section with the crate `qpack`.
fn reference(section: &[u8], max: usize) -> Option<Lines> {
    let decoded = decode_stateless(&mut &section[..], max as u64).ok()?;
    let lines = decoded.fields.into_iter().map(|field| {
        let (name, value) = field.into_inner();
        (name.into_owned(), value.into_owned())
    });
    Some(lines.collect())
}

/// Checks the rules that the crate `qpack` 0.1.0 does not check, in a section that it decodes:
///
/// - The Required Insert Count is 0, and the Base is not negative (RFC 9204 §4.5.1).
/// - An integer is less than 2^62. The crate limits the length only.
/// - A Huffman string has no EOS, a padding of at most 7 bits, and no incomplete code before it (RFC 7541 §5.2). The crate
///   accepts some of these at the end of a string.
fn is_valid(section: &[u8], lines: &[(Vec<u8>, Vec<u8>)]) -> bool {
    let mut rest = section;
    let is_negative = section[1] & 0x80 != 0;
    if number(&mut rest, 8) != 0 || number(&mut rest, 7) >> 62 != 0 || is_negative {
        return false;
    }
    lines.iter().all(|(name, value)| {
        let is_name_valid = match rest[0] {
            0x80.. => {
                number(&mut rest, 6);
                return true;
            }
            0x40.. => {
                number(&mut rest, 4);
                true
            }
            _ => is_string(name, &mut rest, 3),
        };
        is_name_valid && is_string(value, &mut rest, 7)
    })
}

/// Removes an integer (RFC 7541 §5.1), as its pseudocode does.
fn number(rest: &mut &[u8], prefix: u32) -> u64 {
    let max = (1 << prefix) - 1;
    let mut value = u64::from(rest[0]) & max;
    let mut length = 1;
    if value == max {
        loop {
            let byte = rest[length];
            value += u64::from(byte & 0x7f) << (7 * (length - 1));
            length += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = &rest[length..];
    value
}

/// Removes an encoding of `string`. Returns `true` if it is plain, or the Huffman code of the string, which is unique with
/// its padding.
fn is_string(string: &[u8], rest: &mut &[u8], prefix: u32) -> bool {
    let is_huffman = rest[0] & 1 << prefix != 0;
    let length = number(rest, prefix) as usize;
    let (found, after) = rest.split_at(length);
    *rest = after;
    let mut encoded = Vec::new();
    let field = HeaderField::new("", string);
    encode_stateless(&mut encoded, [field]).expect("an encoding");
    // The prefix of the section, the empty name, and the length of the value come before it.
    let mut value = &encoded[3..];
    number(&mut value, 7);
    !is_huffman || value == found
}

fn check_encoder(mut rest: &[u8]) {
    let mut lines = Vec::new();
    while let [flags, index, name_length, value_length, after @ ..] = rest {
        let take = |bytes: &mut &[u8], length: u8| {
            let (taken, after) = bytes.split_at(bytes.len().min(length.into()));
            *bytes = after;
            taken.to_vec()
        };
        rest = after;
        let (mut name, mut value) = (
            take(&mut rest, *name_length),
            take(&mut rest, *value_length),
        );
        let section = match index % 99 {
            index @ 0..63 => vec![0, 0, 0xc0 | index],
            index => vec![0, 0, 0xff, index - 63],
        };
        let (entry, _) = fuzzing::decode_section(&section, usize::MAX);
        if flags & 1 != 0 {
            name.clone_from(&entry[0].0);
        }
        if flags & 2 != 0 {
            value.clone_from(&entry[0].1);
        }
        lines.push((name, value, flags & 4 != 0));
    }
    let borrowed = lines
        .iter()
        .map(|(name, value, sensitive)| (&name[..], &value[..], *sensitive));
    let section = fuzzing::encode_section(borrowed);
    let plain: Lines = lines
        .iter()
        .map(|(name, value, _)| (name.clone(), value.clone()))
        .collect();
    let (found, error) = fuzzing::decode_section(&section, usize::MAX);
    assert_eq!((&found, error), (&plain, None));
    assert_eq!(reference(&section, usize::MAX), Some(plain));
    // A sensitive value takes more bytes, if the static table has it.
    if lines.iter().all(|(_, _, is_sensitive)| !is_sensitive) {
        let fields = found
            .into_iter()
            .map(|(name, value)| HeaderField::new(name, value));
        let mut expected = Vec::new();
        encode_stateless(&mut expected, fields).expect("an encoding");
        assert!(section.len() <= expected.len());
    }
}
