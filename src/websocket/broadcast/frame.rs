//! Messages that are encoded once for many WebSockets.

use crate::websocket::{
    Error, Message,
    deflate::{Compressor, Settings},
    reader::MAX_CONTROL_PAYLOAD,
};
use bytes::Bytes;
use std::sync::OnceLock;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// The maximum length of the header of an unmasked frame (RFC 6455 §5.2).
const MAX_HEADER: usize = 10;

/// A message that all sessions write alike. A server does not mask its frames.
#[derive(Debug)]
pub(in crate::websocket) struct Frame {
    message: Message,
    opcode: OpCode,
    /// Encoded for the sessions without compression. `None` for a close frame, which each session sends itself.
    plain: Option<Encoded>,
    /// Compressed for the first session with compression, and for all with the same settings. `None` inside if the
    /// message does not become shorter.
    compressed: OnceLock<(Settings, Option<Encoded>)>,
}

/// The bytes of an unmasked frame.
#[derive(Clone, Debug)]
pub(in crate::websocket) struct Encoded {
    header: [u8; MAX_HEADER],
    header_len: u8,
    payload: Bytes,
}

impl Encoded {
    fn new(opcode: OpCode, is_compressed: bool, payload: Bytes) -> Self {
        let mut header = [0; MAX_HEADER];
        let mut rest = &mut header[..];
        let fields = FrameHeader {
            rsv1: is_compressed,
            opcode,
            ..FrameHeader::default()
        };
        // Does not fail: an unmasked header has room.
        let _ = fields.format(payload.len() as u64, &mut rest);
        let header_len = (MAX_HEADER - rest.len()) as u8;
        Self {
            header,
            header_len,
            payload,
        }
    }

    pub(in crate::websocket) fn header(&self) -> &[u8] {
        &self.header[..self.header_len.into()]
    }

    /// Returns the payload, without a copy.
    pub(in crate::websocket) fn payload(&self) -> Bytes {
        self.payload.clone()
    }
}

impl Frame {
    /// Encodes a message. Fails if the message is a control frame that is too long, or a close frame with an invalid
    /// code.
    pub(super) fn new(message: Message) -> Result<Self, Error> {
        let (opcode, payload) = match &message {
            Message::Text(text) => (OpCode::Data(Data::Text), Some(text.clone().into())),
            Message::Binary(bytes) => (OpCode::Data(Data::Binary), Some(bytes.clone())),
            Message::Close(frame) => {
                if let Some(frame) = frame.as_ref().filter(|frame| !frame.has_valid_code()) {
                    return Err(Error::invalid_code(frame.code));
                }
                (OpCode::Control(Control::Close), None)
            }
            Message::Ping(bytes) => (OpCode::Control(Control::Ping), Some(bytes.clone())),
            Message::Pong(bytes) => (OpCode::Control(Control::Pong), Some(bytes.clone())),
        };
        let size = message.size();
        if matches!(opcode, OpCode::Control(_)) && size > MAX_CONTROL_PAYLOAD {
            return Err(Error::too_long(size));
        }
        Ok(Self {
            message,
            opcode,
            plain: payload.map(|payload| Encoded::new(opcode, false, payload)),
            compressed: OnceLock::new(),
        })
    }

    /// Returns the frame for a session of a server with this compression. Returns `None` for a close frame.
    ///
    /// The message is compressed without the window of a session, which all receivers accept.
    pub(in crate::websocket) fn encoded(
        &self,
        compressor: Option<&mut Compressor>,
    ) -> Option<Encoded> {
        let plain = self.plain.as_ref()?;
        let Some(compressor) = compressor.filter(|_| matches!(self.opcode, OpCode::Data(_))) else {
            return Some(plain.clone());
        };
        let compress = |compressor: &Compressor| {
            let compressed = compressor.compress_alone(&plain.payload)?;
            Some(Encoded::new(self.opcode, true, compressed.into()))
        };
        let settings = compressor.settings();
        let first = || (settings, compress(compressor));
        let compressed = match self.compressed.get_or_init(first) {
            (of_first, compressed) if *of_first == settings => compressed.clone(),
            _ => compress(compressor),
        };
        if compressed.is_some() {
            compressor.has_sent(&plain.payload);
        }
        Some(compressed.unwrap_or_else(|| plain.clone()))
    }

    pub(in crate::websocket) fn message(&self) -> &Message {
        &self.message
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
            let encoded = frame.encoded(None).expect("a payload");
            assert_eq!(encoded.header(), expected);
            assert_eq!(encoded.payload(), vec![7; size]);
        }
    }

    #[test]
    fn payload_is_not_copied() {
        let payload = Bytes::from(vec![7; 100]);
        let frame = Frame::new(payload.clone().into()).expect("a valid message");
        let shared = frame.encoded(None).expect("a payload").payload();
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
        assert!(close.expect("a valid close frame").encoded(None).is_none());
    }
}
