//! Finds the boundaries of WebSocket frames in a byte stream (RFC 6455 §5.2), without decoding the frames. No IO here.

/// The opcode of a close frame.
const CLOSE: u8 = 0x8;

/// A close frame from a client, with code 1001 and a mask of zeros.
pub(crate) const GOING_AWAY_FROM_CLIENT: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// A close frame from a server, with code 1001.
pub(crate) const GOING_AWAY_FROM_SERVER: &[u8] = &[0x88, 0x02, 0x03, 0xe9];

/// Follows one direction of a WebSocket.
#[derive(Default)]
pub(crate) struct Frames {
    at: At,
    /// In the payload, the number of bytes to come; before it, the length as far as it has come.
    length: u64,
    /// The number of bytes to come of an extended length or a mask, and then of the code in a close frame.
    rest: u8,
    is_close: bool,
    has_closed: bool,
    /// The first two bytes of the mask, which mask the code.
    mask: [u8; 2],
    code: [u8; 2],
}

/// The part of a frame to which the next byte belongs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// The first byte.
    #[default]
    Opcode,
    /// The second byte.
    Length,
    ExtendedLength {
        is_masked: bool,
    },
    Mask,
    Payload,
}

impl Frames {
    /// Returns `true` between two frames.
    pub(crate) fn is_between(&self) -> bool {
        self.at == At::Opcode
    }

    /// Returns `true` once the header of a close frame has come.
    pub(crate) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Returns the code of the close frame, if it has one.
    pub(crate) fn close_code(&self) -> Option<u16> {
        match u16::from_be_bytes(self.code) {
            0 => None,
            code => Some(code),
        }
    }

    /// Returns a number of bytes that ends at most at the next boundary. At least 1.
    pub(crate) fn at_most(&self) -> usize {
        match self.at {
            At::Payload => usize::try_from(self.length).unwrap_or(usize::MAX),
            _ => 1,
        }
    }

    /// Follows the next bytes of the stream.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            bytes = match self.at {
                At::Payload => self.payload(bytes),
                _ => {
                    self.header(*byte);
                    rest
                }
            };
        }
    }

    fn header(&mut self, byte: u8) {
        match self.at {
            At::Opcode => {
                // Only the first close frame counts.
                self.is_close = byte & 0x0f == CLOSE && !self.has_closed;
                self.at = At::Length;
            }
            At::Length => {
                let is_masked = byte & 0x80 != 0;
                self.mask = [0; 2];
                self.length = 0;
                self.rest = match byte & 0x7f {
                    126 => 2,
                    127 => 8,
                    length => {
                        self.length = length.into();
                        return self.mask_or_payload(is_masked);
                    }
                };
                self.at = At::ExtendedLength { is_masked };
            }
            At::ExtendedLength { is_masked } => {
                self.length = self.length << 8 | u64::from(byte);
                self.rest -= 1;
                if self.rest == 0 {
                    self.mask_or_payload(is_masked);
                }
            }
            At::Mask => {
                if let Some(mask) = self.mask.get_mut(4 - usize::from(self.rest)) {
                    *mask = byte;
                }
                self.rest -= 1;
                if self.rest == 0 {
                    self.mask_or_payload(false);
                }
            }
            At::Payload => unreachable!("the payload is not part of the header"),
        }
    }

    /// Goes on to the mask if one is to come, and otherwise to the payload or the next frame.
    fn mask_or_payload(&mut self, is_masked: bool) {
        if is_masked {
            self.at = At::Mask;
            self.rest = 4;
            return;
        }
        self.has_closed |= self.is_close;
        if self.length == 0 {
            self.at = At::Opcode;
        } else {
            self.at = At::Payload;
            self.rest = if self.is_close { 2 } else { 0 };
        }
    }

    /// Follows a payload, and returns the bytes behind it.
    fn payload<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let length = self.at_most().min(bytes.len());
        let (payload, next) = bytes.split_at(length);
        for byte in payload.iter().take(self.rest.into()) {
            let index = 2 - usize::from(self.rest);
            self.code[index] = byte ^ self.mask[index];
            self.rest -= 1;
        }
        self.length -= length as u64;
        if self.length == 0 {
            self.at = At::Opcode;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a frame with a payload of `length` bytes, none of which looks like a header.
    fn frame(first: u8, is_masked: bool, length: usize) -> Vec<u8> {
        let mask = u8::from(is_masked) << 7;
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(7, 4 * usize::from(is_masked) + length));
        frame
    }

    #[test]
    fn boundaries_are_found_whatever_the_split() {
        for is_masked in [false, true] {
            for length in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
                let one = frame(0x82, is_masked, length);
                let two = [one.clone(), one.clone()].concat();
                for split in [1, 2, 3, 5, 9, 13, 14, 15, one.len() - 1, one.len()] {
                    let mut frames = Frames::default();
                    let mut at = 0;
                    for part in two.chunks(split) {
                        frames.follow(part);
                        at += part.len();
                        let is_boundary = at % one.len() == 0;
                        assert_eq!(frames.is_between(), is_boundary, "{length} {split} {at}");
                    }
                    assert!(!frames.has_closed());
                }
            }
        }
    }

    #[test]
    fn reads_of_at_most_the_rest_stop_at_the_boundary() {
        for length in [0, 1, 200, 70000] {
            let one = frame(0x81, true, length);
            let mut frames = Frames::default();
            frames.follow(&one[..1]);
            let mut at = 1;
            while !frames.is_between() {
                let end = (at + frames.at_most()).min(at + 4096);
                assert!(end <= one.len(), "{length}");
                frames.follow(&one[at..end]);
                at = end;
            }
            assert_eq!(at, one.len(), "{length}");
        }
    }

    #[test]
    fn close_frame_is_seen_with_its_header() {
        let mut frames = Frames::default();
        frames.follow(&frame(0x89, true, 8));
        assert!(!frames.has_closed());
        frames.follow(&[0x88, 2]);
        assert!(frames.has_closed());
        assert!(!frames.is_between());
        frames.follow(&[3, 233]);
        assert!(frames.is_between());
        assert_eq!(frames.close_code(), Some(1001));
    }

    #[test]
    fn close_code_is_unmasked_whatever_the_split() {
        let close = [
            0x88,
            0x85,
            1,
            2,
            3,
            4,
            0x03 ^ 1,
            0xe8 ^ 2,
            b'b' ^ 3,
            b'y' ^ 4,
            b'e' ^ 1,
        ];
        for split in 1..=close.len() {
            let mut frames = Frames::default();
            close.chunks(split).for_each(|part| frames.follow(part));
            assert!(frames.is_between());
            assert_eq!(frames.close_code(), Some(1000), "{split}");
            // Frames behind the close frame do not count.
            frames.follow(&[0x88, 2, 9, 9, 0x81, 1, 7]);
            assert_eq!(frames.close_code(), Some(1000), "{split}");
        }
        let mut frames = Frames::default();
        frames.follow(&[0x88, 0, 0x88, 2, 9, 9, 0x82, 2, 9, 9]);
        assert!(frames.has_closed());
        assert_eq!(frames.close_code(), None);
    }

    /// An idle session holds two.
    #[test]
    fn frames_are_small() {
        assert_eq!(size_of::<Frames>(), 16);
    }
}
