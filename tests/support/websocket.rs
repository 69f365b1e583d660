//! WebSocket frames, written and read byte by byte (RFC 6455 §5.2).

use super::Peer;
use tokio::io::{AsyncRead, AsyncWrite};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

pub const FIN: u8 = 0x80;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, the reserved bits, and the opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Returns a frame with FIN set.
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self::part(FIN | opcode, payload)
    }

    pub fn part(first: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            first,
            payload: payload.as_ref().to_vec(),
        }
    }

    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    pub fn opcode(&self) -> u8 {
        self.first & 0xf
    }

    /// Encodes the frame as a client does, with a mask.
    pub fn masked(&self) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = self.head(0x80);
        bytes.extend(mask);
        let payload = self.payload.iter().enumerate();
        bytes.extend(payload.map(|(at, byte)| byte ^ mask[at % 4]));
        bytes
    }

    /// Encodes the frame as a server does, without a mask.
    pub fn unmasked(&self) -> Vec<u8> {
        let mut bytes = self.head(0);
        bytes.extend(&self.payload);
        bytes
    }

    fn head(&self, mask: u8) -> Vec<u8> {
        match self.payload.len() {
            length @ 0..126 => vec![self.first, mask | length as u8],
            length @ 126..65536 => [
                &[self.first, mask | 126][..],
                &(length as u16).to_be_bytes(),
            ]
            .concat(),
            length => [
                &[self.first, mask | 127][..],
                &(length as u64).to_be_bytes(),
            ]
            .concat(),
        }
    }

    /// Reads the next frame, masked or not.
    pub async fn read<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) -> Self {
        let head = peer.exactly(2).await;
        let length = match head[1] & 0x7f {
            126 => {
                let length = peer.exactly(2).await;
                u64::from(u16::from_be_bytes([length[0], length[1]]))
            }
            127 => {
                let length = peer.exactly(8).await;
                u64::from_be_bytes(length.try_into().expect("8 bytes"))
            }
            length => u64::from(length),
        };
        let mask = match head[1] & 0x80 {
            0 => vec![0; 4],
            _ => peer.exactly(4).await,
        };
        let payload = peer.exactly(length as usize).await;
        let payload = payload.iter().enumerate();
        Self {
            first: head[0],
            payload: payload.map(|(at, byte)| byte ^ mask[at % 4]).collect(),
        }
    }
}

impl Frame {
    /// Returns the opcode with the payload, or with its length if it is 100 bytes or longer.
    pub fn brief(&self) -> String {
        match self.payload.len() {
            length @ 100.. => format!("{:x}: {length} bytes", self.opcode()),
            _ => format!("{:x}: {:?}", self.opcode(), super::text(&self.payload)),
        }
    }
}
