//! Finds the boundaries of WebSocket frames in a byte stream (RFC 6455 §5.2), without decoding the frames.

/// The longest frame header: two bytes, a length of eight bytes and a mask of four.
const LONGEST_HEADER: usize = 14;

/// The opcode of a close frame.
const CLOSE: u8 = 0x8;

/// Follows one direction of a WebSocket.
#[derive(Default)]
pub(super) struct Frames {
    header: [u8; LONGEST_HEADER],
    /// The number of header bytes seen.
    seen: usize,
    /// The number of payload bytes to come.
    payload: u64,
    has_closed: bool,
}

impl Frames {
    /// Returns `true` between two frames.
    pub(super) fn is_between(&self) -> bool {
        self.seen == 0 && self.payload == 0
    }

    /// Returns `true` once a close frame has begun.
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Returns a number of bytes that ends at most at the next boundary. At least 1 within a frame.
    pub(super) fn at_most(&self) -> u64 {
        match self.payload {
            0 => 1,
            payload => payload,
        }
    }

    /// Follows the next bytes of the stream.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let length = bytes.len() as u64;
                let skipped = length.min(self.payload);
                self.payload -= skipped;
                bytes = &bytes[skipped as usize..];
            } else {
                self.header[self.seen] = bytes[0];
                self.seen += 1;
                bytes = &bytes[1..];
                if self.seen >= 2 && self.seen == self.header_length() {
                    self.payload = self.payload_length();
                    self.has_closed |= self.header[0] & 0x0f == CLOSE;
                    self.seen = 0;
                }
            }
        }
    }

    /// Returns the length of the header, whose first two bytes have been seen.
    fn header_length(&self) -> usize {
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = match self.header[1] & 0x80 {
            0 => 0,
            _ => 4,
        };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        let header = &self.header;
        match header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([header[2], header[3]])),
            127 => {
                let [_, _, length @ ..] = header;
                length
                    .iter()
                    .take(8)
                    .fold(0, |length, byte| length << 8 | u64::from(*byte))
            }
            length => u64::from(length),
        }
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
                let end = (at + frames.at_most() as usize).min(at + 4096);
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
        frames.follow(&[0x88, 0x02]);
        assert!(frames.has_closed());
        assert!(!frames.is_between());
        frames.follow(&[3, 233]);
        assert!(frames.is_between());
    }
}
