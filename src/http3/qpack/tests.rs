//! Field sections: the decoder and the encoder together.

use super::{
    decode::{DecodeError, decode},
    encode::{begin, field},
    static_table,
};
use proptest::prelude::*;

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

fn decoded_up_to(max_size: usize, section: &[u8]) -> (Lines, Result<(), DecodeError>) {
    let mut lines = Lines::new();
    let end = decode(section, max_size, |name, value| {
        lines.push((name.to_vec(), value.to_vec()));
        Ok(())
    });
    (lines, end)
}

fn decoded(section: &[u8]) -> Result<Lines, DecodeError> {
    let (lines, end) = decoded_up_to(usize::MAX, section);
    end.map(|()| lines)
}

fn line(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.into())
}

fn encoded(name: &str, value: &str, is_sensitive: bool) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, name.as_bytes(), value.as_bytes(), is_sensitive);
    out
}

/// RFC 9204 §B.1.
#[test]
fn e8_qpack_example_of_the_rfc() {
    let section = b"\x00\x00\x51\x0b/index.html";
    assert_eq!(decoded(section), Ok(vec![line(":path", "/index.html")]));
}

#[test]
fn e8_qpack_encoder_chooses_the_shortest_line() {
    for (name, value, expected) in [
        (":path", "/", &b"\xc1"[..]),
        ("x-frame-options", "sameorigin", b"\xff\x23"),
        (":path", "~", b"\x51\x01~"),
        (":status", "101", b"\x5f\x09\x82\x08\x03"),
        ("~", "\0", b"\x21~\x01\0"),
        ("aaa", "e", b"\x2a\x18\xc7\x01e"),
        ("~~~~~~~", "", b"\x27\x00~~~~~~~\x00"),
    ] {
        assert_eq!(encoded(name, value, false), expected, "{name}: {value}");
    }
}

#[test]
fn e8_qpack_sensitive_value_is_a_literal_that_is_never_indexed() {
    assert_eq!(encoded(":path", "/", true), b"\x71\x01/");
    assert_eq!(encoded("cookie", "~", true), b"\x75\x01~");
    assert_eq!(encoded("~", "~", true), b"\x31~\x01~");
    let section = b"\0\0\x71\x01/\x31~\x01~";
    assert_eq!(
        decoded(section),
        Ok(vec![line(":path", "/"), line("~", "~")])
    );
}

#[test]
fn e8_qpack_malformed_section() {
    for (section, reason) in [
        (&b""[..], "no prefix"),
        (b"\0", "no base"),
        (b"\x01\0", "a required insert count"),
        (b"\0\x80", "a base below zero"),
        (
            b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\0\0",
            "a long count",
        ),
        (b"\0\0\x80", "an indexed line of the dynamic table"),
        (b"\0\0\x10\0", "a post-base index"),
        (b"\0\0\x40\x01a", "a name of the dynamic table"),
        (b"\0\0\x00\x01a", "a post-base name"),
        (b"\0\0\xff\x24", "the static index 99"),
        (b"\0\0\x5f\x54\x01a", "the name of the static index 99"),
        (
            b"\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            "an index over 2^62",
        ),
        (b"\0\0\x51\x02a", "a value that ends early"),
        (
            b"\0\0\x51\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x3e",
            "a value of 2^62 - 1 bytes",
        ),
        (b"\0\0\x22a", "a name that ends early"),
        (b"\0\0\x21a", "no value"),
        (b"\0\0\x29\x00\x00", "padding of zeros in the name"),
        (b"\0\0\x51\x81\x00", "padding of zeros in the value"),
        (b"\0\0\x51\x81\xff", "padding of 8 bits"),
        (b"\0\0\x51\x84\xff\xff\xff\xff", "EOS"),
    ] {
        assert_eq!(decoded(section), Err(DecodeError::Malformed), "{reason}");
        // The lines before are reported.
        if let Some(rest) = section.strip_prefix(b"\0\0") {
            let section = [b"\0\0\xc1", rest].concat();
            let before = vec![line(":path", "/")];
            let found = decoded_up_to(usize::MAX, &section);
            assert_eq!(found, (before, Err(DecodeError::Malformed)), "{reason}");
        }
    }
    // Without references to the dynamic table, the base can have any value.
    assert_eq!(decoded(b"\0\0"), Ok(vec![]));
    assert_eq!(decoded(b"\0\x7f\x05\xc1"), Ok(vec![line(":path", "/")]));
}

#[test]
fn e8_qpack_section_over_the_limit_is_too_large() {
    // `:path: /` in each representation, 38 bytes.
    for section in [
        &b"\0\0\xc1"[..],
        b"\0\0\x51\x01/",
        b"\0\0\x51\x81\x63",
        b"\0\0\x25:path\x01/",
    ] {
        let expected = vec![line(":path", "/")];
        assert_eq!(decoded_up_to(38, section), (expected.clone(), Ok(())));
        for max_size in [0, 31, 32, 36, 37] {
            let found = decoded_up_to(max_size, section);
            assert_eq!(found, (vec![], Err(DecodeError::TooLarge)), "{max_size}");
        }
        let twice = [section, &section[2..]].concat();
        let found = decoded_up_to(75, &twice);
        assert_eq!(found, (expected.clone(), Err(DecodeError::TooLarge)));
        assert_eq!(decoded_up_to(76, &twice).1, Ok(()));
    }
}

#[test]
fn e8_qpack_decoder_stops_at_the_error_of_the_caller() {
    #[derive(Debug, PartialEq)]
    struct Error(Option<DecodeError>);
    impl From<DecodeError> for Error {
        fn from(error: DecodeError) -> Self {
            Self(Some(error))
        }
    }
    let mut count = 0;
    let end = decode(b"\0\0\xc1\xc1\x80", usize::MAX, |_, _| {
        count += 1;
        if count == 2 { Err(Error(None)) } else { Ok(()) }
    });
    assert_eq!((count, end), (2, Err(Error(None))));
}

/// Lines with names and values of the static table, and with any others.
fn lines() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>, bool)>> {
    let entry = |index| static_table::get(index).expect("an entry");
    let name = prop_oneof![
        (0_usize..99).prop_map(move |index| entry(index).0.to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        "[a-z-]{0,140}".prop_map(String::into_bytes),
    ];
    let value = prop_oneof![
        (0_usize..99).prop_map(move |index| entry(index).1.to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
        "[ -~]{0,300}".prop_map(String::into_bytes),
    ];
    let both =
        (0_usize..99).prop_map(move |index| (entry(index).0.to_vec(), entry(index).1.to_vec()));
    let line = (prop_oneof![both, (name, value)], any::<bool>());
    prop::collection::vec(
        line.prop_map(|((name, value), is_sensitive)| (name, value, is_sensitive)),
        0..6,
    )
}

proptest! {
    #[test]
    fn e8_qpack_round_trip_and_truncation(lines in lines()) {
        let mut section = Vec::new();
        begin(&mut section);
        let mut ends = vec![section.len()];
        for (name, value, is_sensitive) in &lines {
            field(&mut section, name, value, *is_sensitive);
            ends.push(section.len());
        }
        let lines: Lines = lines.into_iter().map(|(name, value, _)| (name, value)).collect();
        prop_assert_eq!(decoded(&section), Ok(lines.clone()));
        let size = lines.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>();
        prop_assert_eq!(decoded_up_to(size, &section).1, Ok(()));
        if size > 0 {
            prop_assert_eq!(decoded_up_to(size - 1, &section).1, Err(DecodeError::TooLarge));
        }
        for length in 0..section.len() {
            let (found, end) = decoded_up_to(usize::MAX, &section[..length]);
            let whole = ends.iter().filter(|end| **end <= length).count();
            prop_assert_eq!(&found[..], &lines[..whole.saturating_sub(1)]);
            let expected = if ends.contains(&length) { Ok(()) } else { Err(DecodeError::Malformed) };
            prop_assert_eq!(end, expected);
        }
    }

    #[test]
    fn e8_qpack_decoder_does_not_panic(mut section: Vec<u8>, max_size in 0_usize..300) {
        let _ = decoded_up_to(max_size, &section);
        section.splice(0..0, [0, 0]);
        let _ = decoded_up_to(max_size, &section);
    }
}
