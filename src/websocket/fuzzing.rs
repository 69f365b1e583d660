//! The reader of frames, for the targets in `fuzz/`.

#[cfg(feature = "deflate")]
use super::deflate::{Compression, MAX_WINDOW_BITS};
use super::{
    Message,
    input::Ahead,
    reader::{Limits, Reader},
};
use crate::io::buffer::Buffer;
use bytes::BufMut as _;
use tungstenite::protocol::Role;

/// Reads the messages of a peer whose bytes arrive in these parts, of at most 64 KiB each.
///
/// Returns the messages, and the close code of the error that ended them.
pub(crate) fn receive<'a>(
    is_server: bool,
    max_message_size: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Message>, Option<u16>) {
    let role = match is_server {
        true => Role::Server,
        false => Role::Client,
    };
    let message = max_message_size;
    receive_with(Reader::new(role, Limits { message }, None), parts)
}

/// Reads the messages of a client as `receive`, with compression.
#[cfg(feature = "deflate")]
pub(crate) fn receive_compressed<'a>(
    context_takeover: bool,
    max_message_size: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Message>, Option<u16>) {
    let compression = Compression::for_fuzzing(0, MAX_WINDOW_BITS, context_takeover);
    let message = max_message_size;
    let inflater = Some(compression.inflater);
    receive_with(
        Reader::new(Role::Server, Limits { message }, inflater),
        parts,
    )
}

/// Returns the payloads of compressed messages. Those that do not become shorter are `None`.
#[cfg(feature = "deflate")]
pub(crate) fn compress<'a>(
    level: u8,
    window_bits: u8,
    context_takeover: bool,
    messages: impl Iterator<Item = &'a [u8]>,
) -> Vec<Option<Vec<u8>>> {
    let compression = Compression::for_fuzzing(level, window_bits, context_takeover);
    let mut compressor = compression.compressor.expect("not only for receiving");
    messages
        .map(|message| compressor.compress(message))
        .collect()
}

fn receive_with<'a>(
    mut reader: Reader,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Message>, Option<u16>) {
    let mut messages = Vec::new();
    for mut part in parts {
        let mut ahead = Ahead::default();
        while !part.is_empty() {
            let read = match reader.rest() {
                Some(mut room) => {
                    let room = room.buffer();
                    let (bytes, others) = part.split_at(part.len().min(room.remaining_mut()));
                    room.put_slice(bytes);
                    part = others;
                    reader.received(bytes.len())
                }
                None => {
                    let mut buffer = Buffer::borrow();
                    buffer[..part.len()].copy_from_slice(part);
                    ahead = Ahead::new(buffer, part.len());
                    part = &[];
                    Ok(None)
                }
            };
            match read {
                Ok(message) => messages.extend(message),
                Err(error) => return (messages, error.close_code()),
            }
        }
        loop {
            match reader.read(&mut ahead) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, error.close_code()),
            }
        }
        if let Err(error) = reader.check_text() {
            return (messages, error.close_code());
        }
    }
    (messages, None)
}
