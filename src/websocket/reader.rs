//! Messages from the bytes of a peer: frames, masks, fragments and text (RFC 6455 §5). No IO here.

use super::{
    CloseFrame, Error, Message, Utf8Bytes,
    deflate::{Failure, Inflater},
    header::{self, Header},
    input::Ahead,
    mask,
    payload::{Payload, Room},
};
use bytes::Bytes;
use tungstenite::protocol::{
    Role,
    frame::coding::{Control, Data, OpCode},
};

/// The maximum payload length of a control frame (RFC 6455 §5.5).
pub(super) const MAX_CONTROL_PAYLOAD: usize = 125;

/// The bit of the first byte of a compressed message, among the reserved bits.
const RSV1: u8 = 0x40;

/// The rest of a payload from which on it is worth a read of its own, which saves a copy.
const OWN_READ: usize = 8 * 1024;

/// Limits on received messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Maximum size of a message, and so of each of its frames, in bytes.
    pub(super) message: usize,
}

impl Limits {
    /// Returns the maximum size of the payloads of a message's frames, in bytes.
    ///
    /// Compression makes a random message longer: by 5 bytes per 16 KiB, or by an eighth with fixed codes.
    const fn frames(self, is_compressed: bool) -> usize {
        match is_compressed {
            true => self.message.saturating_add(self.message / 8 + 64),
            false => self.message,
        }
    }
}

/// Decodes the frames of a peer, and assembles its messages.
pub(super) struct Reader {
    role: Role,
    limits: Limits,
    /// `None` unless the handshake agreed on compression.
    inflater: Option<Box<Inflater>>,
    /// `None` at the boundary between two messages.
    partial: Option<Box<Partial>>,
}

/// A message or frame that has arrived in part.
#[derive(Default)]
struct Partial {
    /// The bytes of an incomplete header.
    header: Vec<u8>,
    /// The frame whose payload is incomplete.
    frame: Option<Frame>,
    /// The payload of an incomplete control frame.
    control: Vec<u8>,
    /// The message, from its first frame to its last.
    message: Option<Assembly>,
}

#[derive(Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    is_compressed: bool,
    mask: Option<[u8; 4]>,
    /// The number of payload bytes that have been read.
    read: usize,
    /// The number of payload bytes to come.
    rest: usize,
}

/// A compressed message.
#[derive(Default)]
struct Compressed {
    /// The payload length of its frames so far.
    size: usize,
    message: Vec<u8>,
}

struct Assembly {
    is_text: bool,
    /// The payload of an uncompressed message.
    payload: Payload,
    compressed: Option<Compressed>,
    /// The number of bytes of the message that are known to be UTF-8.
    valid: usize,
}

impl Reader {
    pub(super) fn new(role: Role, limits: Limits, inflater: Option<Box<Inflater>>) -> Self {
        Self {
            role,
            limits,
            inflater,
            partial: None,
        }
    }

    /// Reads a message or control frame from `ahead`. Returns `None` once all bytes are used.
    pub(super) fn read(&mut self, ahead: &mut Ahead) -> Result<Option<Message>, Error> {
        while !ahead.is_empty() {
            let incomplete = self
                .partial
                .as_mut()
                .and_then(|partial| partial.frame.take());
            let frame = match incomplete {
                Some(frame) => frame,
                None => match self.read_header(ahead)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let message = match frame.opcode {
                OpCode::Control(control) => self.read_control(control, frame, ahead)?,
                OpCode::Data(_) => self.read_data(frame, ahead)?,
            };
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    /// Returns the place of the rest of an incomplete payload.
    ///
    /// Returns `None` unless a long rest has its place already. After bytes were read into it, call `received`.
    pub(super) fn rest(&mut self) -> Option<Room<'_>> {
        let Partial { frame, message, .. } = self.partial.as_deref_mut()?;
        let (Some(frame), Some(message)) = (frame, message) else {
            return None;
        };
        let is_long = frame.rest >= OWN_READ && frame.read > 0;
        if !is_long || frame.is_compressed || matches!(frame.opcode, OpCode::Control(_)) {
            return None;
        }
        Some(message.payload.room(frame.rest))
    }

    /// Continues after `length` bytes were read into the buffer that `rest` returned.
    pub(super) fn received(&mut self, length: usize) -> Result<Option<Message>, Error> {
        let Some(Partial { frame, message, .. }) = self.partial.as_deref_mut() else {
            return Ok(None);
        };
        let (Some(mut own), Some(message)) = (frame.take(), message) else {
            return Ok(None);
        };
        own.unmask(message.payload.filled(length));
        self.end_of_data(own)
    }

    /// Checks the text that has come so far. RFC 6455 §8.1 has a peer fail as soon as its text is not UTF-8.
    pub(super) fn check_text(&mut self) -> Result<(), Error> {
        match self.partial.as_deref_mut() {
            Some(Partial {
                message: Some(message),
                ..
            }) => message.check_text(),
            _ => Ok(()),
        }
    }

    fn assembly(&self) -> Option<&Assembly> {
        self.partial.as_ref()?.message.as_ref()
    }

    fn partial(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }

    /// Reads the header of a frame, and stores an incomplete one.
    fn read_header(&mut self, ahead: &mut Ahead) -> Result<Option<Frame>, Error> {
        let stored = match &mut self.partial {
            Some(partial) => std::mem::take(&mut partial.header),
            None => Vec::new(),
        };
        let before = stored.len();
        let parsed = if before == 0 {
            Header::parse(ahead.bytes())
        } else {
            let more = &ahead.bytes()[..ahead.len().min(header::MAX_LENGTH - before)];
            Header::parse(&[&stored, more].concat())
        };
        let Some((header, length)) = parsed else {
            let mut stored = stored;
            stored.extend_from_slice(ahead.bytes());
            self.partial().header = stored;
            ahead.advance(ahead.len());
            return Ok(None);
        };
        ahead.advance(length - before);
        self.check(&header).map(Some)
    }

    /// Checks a header (RFC 6455 §5.2, §5.4 and §5.5).
    fn check(&self, header: &Header) -> Result<Frame, Error> {
        let message = self.assembly();
        // The first frame of a compressed message has RSV1 (RFC 7692 §6).
        let is_first = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        let may_be_compressed = is_first && self.inflater.is_some();
        let has_rsv1 = header.reserved == RSV1;
        if header.reserved != 0 && !(has_rsv1 && may_be_compressed) {
            return Err(Error::protocol("a reserved bit of a frame is set"));
        }
        match (self.role, header.mask) {
            (Role::Server, None) => {
                return Err(Error::protocol("a frame of the client is not masked"));
            }
            (Role::Client, Some(_)) => {
                return Err(Error::protocol("a frame of the server is masked"));
            }
            _ => {}
        }
        if !header.has_shortest_length {
            return Err(Error::protocol(
                "the length of a frame does not have its shortest form",
            ));
        }
        let payload = usize::try_from(header.payload).unwrap_or(usize::MAX);
        let is_compressed = has_rsv1 || message.is_some_and(|message| message.compressed.is_some());
        match header.opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                return Err(Error::protocol("the opcode of a frame is reserved"));
            }
            OpCode::Control(_) if !header.is_final => {
                return Err(Error::protocol("a control frame is fragmented"));
            }
            OpCode::Control(_) if payload > MAX_CONTROL_PAYLOAD => {
                return Err(Error::protocol("a control frame is longer than 125 bytes"));
            }
            OpCode::Data(Data::Continue) if message.is_none() => {
                return Err(Error::protocol(
                    "a continuation frame does not continue a message",
                ));
            }
            OpCode::Data(Data::Text | Data::Binary) if message.is_some() => {
                return Err(Error::protocol("a message begins within another message"));
            }
            OpCode::Data(_) => {
                let before = message.map_or(0, Assembly::size);
                let size = payload.saturating_add(before);
                let max = self.limits.frames(is_compressed);
                if size > max {
                    return Err(Error::too_large(size, max));
                }
            }
            OpCode::Control(_) => {}
        }
        Ok(Frame {
            opcode: header.opcode,
            is_final: header.is_final,
            is_compressed,
            mask: header.mask,
            read: 0,
            rest: payload,
        })
    }

    fn read_control(
        &mut self,
        control: Control,
        mut frame: Frame,
        ahead: &mut Ahead,
    ) -> Result<Option<Message>, Error> {
        let length = frame.rest.min(ahead.len());
        let bytes = &mut ahead.bytes_mut()[..length];
        frame.unmask(bytes);
        let payload = if frame.rest == 0 && frame.read == length {
            Bytes::copy_from_slice(bytes)
        } else {
            let partial = self.partial();
            partial.control.extend_from_slice(bytes);
            if frame.rest > 0 {
                partial.frame = Some(frame);
                ahead.advance(length);
                return Ok(None);
            }
            std::mem::take(&mut partial.control).into()
        };
        ahead.advance(length);
        self.release();
        let message = match control {
            Control::Ping => Message::Ping(payload),
            Control::Pong => Message::Pong(payload),
            Control::Close | Control::Reserved(_) => Message::Close(close_frame(payload)?),
        };
        Ok(Some(message))
    }

    fn read_data(&mut self, mut frame: Frame, ahead: &mut Ahead) -> Result<Option<Message>, Error> {
        let length = frame.rest.min(ahead.len());
        let bytes = &mut ahead.bytes_mut()[..length];
        frame.unmask(bytes);
        let is_text = matches!(frame.opcode, OpCode::Data(Data::Text));
        if frame.is_compressed {
            self.inflate(is_text, ahead, length)?;
            return self.end_of_data(frame);
        }
        if frame.rest == 0 && frame.is_final && self.assembly().is_none() {
            // The whole message is here.
            let message = message(is_text, ahead.take(length));
            self.release();
            return message.map(Some);
        }
        let message = self
            .partial()
            .message
            .get_or_insert_with(|| Assembly::new(is_text));
        message.payload.push(ahead, length, frame.rest);
        self.end_of_data(frame)
    }

    /// Decompresses `length` bytes of a frame.
    fn inflate(&mut self, is_text: bool, ahead: &mut Ahead, length: usize) -> Result<(), Error> {
        let max = self.limits.message;
        let message = self
            .partial
            .get_or_insert_default()
            .message
            .get_or_insert_with(|| Assembly::new(is_text));
        let Compressed { size, message } = message.compressed.get_or_insert_default();
        *size += length;
        if let Some(inflater) = &mut self.inflater {
            let inflated = inflater.inflate(&ahead.bytes()[..length], message, max);
            inflated.map_err(|failure| inflate_error(failure, max))?;
        }
        ahead.advance(length);
        Ok(())
    }

    /// Stores an incomplete data frame. Returns the message if the frame completes it.
    fn end_of_data(&mut self, frame: Frame) -> Result<Option<Message>, Error> {
        let partial = self.partial();
        if frame.rest > 0 {
            partial.frame = Some(frame);
            return Ok(None);
        }
        if !frame.is_final {
            // A control frame may come next: the error comes before it.
            self.check_text()?;
            return Ok(None);
        }
        let Some(Assembly {
            is_text,
            payload,
            compressed,
            ..
        }) = partial.message.take()
        else {
            return Ok(None);
        };
        let payload = match (&mut self.inflater, compressed) {
            (Some(inflater), Some(Compressed { mut message, .. })) => {
                let max = self.limits.message;
                let finished = inflater.finish(&mut message, max);
                finished.map_err(|failure| inflate_error(failure, max))?;
                message.into()
            }
            _ => payload.freeze(),
        };
        self.release();
        message(is_text, payload).map(Some)
    }

    /// Frees the memory of an incomplete message at the boundary between two messages.
    fn release(&mut self) {
        self.partial.take_if(|partial| partial.message.is_none());
    }
}

impl Frame {
    /// Unmasks the next bytes of the payload.
    fn unmask(&mut self, bytes: &mut [u8]) {
        if let Some(mask) = self.mask {
            mask::apply(bytes, mask, self.read);
        }
        self.read += bytes.len();
        self.rest -= bytes.len();
    }
}

impl Assembly {
    fn new(is_text: bool) -> Self {
        Self {
            is_text,
            payload: Payload::new(),
            compressed: None,
            valid: 0,
        }
    }

    /// Returns the payload length of the frames so far.
    fn size(&self) -> usize {
        match &self.compressed {
            Some(compressed) => compressed.size,
            None => self.payload.len(),
        }
    }

    /// Returns the message so far.
    fn bytes(&self) -> &[u8] {
        match &self.compressed {
            Some(compressed) => &compressed.message,
            None => self.payload.bytes(),
        }
    }

    fn check_text(&mut self) -> Result<(), Error> {
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes()[self.valid..]) {
            Ok(text) => self.valid += text.len(),
            Err(error) if error.error_len().is_some() => return Err(Error::not_utf8()),
            // The last character is incomplete.
            Err(error) => self.valid += error.valid_up_to(),
        }
        Ok(())
    }
}

fn inflate_error(failure: Failure, max: usize) -> Error {
    match failure {
        Failure::Corrupt => Error::protocol("a compressed message is corrupt"),
        Failure::TooLarge => Error::too_large(max.saturating_add(1), max),
    }
}

fn message(is_text: bool, payload: Bytes) -> Result<Message, Error> {
    if !is_text {
        return Ok(Message::Binary(payload));
    }
    let text = Utf8Bytes::try_from(payload).map_err(|_| Error::not_utf8())?;
    Ok(Message::Text(text))
}

/// Returns the code and reason of a close frame (RFC 6455 §5.5.1).
fn close_frame(mut payload: Bytes) -> Result<Option<CloseFrame>, Error> {
    if payload.is_empty() {
        return Ok(None);
    }
    if payload.len() < 2 {
        return Err(Error::protocol("a close frame has an incomplete code"));
    }
    let code = u16::from_be_bytes([payload[0], payload[1]]);
    let reason = payload.split_off(2);
    let reason = Utf8Bytes::try_from(reason).map_err(|_| Error::not_utf8())?;
    let frame = CloseFrame { code, reason };
    Ok(Some(match frame.has_valid_code() {
        true => frame,
        false => CloseFrame::new(1002, "the code of the close frame is invalid"),
    }))
}
