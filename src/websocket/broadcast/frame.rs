//! Messages that are encoded once for many WebSockets.

use crate::websocket::{Error, Message, reader::MAX_CONTROL_PAYLOAD};
use bytes::Bytes;

/// The maximum length of the header of an unmasked frame (RFC 6455 §5.2).
const MAX_HEADER: usize = 10;

/// The FIN bit: the frame is a whole message.
const FIN: u8 = 0x80;

/// A message with the header of its frame. A server does not mask its frames, so all sessions write the same bytes.
#[derive(Debug)]
pub(in crate::websocket) struct Frame {
    message: Message,
    header: [u8; MAX_HEADER],
    header_len: u8,
}

impl Frame {
    /// Encodes a message. Fails if the message is a control frame that is too long, or a close frame with an invalid
    /// code.
    pub(super) fn new(message: Message) -> Result<Self, Error> {
        let opcode = match &message {
            Message::Text(_) => 1,
            Message::Binary(_) => 2,
            Message::Close(frame) => {
                if let Some(frame) = frame.as_ref().filter(|frame| !frame.has_valid_code()) {
                    return Err(Error::invalid_code(frame.code));
                }
                8
            }
            Message::Ping(_) => 9,
            Message::Pong(_) => 10,
        };
        let size = message.size();
        if opcode >= 8 && size > MAX_CONTROL_PAYLOAD {
            return Err(Error::too_long(size));
        }
        let mut header = [0; MAX_HEADER];
        header[0] = FIN | opcode;
        let header_len = match (u8::try_from(size), u16::try_from(size)) {
            (Ok(size @ 0..126), _) => {
                header[1] = size;
                2
            }
            (_, Ok(size)) => {
                header[1] = 126;
                header[2..4].copy_from_slice(&size.to_be_bytes());
                4
            }
            _ => {
                header[1] = 127;
                header[2..].copy_from_slice(&(size as u64).to_be_bytes());
                10
            }
        };
        Ok(Self {
            message,
            header,
            header_len,
        })
    }

    pub(in crate::websocket) fn message(&self) -> &Message {
        &self.message
    }

    pub(in crate::websocket) fn header(&self) -> &[u8] {
        &self.header[..self.header_len.into()]
    }

    /// Returns the payload without a copy, or `None` for a close frame, which each session sends itself.
    pub(in crate::websocket) fn payload(&self) -> Option<Bytes> {
        match &self.message {
            Message::Text(text) => Some(text.clone().into()),
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => {
                Some(bytes.clone())
            }
            Message::Close(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::{CloseFrame, ErrorKind};

    #[test]
    fn header_has_the_length_in_its_shortest_form() {
        for (size, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65535, &[0x82, 126, 0xff, 0xff]),
            (65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = Frame::new(vec![7; size].into()).expect("a valid message");
            assert_eq!(frame.header(), expected);
            assert_eq!(frame.payload().expect("a payload"), vec![7; size]);
        }
    }

    #[test]
    fn payload_is_not_copied() {
        let payload = Bytes::from(vec![7; 100]);
        let frame = Frame::new(payload.clone().into()).expect("a valid message");
        let shared = frame.payload().expect("a payload");
        assert_eq!(shared.as_ptr(), payload.as_ptr());
    }

    #[test]
    fn invalid_control_frames_are_refused() {
        let long = Frame::new(Message::Ping(vec![0; 126].into()));
        assert_eq!(long.expect_err("too long").kind(), ErrorKind::TooLarge);
        let reserved = Frame::new(Message::Close(Some(CloseFrame::new(1005, ""))));
        let error = reserved.expect_err("a reserved code");
        assert_eq!(error.kind(), ErrorKind::InvalidCode);
        let close = Frame::new(Message::Close(Some(CloseFrame::new(4000, "bye"))));
        assert!(close.expect("a valid close frame").payload().is_none());
    }
}
