use super::*;
use proptest::prelude::*;

fn decoded(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    decode(bytes, &mut out, usize::MAX).map(|()| out)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|char| char.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

fn assert_code(encoded: &str, text: &[u8]) {
    let encoded = hex(encoded);
    let mut out = vec![7];
    encode(text, &mut out);
    assert_eq!(out[1..], encoded);
    assert_eq!(encoded_len(text), encoded.len());
    assert_eq!(decoded(&encoded).as_deref(), Ok(text));
}

/// The strings of RFC 7541 §C.4 and §C.6.
#[test]
fn e8_huffman_examples_of_the_rfc() {
    for (encoded, text) in [
        ("f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
        ("a8eb 1064 9cbf", "no-cache"),
        ("25a8 49e9 5ba9 7d7f", "custom-key"),
        ("25a8 49e9 5bb8 e8b4 bf", "custom-value"),
        ("6402", "302"),
        ("aec3 771a 4b", "private"),
        (
            "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff",
            "Mon, 21 Oct 2013 20:13:21 GMT",
        ),
        (
            "9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3",
            "https://www.example.com",
        ),
        ("640e ff", "307"),
        (
            "d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff",
            "Mon, 21 Oct 2013 20:13:22 GMT",
        ),
        ("9bd9 ab", "gzip"),
        (
            "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ] {
        assert_code(encoded, text.as_bytes());
    }
}

/// The codes of all bytes one after the other, as RFC 7541 Appendix B lists them.
#[test]
fn e8_huffman_codes_are_those_of_the_rfc() {
    let all: Vec<u8> = (0..=255).collect();
    let codes = "\
    ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabffffffdfff \
    ffebfffffecfffffedfffffeefffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffffd7fffffdbfffffdf \
    fffffe3fffffe7fffffebfffffed4fe3f9ffaffcabf1febfafefe7fdfd2cbb00089969b71d79fb9f7fff20ffbff3ff50 \
    ddbd7f061c58f265cd9f469d5af66dddbf871e5f9cff7ff7fffc3ff9ffe45fff4719242cb34e6e9d68a6a3d7dac426de \
    fe3cfaf7fffbfe7ffbffdffffffcfffe6ffff4bfff9ffffa3fffd3ffff53fffd5ffffb3fffeb7fffdaffffb7ffff73ff \
    feeffffdeffffebffffbfffffd9ffffdbfffebffffe0ffffeeffffc3ffff8bffff1ffffe4fffee7fffb1ffff97fffd9f \
    fffcdffff9fffffbffffdafffeeffff4ffffb7fffee7fffe8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fff \
    ff5ffffecffff07fff87fffe0ffff17fffedffff87ffff77fffeffffeaffff8bfffe3ffff93ffff87fffcbffff37ffff \
    1fffff83ffffe1fffebfffe3ffff3fffff2ffffa3ffffd9fffff17ffffc7fffff27ffffdefffffbffffff2fffff8ffff \
    fb7fff97fff8fffffe6fffffc1fffff87ffffe7fffffc5ffffe5fffe4ffff2fffffd1fffff4ffffffefffffe3fffffc9 \
    fffff97fffb3ffffcffffb7fffcdffff4ffff9ffffd1ffffcffffeaffffafffffddffffeffffff4fffff5fffffabffff \
    a7ffffd7fffff9bffffecfffffb7fffff3fffffe8fffffd3fffffabfffff5fffffff7ffffecfffffdbfffffbbfffff7f \
    fffff0fffffbbf";
    assert_code(codes, &all);
    assert_eq!(CODES[EOS], 0x3fff_ffff);
}

#[test]
fn e8_huffman_padding_is_at_most_7_ones() {
    // The code of `0` is 00000, that of `8` is 011110.
    assert_eq!(decoded(&[0b0000_0111]).as_deref(), Ok(&b"0"[..]));
    assert_eq!(decoded(&[0b0111_1011]).as_deref(), Ok(&b"8"[..]));
    // `0` and a padding that is not all ones.
    for padding in [0b000, 0b011, 0b101, 0b110] {
        assert_eq!(decoded(&[padding]), Err(DecodeError::Malformed));
    }
    // 7 ones after 17 bits, `0`, `8` and `8`; 8 ones after eight `0`.
    let seven = [0b0000_0011, 0b1100_1111, 0b0111_1111];
    assert_eq!(decoded(&seven).as_deref(), Ok(&b"088"[..]));
    assert_eq!(decoded(&[0, 0, 0, 0, 0]).as_deref(), Ok(&b"00000000"[..]));
    assert_eq!(decoded(&[0, 0, 0, 0, 0, 0xff]), Err(DecodeError::Malformed));
    assert_eq!(decoded(&[0xff]), Err(DecodeError::Malformed));
    assert_eq!(decoded(&[0xff; 3]), Err(DecodeError::Malformed));
    assert_eq!(decoded(&[]).as_deref(), Ok(&b""[..]));
}

#[test]
fn e8_huffman_string_with_eos_is_malformed() {
    // EOS is 30 ones; here padding follows, or `0`, or comes before.
    assert_eq!(decoded(&[0xff; 4]), Err(DecodeError::Malformed));
    let before = [0xff, 0xff, 0xff, 0xfc, 0b0001_1111];
    assert_eq!(decoded(&before), Err(DecodeError::Malformed));
    let after = [0b0000_0111, 0xff, 0xff, 0xff, 0b1110_0000];
    assert_eq!(decoded(&after), Err(DecodeError::Malformed));
}

#[test]
fn e8_huffman_string_stops_at_the_limit() {
    let mut out = b"before".to_vec();
    assert_eq!(decode(&[0; 5], &mut out, 8), Ok(()));
    out.truncate(6);
    assert_eq!(decode(&[0; 5], &mut out, 7), Err(DecodeError::TooLarge));
    assert_eq!(out, b"before0000000");
    // The allocation does not depend on the length of the string.
    let mut out = Vec::new();
    let long = vec![0; 1 << 20];
    assert_eq!(decode(&long, &mut out, 100), Err(DecodeError::TooLarge));
    assert!(out.capacity() < 200);
}

/// Decodes bit by bit.
fn reference(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (mut out, mut code, mut length) = (Vec::new(), 0_u32, 0);
    for at in 0..8 * bytes.len() {
        code = code << 1 | u32::from(bytes[at / 8] >> (7 - at % 8) & 1);
        length += 1;
        let is_code = |symbol: &usize| LENGTHS[*symbol] == length && CODES[*symbol] == code;
        if let Some(symbol) = (0..=EOS).find(is_code) {
            out.push(u8::try_from(symbol).map_err(|_| DecodeError::Malformed)?);
            (code, length) = (0, 0);
        }
    }
    match length <= 7 && code == (1 << length) - 1 {
        true => Ok(out),
        false => Err(DecodeError::Malformed),
    }
}

proptest! {
    #[test]
    fn e8_huffman_round_trip(bytes: Vec<u8>, text in "[ -~]{0,80}") {
        for bytes in [&bytes, text.as_bytes()] {
            let mut encoded = Vec::new();
            encode(bytes, &mut encoded);
            prop_assert_eq!(encoded.len(), encoded_len(bytes));
            prop_assert_eq!(decoded(&encoded), Ok(bytes.to_vec()));
        }
    }

    #[test]
    fn e8_huffman_decoder_agrees_with_the_reference(
        text in "[ -~]{0,20}",
        bytes: Vec<u8>,
        ones in 0_usize..6,
    ) {
        let mut encoded = Vec::new();
        encode(text.as_bytes(), &mut encoded);
        encoded.extend(vec![0xff; ones]);
        prop_assert_eq!(decoded(&encoded), reference(&encoded));
        encoded.extend(bytes);
        prop_assert_eq!(decoded(&encoded), reference(&encoded));
    }
}
