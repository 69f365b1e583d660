use super::{super::window::Windows, *};
use flate2::{Decompress, FlushDecompress};

/// Continues a stream, as a decompressor that lives as long as its session.
fn inflate(decompress: &mut Decompress, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(100_000);
    let payload = [payload, &TAIL].concat();
    let before = decompress.total_in();
    decompress
        .decompress_vec(&payload, &mut message, FlushDecompress::Sync)
        .unwrap();
    assert_eq!(decompress.total_in() - before, payload.len() as u64);
    message
}

fn new(min_size: usize) -> Compressor {
    Compressor::new(1, 15, min_size, None)
}

#[test]
fn every_level_and_window_is_decompressed() {
    let message: Vec<_> = (0..50_000_u32).map(|at| (at * at / 1000) as u8).collect();
    for window_bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS {
        for level in 0..=9 {
            let mut compressor = Compressor::new(level, window_bits, 0, None);
            let compressed = compressor.compress(&message);
            assert_eq!(compressed.is_some(), level > 0, "{level}, {window_bits}");
            if let Some(compressed) = compressed {
                let mut decompress = Decompress::new_with_window_bits(false, window_bits);
                assert!(inflate(&mut decompress, &compressed) == message);
            }
        }
    }
}

#[test]
fn short_messages_are_not_compressed() {
    assert_eq!(new(100).compress(&[b'a'; 99]), None);
    assert!(new(100).compress(&[b'a'; 100]).is_some());
    assert_eq!(new(0).compress(b""), None);
}

#[test]
fn message_that_does_not_become_shorter_is_not_compressed() {
    assert_eq!(new(0).compress(b"Hello"), None);
    let random: Vec<_> = (0..50_000).map(|_| rand::random()).collect();
    assert_eq!(new(0).compress(&random), None);
}

#[test]
fn window_of_8_bits_is_not_compressed() {
    let mut compressor = Compressor::new(1, 8, 0, None);
    assert_eq!(compressor.compress(&[b'a'; 1000]), None);
}

#[test]
fn compressed_messages_continue_one_stream_with_context_takeover() {
    static WINDOWS: Windows = Windows::new();
    let window = Window::new(10, WINDOWS.acquire(1).unwrap());
    let mut compressor = Compressor::new(6, 10, 20, Some(window));
    let mut decompress = Decompress::new_with_window_bits(false, 10);
    let message = b"a message to which the next one refers";
    let first = compressor.compress(message);
    assert_eq!(first, None);
    let first = compressor.compress(&[b'a'; 50]).unwrap();
    assert_eq!(inflate(&mut decompress, &first), [b'a'; 50]);
    // The peer has not decompressed the first message, so the stream must not refer to it.
    assert_eq!(compressor.compress(message), None);
    let long = [&message[..], message].concat();
    let second = compressor.compress(&long).unwrap();
    assert_eq!(inflate(&mut decompress, &second), long);
    let third = compressor.compress(message).unwrap();
    assert_eq!(inflate(&mut decompress, &third), message);
    assert!(third.len() < 10, "{}", third.len());
}

#[test]
fn compressor_is_intact_after_a_message_that_does_not_become_shorter() {
    let random: Vec<_> = (0..70_000).map(|_| rand::random()).collect();
    let mut compressor = new(0);
    for size in [70_000, 100, 20_000, 70_000] {
        for _ in 0..3 {
            assert_eq!(compressor.compress(&random[..size]), None);
        }
        let message = [&random[..1000], &random[..1000]].concat();
        let compressed = compressor.compress(&message).unwrap();
        let message_again = inflate(&mut Decompress::new(false), &compressed);
        assert!(message_again == message);
    }
}

#[test]
fn compressed_message_does_not_refer_past_its_window() {
    let random: Vec<_> = (0..200).map(|_| rand::random()).collect();
    for bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS {
        // The end repeats the start.
        let message = [&random[..], &vec![0; 1 << bits], &random].concat();
        let length = |bits| {
            let compressed = Compressor::new(9, bits, 0, None).compress(&message);
            compressed.expect("a shorter message").len()
        };
        assert!(length(bits) >= 400, "{bits}");
        if bits < MAX_WINDOW_BITS {
            assert!(length(bits + 1) < 350, "{bits}");
        }
    }
}
