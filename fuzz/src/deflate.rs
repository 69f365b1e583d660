//! Compressed messages of a WebSocket client (RFC 7692), in any frames and parts, against plain streams of flate2; and
//! messages that the server compresses.
//!
//! The first input byte selects the kind of input, context takeover and the size limit; the next bytes are the lengths
//! of frames and parts, the number of messages, and the lengths of all messages but the last.

use flate2::{Decompress, FlushDecompress, Status};
use tower_upgrade::{fuzzing, websocket::Message};

/// The end of a flushed stream, which is not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A final block without data.
const PROBE: [u8; 2] = [3, 0];

const WINDOW: usize = 32 * 1024;

pub fn run(data: &[u8]) {
    let [settings, frame, part, count, rest @ ..] = data else {
        return;
    };
    let takeover = settings & 1 == 0;
    let (lengths, mut stream) = rest.split_at(rest.len().min(usize::from(count % 16)));
    let mut messages = Vec::new();
    for length in lengths {
        let (message, rest) = stream.split_at(stream.len().min(usize::from(*length)));
        messages.push(message);
        stream = rest;
    }
    messages.push(stream);
    let frame = usize::from(*frame) + 1;
    let part = usize::from(*part) + 1;
    if settings >> 1 & 1 == 0 {
        let max = [3, 130, 5_000, 200_000][usize::from(settings >> 2 & 3)];
        decompress(takeover, max, &messages, frame, part);
    } else {
        let repeat = 1 << (settings >> 2 & 7);
        let level = settings >> 5;
        compress(takeover, level, &messages, repeat, (frame, part));
    }
}

/// Decompresses any bytes.
fn decompress(takeover: bool, max: usize, payloads: &[&[u8]], frame: usize, part: usize) {
    let received = receive(takeover, max, payloads, frame, part);
    let mut expected = Vec::new();
    let mut history = Vec::new();
    // Continues as long as the connection.
    let mut stream = Some(Decompress::new(false));
    let mut end = None;
    for payload in payloads {
        match inflate(&history, payload, max, frame) {
            Ok((message, restarts)) => {
                if let Some(plain) = stream.as_mut().filter(|_| restarts == 0) {
                    let mut continued = Vec::with_capacity(max + 1);
                    let payload = [payload, &TAIL[..]].concat();
                    let flush = FlushDecompress::Sync;
                    if payload.len() > TAIL.len() {
                        let status = plain.decompress_vec(&payload, &mut continued, flush);
                        status.expect("a valid stream");
                    }
                    assert_eq!(continued, message);
                } else {
                    stream = None;
                }
                if takeover {
                    history.extend_from_slice(&message);
                } else {
                    stream = Some(Decompress::new(false));
                }
                expected.push(Message::Binary(message.into()));
            }
            Err(code) => {
                end = Some(code);
                break;
            }
        }
    }
    assert_eq!(received, (expected, end));
}

/// Sends payloads in frames of at most `frame` bytes, which arrive in parts of `part` bytes.
fn receive(
    takeover: bool,
    max: usize,
    payloads: &[&[u8]],
    frame: usize,
    part: usize,
) -> (Vec<Message>, Option<u16>) {
    let mut bytes = Vec::new();
    for payload in payloads {
        let mut first = 0x42;
        let mut chunks = payload.chunks(frame).peekable();
        if chunks.peek().is_none() {
            bytes.extend([0xc2, 0x80, 0, 0, 0, 0]);
        }
        while let Some(chunk) = chunks.next() {
            let fin = if chunks.peek().is_none() { 0x80 } else { 0 };
            bytes.push(fin | first);
            match chunk.len() {
                length @ 0..126 => bytes.push(0x80 | length as u8),
                length => {
                    bytes.push(0x80 | 126);
                    bytes.extend((length as u16).to_be_bytes());
                }
            }
            // A mask that changes nothing.
            bytes.extend([0; 4]);
            bytes.extend_from_slice(chunk);
            first = 0;
        }
    }
    fuzzing::receive_compressed(takeover, max, bytes.chunks(part))
}

/// Decompresses a whole message at once, in frames of `frame` bytes, after these earlier messages. Also returns the
/// number of final blocks.
fn inflate(
    history: &[u8],
    payload: &[u8],
    max: usize,
    frame: usize,
) -> Result<(Vec<u8>, usize), u16> {
    let mut message = Vec::with_capacity(max + 1);
    let mut plain = Decompress::new(false);
    let window = &history[history.len().saturating_sub(WINDOW)..];
    plain.set_dictionary(window).expect("at the start");
    let mut restarts = 0;
    let mut feed = |mut input: &[u8], message: &mut Vec<u8>| {
        while !input.is_empty() {
            let before = plain.total_in();
            let status = plain.decompress_vec(input, message, FlushDecompress::Sync);
            input = &input[(plain.total_in() - before) as usize..];
            if message.len() > max {
                return Err(1009_u16);
            }
            if status.map_err(|_| 1002_u16)? == Status::StreamEnd {
                plain = Decompress::new(false);
                restarts += 1;
                if input.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    let limit = max + max / 8 + 64;
    if payload.len() > limit {
        // The header of the frame over the limit suffices.
        feed(&payload[..limit / frame * frame], &mut message)?;
        return Err(1009);
    }
    if !payload.is_empty() && !feed(payload, &mut message)? {
        feed(&TAIL, &mut message)?;
        let size = message.len();
        if !feed(&PROBE, &mut message)? || message.len() != size {
            return Err(1002);
        }
        restarts -= 1;
    }
    Ok((message, restarts))
}

/// Compresses messages, and decompresses them again.
fn compress(
    takeover: bool,
    level: u8,
    messages: &[&[u8]],
    repeat: usize,
    (frame, part): (usize, usize),
) {
    let messages: Vec<_> = messages
        .iter()
        .map(|message| message.repeat(repeat))
        .collect();
    let window_bits = 9 + (frame % 7) as u8;
    let payloads = fuzzing::compress(
        level,
        window_bits,
        takeover,
        messages.iter().map(Vec::as_slice),
    );
    let mut plain = Decompress::new_with_window_bits(false, window_bits);
    let mut compressed = Vec::new();
    let mut expected = Vec::new();
    for (message, payload) in messages.iter().zip(&payloads) {
        let Some(payload) = payload else {
            continue;
        };
        assert!(payload.len() < message.len());
        if !takeover {
            plain = Decompress::new_with_window_bits(false, window_bits);
        }
        let mut inflated = Vec::with_capacity(message.len() + 1);
        let whole = [payload, &TAIL[..]].concat();
        plain
            .decompress_vec(&whole, &mut inflated, FlushDecompress::Sync)
            .expect("a valid stream");
        assert!(inflated == *message);
        compressed.push(payload.as_slice());
        expected.push(Message::Binary(message.clone().into()));
    }
    let received = receive(takeover, 1 << 20, &compressed, frame, part);
    assert_eq!(received, (expected, None));
}
