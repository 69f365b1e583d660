//! The payload of a message, while it arrives.

use super::input::Ahead;
use bytes::{BufMut, Bytes, BytesMut};

/// The room for an incomplete payload of which few bytes have arrived.
const MIN_ROOM: usize = 4 * 1024;

/// An incomplete payload stays in a read buffer if at least this fraction of it has arrived: a peer that sends little
/// does not hold a buffer.
const FRACTION: usize = 8;

/// The bytes of a message that have arrived.
pub(super) enum Payload {
    /// In the buffer that they were read into, which has room for the rest of the frame.
    Read(Ahead),
    Own(BytesMut),
}

impl Payload {
    pub(super) fn new() -> Self {
        Self::Own(BytesMut::new())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Read(read) => read.bytes(),
            Self::Own(bytes) => bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Moves the first `length` bytes of `ahead` to the end. `rest` bytes of the same frame come after them.
    pub(super) fn push(&mut self, ahead: &mut Ahead, length: usize, rest: usize) {
        let is_first = self.len() == 0;
        if is_first && rest > 0 && length >= rest / FRACTION && ahead.make_room(rest) {
            *self = Self::Read(std::mem::take(ahead));
            return;
        }
        let bytes = &ahead.bytes()[..length];
        match self {
            Self::Read(read) if read.space() >= length => {
                read.room()[..length].copy_from_slice(bytes);
                read.filled(length);
            }
            _ => self.own(length, rest).extend_from_slice(bytes),
        }
        ahead.advance(length);
    }

    /// Returns room for bytes of the `rest` of a frame.
    pub(super) fn room(&mut self, rest: usize) -> Room<'_> {
        if matches!(self, Self::Read(read) if read.space() < rest) {
            self.own(0, rest);
        }
        match self {
            Self::Read(read) => Room::Read(&mut read.room()[..rest]),
            Self::Own(_) => Room::Own(self.own(0, rest).limit(rest)),
        }
    }

    /// Adds the first `length` bytes of the room, and returns them.
    pub(super) fn filled(&mut self, length: usize) -> &mut [u8] {
        match self {
            Self::Read(read) => read.filled(length),
            Self::Own(bytes) => {
                let start = bytes.len() - length;
                &mut bytes[start..]
            }
        }
    }

    pub(super) fn freeze(self) -> Bytes {
        match self {
            Self::Read(mut read) => read.take(read.len()),
            Self::Own(bytes) => bytes.freeze(),
        }
    }

    /// Returns memory with room for `length` bytes, and for some of the `rest` bytes after them.
    ///
    /// It grows with the bytes that have arrived: a header alone does not allocate the memory for its payload.
    fn own(&mut self, length: usize, rest: usize) -> &mut BytesMut {
        if let Self::Read(read) = self {
            let mut bytes = BytesMut::with_capacity(read.bytes().len() + length);
            bytes.extend_from_slice(read.bytes());
            *self = Self::Own(bytes);
        }
        let Self::Own(bytes) = self else {
            unreachable!("converted above");
        };
        let room = bytes.capacity() - bytes.len();
        if room == 0 || room < length {
            let arrived = bytes.len() + length;
            bytes.reserve(length + rest.min(arrived.max(MIN_ROOM)));
        }
        bytes
    }
}

/// Room for the next bytes of a payload.
pub(super) enum Room<'a> {
    Read(&'a mut [u8]),
    Own(bytes::buf::Limit<&'a mut BytesMut>),
}

impl Room<'_> {
    pub(super) fn buffer(&mut self) -> &mut dyn BufMut {
        match self {
            Self::Read(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}
