//! An HTTP/2 client or server that writes its frames by hand, including frames that the `h2` crate would not
//! send.

use super::{Peer, soon};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
pub const MAX_CONCURRENT_STREAMS: u16 = 3;

/// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3).
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

pub const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A received frame (RFC 9113 §4.1).
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub struct Connection<Io = TcpStream> {
    peer: Peer<Io>,
    next_stream: u32,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<Io> {
    /// Sends a client's preface and empty SETTINGS.
    pub async fn connect(mut peer: Peer<Io>) -> Self {
        peer.send(PREFACE).await;
        let mut client = Self {
            peer,
            next_stream: 1,
        };
        client.send(SETTINGS, 0, 0, &[]).await;
        client
    }

    /// Reads a client's preface, and sends nothing yet.
    pub async fn accept(mut peer: Peer<Io>) -> Self {
        assert_eq!(peer.exactly(PREFACE.len()).await, PREFACE);
        Self {
            peer,
            next_stream: 2,
        }
    }

    /// Sends SETTINGS with these settings and values (RFC 9113 §6.5.1).
    pub async fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (setting, value) in settings {
            payload.extend(setting.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.send(SETTINGS, 0, 0, &payload).await;
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len())
            .expect("a small frame")
            .to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        soon(self.peer.io.write_all(&frame))
            .await
            .expect("peer can write");
    }

    /// Sends a request head on a new stream without END_STREAM, as literal fields without indexing (RFC 7541
    /// §6.2.2).
    pub async fn request(&mut self, fields: &[(&str, &str)]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.head(stream, fields).await;
        stream
    }

    /// Sends a head on this stream without END_STREAM, as literal fields without indexing.
    pub async fn head(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                assert!(text.len() < 127, "the length does not fit into one byte");
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS, stream, &block).await;
    }

    /// Returns the next frame of this stream.
    pub async fn frame_of(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.frame().await.expect("the connection goes on");
            if frame.stream == stream {
                return frame;
            }
        }
    }

    /// Returns the next frame of this kind.
    pub async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.expect("the connection goes on");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Returns the next frame, or `None` at the end of the connection. Acknowledges SETTINGS.
    pub async fn frame(&mut self) -> Option<Frame> {
        let head = self.peer.up_to(9).await;
        if head.is_empty() {
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: self.peer.exactly(length as usize).await,
        };
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            self.send(SETTINGS, ACK, 0, &[]).await;
        }
        Some(frame)
    }
}
