//! The reader of frames, for the targets in `fuzz/`.

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
    let mut reader = Reader::new(role, Limits { message }, None);
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
