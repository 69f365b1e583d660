//! The messages of a WebSocket peer whose frames arrive in any parts: W1 to W6 of RFC 6455 §5.
//!
//! The first input byte selects the role and the size limit, the second is a number of lengths, the next bytes are these
//! lengths, and the rest is the stream. The stream arrives in parts of these lengths, repeated until its end, or in one
//! part without a length.

use crate::parts;
use tower_upgrade::{
    fuzzing,
    websocket::{CloseFrame, Message},
};

pub fn run(data: &[u8]) {
    let [settings, count, rest @ ..] = data else {
        return;
    };
    let is_server = settings & 1 == 0;
    let max = [3, 130, 20_000, 1 << 20][usize::from(settings >> 1 & 3)];
    let (lengths, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    // A long part reaches the paths for long payloads.
    let scale = 1 << (settings >> 3 & 15);
    let mut at = 0;
    let received = parts::lengths(lengths, stream.len(), scale).into_iter();
    let received = received.map(|length| {
        at += length;
        &stream[at - length..at]
    });
    let received = fuzzing::receive(is_server, max, received);
    let mut expected = Expected {
        is_server,
        max,
        messages: Vec::new(),
        partial: None,
    };
    let end = expected.read(stream);
    assert_eq!(received, (expected.messages, end.err()));
}

/// A reader that has the whole stream.
struct Expected {
    is_server: bool,
    max: usize,
    messages: Vec<Message>,
    /// Whether the message is a text, and its payload.
    partial: Option<(bool, Vec<u8>)>,
}

impl Expected {
    /// Reads all frames. Fails with a close code.
    fn read(&mut self, mut stream: &[u8]) -> Result<(), u16> {
        while let Some((header, rest)) = Header::read(stream) {
            self.check(&header)?;
            let length = rest.len().min(header.length as usize);
            let mut payload = rest[..length].to_vec();
            if let Some(mask) = header.mask {
                for (at, byte) in payload.iter_mut().enumerate() {
                    *byte ^= mask[at % 4];
                }
            }
            let is_whole = length as u64 == header.length;
            if header.opcode >= 8 {
                if is_whole {
                    self.control(header.opcode, payload)?;
                }
            } else {
                self.data(&header, &payload, is_whole)?;
            }
            stream = &rest[length..];
        }
        Ok(())
    }

    fn check(&self, header: &Header) -> Result<(), u16> {
        let size = |before: usize| before as u128 + u128::from(header.length);
        match header.opcode {
            _ if header.reserved != 0 || header.mask.is_some() != self.is_server => Err(1002),
            _ if !header.is_shortest => Err(1002),
            8..=10 if !header.is_final || header.length > 125 => Err(1002),
            8..=10 => Ok(()),
            0 if self.partial.is_none() => Err(1002),
            1 | 2 if self.partial.is_some() => Err(1002),
            0..=2 => {
                let before = self.partial.as_ref().map_or(0, |(_, bytes)| bytes.len());
                if size(before) > self.max as u128 {
                    return Err(1009);
                }
                Ok(())
            }
            _ => Err(1002),
        }
    }

    fn control(&mut self, opcode: u8, payload: Vec<u8>) -> Result<(), u16> {
        self.messages.push(match (opcode, &payload[..]) {
            (9, _) => Message::Ping(payload.into()),
            (10, _) => Message::Pong(payload.into()),
            (_, []) => Message::Close(None),
            (_, [_]) => return Err(1002),
            (_, [high, low, reason @ ..]) => {
                let reason = std::str::from_utf8(reason).map_err(|_| 1007_u16)?;
                match u16::from_be_bytes([*high, *low]) {
                    code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => {
                        Message::Close(Some(CloseFrame::new(code, reason)))
                    }
                    _ => {
                        let reason = "the code of the close frame is invalid";
                        Message::Close(Some(CloseFrame::new(1002, reason)))
                    }
                }
            }
        });
        Ok(())
    }

    fn data(&mut self, header: &Header, payload: &[u8], is_whole: bool) -> Result<(), u16> {
        let (is_text, bytes) = self
            .partial
            .get_or_insert_with(|| (header.opcode == 1, Vec::new()));
        bytes.extend_from_slice(payload);
        let is_last = is_whole && header.is_final;
        if *is_text {
            match std::str::from_utf8(bytes) {
                Err(error) if is_last || error.error_len().is_some() => return Err(1007),
                _ => {}
            }
        }
        if is_last {
            let (is_text, bytes) = self.partial.take().expect("inserted above");
            self.messages.push(match is_text {
                true => Message::Text(std::str::from_utf8(&bytes).expect("checked above").into()),
                false => Message::Binary(bytes.into()),
            });
        }
        Ok(())
    }
}

struct Header {
    is_final: bool,
    reserved: u8,
    opcode: u8,
    mask: Option<[u8; 4]>,
    length: u64,
    is_shortest: bool,
}

impl Header {
    /// Reads the header of a frame, and returns the bytes after it. Returns `None` for an incomplete header.
    fn read(stream: &[u8]) -> Option<(Self, &[u8])> {
        let (&[first, second], rest) = stream.split_first_chunk()?;
        let (length, is_shortest, rest) = match second & 127 {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = u64::from(u16::from_be_bytes(*length));
                (length, length > 125, rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = u64::from_be_bytes(*length);
                (length, length > 65_535, rest)
            }
            length => (u64::from(length), true, rest),
        };
        let (mask, rest) = match second >> 7 {
            0 => (None, rest),
            _ => {
                let (mask, rest) = rest.split_first_chunk()?;
                (Some(*mask), rest)
            }
        };
        let header = Self {
            is_final: first >> 7 == 1,
            reserved: first >> 4 & 7,
            opcode: first & 15,
            mask,
            length,
            is_shortest,
        };
        Some((header, rest))
    }
}
