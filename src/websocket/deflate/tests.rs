use super::{window::Windows, *};
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};
use proptest::prelude::*;

const MAX: usize = 100_000;

static PLENTY: Windows = Windows::new();

fn window(takeover: bool, bits: u8) -> Option<Window> {
    takeover.then(|| Window::new(bits, PLENTY.acquire(usize::MAX).expect("plenty")))
}

/// Messages of few different bytes, some of them long.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let short = prop::collection::vec(0..4_u8, 0..400);
    let long = (prop::collection::vec(any::<u8>(), 0..500), 1..100_usize)
        .prop_map(|(bytes, times)| bytes.repeat(times));
    prop::collection::vec(prop_oneof![short, long], 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_messages_are_compressed_for_a_plain_decompressor(
        messages in messages(), level in 0..=9_u8, bits in 9..=15_u8, takeover: bool,
    ) {
        let mut compressor = Compressor::new(level, bits, 30, window(takeover, bits));
        let mut plain = Decompress::new_with_window_bits(false, bits);
        for message in messages {
            let Some(mut payload) = compressor.compress(&message) else {
                continue;
            };
            prop_assert!(payload.len() < message.len());
            payload.extend([0, 0, 0xff, 0xff]);
            let mut inflated = Vec::with_capacity(message.len() + 100);
            if !takeover {
                plain = Decompress::new_with_window_bits(false, bits);
            }
            plain.decompress_vec(&payload, &mut inflated, FlushDecompress::Sync).unwrap();
            prop_assert!(inflated == message);
        }
    }

    #[test]
    fn any_parts_of_a_plain_stream_are_decompressed(
        messages in messages(), level in 0..=9_u32, bits in 9..=15_u8, takeover: bool, step in 1..5000_usize,
    ) {
        let mut inflater = Inflater::new(window(takeover, bits));
        let level = flate2::Compression::new(level);
        let mut plain = Compress::new_with_window_bits(level, false, bits);
        for message in messages {
            let mut payload = Vec::with_capacity(2 * message.len() + 1000);
            if !takeover {
                plain = Compress::new_with_window_bits(level, false, bits);
            }
            plain.compress_vec(&message, &mut payload, FlushCompress::Sync).unwrap();
            // A second flush of the same stream is empty.
            payload.truncate(payload.len().saturating_sub(4));
            let mut inflated = Vec::new();
            for part in payload.chunks(step) {
                inflater.inflate(part, &mut inflated, MAX).unwrap();
            }
            inflater.finish(&mut inflated, MAX).unwrap();
            prop_assert!(inflated == message);
        }
    }

    #[test]
    fn any_bytes_are_decompressed_without_a_panic(
        payload in prop::collection::vec(any::<u8>(), 0..300), step in 1..300_usize, max in 0..3000_usize,
    ) {
        let mut inflater = Inflater::new(None);
        let mut message = Vec::new();
        let inflated = payload.chunks(step).try_for_each(|part| inflater.inflate(part, &mut message, max));
        let finished = inflated.and_then(|()| inflater.finish(&mut message, max));
        prop_assert!(message.capacity() <= max + 100);
        prop_assert!(message.len() <= max || finished == Err(Failure::TooLarge));
    }
}

fn offer(value: &'static str) -> HeaderMap {
    let name = header::SEC_WEBSOCKET_EXTENSIONS;
    HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
}

#[test]
fn settings_can_be_a_constant() {
    const DEFLATE: Deflate = Deflate::new()
        .level(9)
        .min_size(0)
        .window_bits(9)
        .context_takeover(2)
        .receive_only();
    assert_ne!(DEFLATE, Deflate::default());
}

#[test]
#[should_panic = "the level of compression is greater than 9"]
fn level_of_10_panics() {
    let _deflate = Deflate::new().level(10);
}

#[test]
#[should_panic = "the window bits are not from 9 to 15"]
fn window_of_8_bits_panics() {
    let _deflate = Deflate::new().window_bits(8);
}

#[test]
fn windows_are_kept_only_with_context_takeover() {
    let has_windows = |deflate: Deflate| {
        let accepted = deflate.accept(&offer("permessage-deflate"));
        let (
            answer,
            Compression {
                compressor,
                inflater,
            },
        ) = accepted.expect("a valid offer");
        let own = compressor.map(|compressor| compressor.has_window());
        (
            answer.to_str().unwrap().to_owned(),
            own,
            inflater.has_window(),
        )
    };
    let none = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(
        has_windows(Deflate::new()),
        (none.into(), Some(false), false)
    );
    let takeover = Deflate::new().context_takeover(usize::MAX);
    let both = "permessage-deflate";
    assert_eq!(has_windows(takeover), (both.into(), Some(true), true));
    let peer = "permessage-deflate; server_no_context_takeover";
    assert_eq!(
        has_windows(takeover.receive_only()),
        (peer.into(), None, true)
    );
}

#[test]
fn session_over_the_maximum_number_of_windows_keeps_none() {
    let takeover = Deflate::new().context_takeover(usize::MAX);
    let _first = takeover
        .accept(&offer("permessage-deflate"))
        .expect("a valid offer");
    let second = takeover
        .context_takeover(2)
        .accept(&offer("permessage-deflate"));
    let (answer, _) = second.expect("a valid offer");
    assert_eq!(
        answer,
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    );
}

#[cfg(feature = "client")]
#[test]
fn client_and_server_agree() {
    for deflate in [
        Deflate::new(),
        Deflate::new().receive_only(),
        Deflate::new().window_bits(9),
        Deflate::new().context_takeover(usize::MAX),
        Deflate::new().context_takeover(usize::MAX).window_bits(10),
        Deflate::new().context_takeover(usize::MAX).receive_only(),
    ] {
        for server in [
            deflate,
            Deflate::new().context_takeover(usize::MAX),
            Deflate::new(),
        ] {
            let offer = deflate.offer();
            let offered = HeaderMap::from_iter([(header::SEC_WEBSOCKET_EXTENSIONS, offer.value())]);
            let (answer, server) = server.accept(&offered).expect("an acceptable offer");
            let answer = HeaderMap::from_iter([(header::SEC_WEBSOCKET_EXTENSIONS, answer)]);
            let client = offer
                .check(&answer)
                .expect("an acceptable answer")
                .expect("compression");
            let text = "a message that is long enough, a message that is long enough".repeat(10);
            for (sender, receiver) in [
                (server.compressor, client.inflater),
                (client.compressor, server.inflater),
            ] {
                let (Some(mut sender), mut receiver) = (sender, receiver) else {
                    continue;
                };
                for _ in 0..3 {
                    let payload = sender.compress(text.as_bytes()).expect("a shorter message");
                    let mut message = Vec::new();
                    receiver.inflate(&payload, &mut message, MAX).unwrap();
                    receiver.finish(&mut message, MAX).unwrap();
                    assert_eq!(message, text.as_bytes());
                }
            }
        }
    }
}
