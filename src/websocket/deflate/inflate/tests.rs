use super::*;
use flate2::{Compress, Compression, FlushCompress};

const MAX: usize = 1000;

/// Decompresses a message that arrives in parts of `step` bytes.
fn inflate_in(
    inflater: &mut Inflater,
    payload: &[u8],
    step: usize,
    max: usize,
) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    for part in payload.chunks(step) {
        inflater.inflate(part, &mut message, max)?;
    }
    inflater.finish(&mut message, max)?;
    assert!(
        inflater.decompress.is_none(),
        "a decompressor between messages"
    );
    Ok(message)
}

fn inflate(payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let whole = inflate_in(&mut Inflater::new(None), payload, payload.len().max(1), MAX);
    let bytewise = inflate_in(&mut Inflater::new(None), payload, 1, MAX);
    assert_eq!(whole, bytewise);
    whole
}

fn deflate(message: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(2 * message.len() + 100);
    Compress::new(Compression::best(), false)
        .compress_vec(message, &mut compressed, FlushCompress::Sync)
        .unwrap();
    compressed.truncate(compressed.len() - TAIL.len());
    compressed
}

#[test]
fn examples_of_the_rfc_are_decompressed() {
    for (payload, message) in [
        // §7.2.3.1: one block.
        (&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], &b"Hello"[..]),
        // §7.2.3.3: a block without compression.
        (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
        // §7.2.3.4: a final block.
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
        // §7.2.3.5: two blocks.
        (
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
            b"Hello",
        ),
        // §7.2.3.6: an empty message.
        (b"\x00", b""),
    ] {
        assert_eq!(inflate(payload).as_deref(), Ok(message), "{payload:x?}");
    }
}

#[test]
fn forms_that_peers_send_beside_those_of_the_rfc_are_decompressed() {
    for (payload, message) in [
        // zlib has nothing to flush for an empty message.
        (&b""[..], &b""[..]),
        // A final block without the octet after it.
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
        (
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00",
            b"HelloHello",
        ),
        (
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00",
            b"HelloHello",
        ),
        (b"\x03\x00\x03\x00\x03\x00", b""),
    ] {
        assert_eq!(inflate(payload).as_deref(), Ok(message), "{payload:x?}");
    }
}

#[test]
fn message_refers_to_earlier_messages_only_with_context_takeover() {
    static WINDOWS: super::super::window::Windows = super::super::window::Windows::new();
    let window = Window::new(15, WINDOWS.acquire(1).unwrap());
    let mut inflater = Inflater::new(Some(window));
    // §7.2.3.2.
    let first = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let second = b"\xf2\x00\x11\x00\x00";
    for payload in [&first[..], second, second, b"\x00", second] {
        let message = inflate_in(&mut inflater, payload, 2, MAX).unwrap();
        let expected = if payload == b"\x00" {
            &b""[..]
        } else {
            b"Hello"
        };
        assert_eq!(message, expected, "{payload:x?}");
    }
    let mut inflater = Inflater::new(None);
    assert!(inflate_in(&mut inflater, first, 2, MAX).is_ok());
    let failed = inflate_in(&mut inflater, second, 2, MAX);
    assert_eq!(failed, Err(Failure::Corrupt));
}

#[test]
fn corrupt_and_truncated_messages_are_rejected() {
    for payload in [
        // A reserved type of block.
        &b"\x07"[..],
        // A length that does not match its complement.
        b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00",
        // A reference to bytes before the message.
        b"\xf2\x00\x11\x00\x00",
        // Truncated in a block, and in its header.
        b"\x00\x05\x00\xfa\xff",
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c",
        b"\x00\x05",
        b"\xf2\x48\xcd",
        // Behind a final block.
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\xff",
        b"\xff\xff\xff\xff",
    ] {
        assert_eq!(inflate(payload), Err(Failure::Corrupt), "{payload:x?}");
    }
}

#[test]
fn bomb_is_decompressed_no_further_than_the_limit() {
    let bomb = deflate(&vec![0; 10_000_000]);
    for max in [0, 1, 1000, 9_999_999] {
        for step in [1, bomb.len()] {
            let mut inflater = Inflater::new(None);
            let mut message = Vec::new();
            let failed = bomb
                .chunks(step)
                .try_for_each(|part| inflater.inflate(part, &mut message, max));
            assert_eq!(failed, Err(Failure::TooLarge), "{max}");
            assert!(message.capacity() <= max + MIN_ROOM, "{max}");
        }
    }
}

#[test]
fn message_of_the_maximum_size_is_decompressed() {
    for size in [0, 1, 63, 64, 65, 1000, 70_000] {
        let message = vec![b'a'; size];
        let payload = deflate(&message);
        for step in [1, payload.len()] {
            let inflated = inflate_in(&mut Inflater::new(None), &payload, step, size);
            assert_eq!(inflated.as_ref(), Ok(&message), "{size}");
            if size > 0 {
                let failed = inflate_in(&mut Inflater::new(None), &payload, step, size - 1);
                assert_eq!(failed, Err(Failure::TooLarge), "{size}");
            }
        }
    }
}

#[test]
fn pooled_decompressor_forgets_the_message_of_another_session() {
    let _ = inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    assert_eq!(inflate(b"\xf2\x00\x11\x00\x00"), Err(Failure::Corrupt));
}
