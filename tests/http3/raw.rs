//! A client that sends and reads raw frames, with a QPACK of another crate.

use crate::support::{h3::Server, soon};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use std::collections::HashMap;

pub(crate) const DATA: u64 = 0;
pub(crate) const HEADERS: u64 = 1;
pub(crate) const GOAWAY: u64 = 7;

/// A connection with a control stream of the client.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    /// Closing the stream would be an error.
    pub(crate) control: SendStream,
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        // SETTINGS_H3_DATAGRAM = 1
        Self::with_control(server, &[0, 4, 2, 0x33, 1]).await
    }

    /// Connects, and sends `bytes` on a unidirectional stream.
    pub(crate) async fn with_control(server: &Server, bytes: &[u8]) -> Self {
        let connection = server.connect().await;
        let control = send_uni(&connection, bytes).await;
        Self {
            connection,
            control,
        }
    }

    /// Opens a stream, and sends bytes on it.
    pub(crate) async fn open(&self, bytes: &[u8]) -> Stream {
        let (mut send, recv) = soon(self.connection.open_bi()).await.expect("a stream");
        soon(send.write_all(bytes)).await.expect("an open stream");
        Stream {
            send,
            recv,
            read: Vec::new(),
        }
    }

    /// Sends a request head.
    pub(crate) async fn request(&self, fields: &[(&str, &str)]) -> Stream {
        self.open(&headers(fields)).await
    }

    /// Sends a request head and the end of the stream in one packet.
    pub(crate) async fn request_and_finish(&self, fields: &[(&str, &str)]) -> Stream {
        // Nothing is sent before the task yields.
        let mut stream = self.request(fields).await;
        stream.send.finish().expect("an open stream");
        stream
    }

    /// Sends an extended CONNECT, and expects a 200.
    pub(crate) async fn extended_connect(&self, protocol: &str) -> Stream {
        let mut stream = self.request(&extended_connect(protocol)).await;
        assert_eq!(stream.status().await, 200);
        stream
    }

    /// Sends a CONNECT, and expects a 200.
    pub(crate) async fn tunnel(&self) -> Stream {
        let mut stream = self.request(&CONNECT).await;
        assert_eq!(stream.status().await, 200);
        stream
    }

    /// Waits until the server closes the connection, and returns the code.
    pub(crate) async fn closed(&self) -> u64 {
        match soon(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other:?}"),
        }
    }

    /// Checks that the connection still serves requests.
    pub(crate) async fn expect_alive(&self) {
        let mut stream = self.request(&GET).await;
        let _ = stream.send.finish();
        assert_eq!(stream.status().await, 200);
    }
}

pub(crate) const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "test"),
    (":path", "/"),
];

pub(crate) fn get(path: &str) -> [(&str, &str); 4] {
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "test"),
        (":path", path),
    ]
}

pub(crate) const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "test:1")];

pub(crate) fn extended_connect(protocol: &str) -> [(&str, &str); 5] {
    [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "https"),
        (":authority", "test"),
        (":path", "/"),
    ]
}

pub(crate) async fn send_uni(connection: &Connection, bytes: &[u8]) -> SendStream {
    let mut stream = soon(connection.open_uni()).await.expect("a stream");
    soon(stream.write_all(bytes)).await.expect("an open stream");
    stream
}

/// A request stream.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    read: Vec<u8>,
}

/// The end of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Reset(u64),
}

impl Stream {
    /// Reads the frames of a stream of the server.
    pub(crate) async fn reading(connection: &Connection, recv: RecvStream) -> Self {
        let (mut send, _) = soon(connection.open_bi()).await.expect("a stream");
        send.reset(0u32.into()).expect("an open stream");
        Self {
            send,
            recv,
            read: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        soon(self.send.write_all(bytes))
            .await
            .expect("an open stream");
    }

    /// Returns the type and the payload of the next frame, or the end of the stream.
    pub(crate) async fn frame(&mut self) -> Result<(u64, Vec<u8>), End> {
        loop {
            if let Some((kind, length, at)) = frame_header(&self.read) {
                if self.read.len() >= at + length {
                    let payload = self.read[at..at + length].to_vec();
                    self.read.drain(..at + length);
                    return Ok((kind, payload));
                }
            }
            match soon(self.recv.read_chunk(usize::MAX, true)).await {
                Ok(Some(chunk)) => self.read.extend_from_slice(&chunk.bytes),
                Ok(None) => {
                    assert!(self.read.is_empty(), "a truncated frame");
                    return Err(End::Finished);
                }
                Err(quinn::ReadError::Reset(code)) => return Err(End::Reset(code.into_inner())),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads a HEADERS frame.
    pub(crate) async fn head(&mut self) -> HashMap<String, String> {
        match self.frame().await {
            Ok((HEADERS, section)) => fields(&section),
            other => panic!("{other:?}"),
        }
    }

    /// Reads a HEADERS frame, and returns the status.
    pub(crate) async fn status(&mut self) -> u16 {
        self.head().await[":status"].parse().expect("a status")
    }

    /// Reads a DATA frame.
    pub(crate) async fn data(&mut self) -> Vec<u8> {
        match self.frame().await {
            Ok((DATA, payload)) => payload,
            other => panic!("{other:?}"),
        }
    }

    /// Reads DATA frames to the end of the stream.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        let mut data = Vec::new();
        loop {
            match self.frame().await {
                Ok((DATA, payload)) => data.extend(payload),
                Ok(other) => panic!("{other:?}"),
                Err(end) => return (data, end),
            }
        }
    }

    /// Waits until the server stops the stream, and returns the code.
    pub(crate) async fn stopped(&mut self) -> Option<u64> {
        let stopped = soon(self.send.stopped()).await.expect("a connection");
        stopped.map(VarInt::into_inner)
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let mut value = u64::from(first & 0x3f);
    for byte in bytes.get(1..length)? {
        value = value << 8 | u64::from(*byte);
    }
    Some((value, length))
}

fn frame_header(bytes: &[u8]) -> Option<(u64, usize, usize)> {
    let (kind, at) = varint(bytes)?;
    let (length, size) = varint(&bytes[at..])?;
    Some((kind, length as usize, at + size))
}

/// A frame with a length of two bytes.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short payload") | 0x4000;
    [&[kind], &length.to_be_bytes()[..], payload].concat()
}

/// A HEADERS frame.
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS as u8, &section(fields))
}

pub(crate) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    let fields = fields.iter().map(|(name, value)| {
        qpack::HeaderField::new(name.as_bytes().to_vec(), value.as_bytes().to_vec())
    });
    qpack::encode_stateless(&mut section, fields).expect("fields");
    section
}

pub(crate) fn fields(section: &[u8]) -> HashMap<String, String> {
    let decoded = qpack::decode_stateless(&mut &*section, u64::MAX).expect("a section");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let fields = decoded.fields.into_iter().map(|field| {
        let (name, value) = field.into_inner();
        (text(&name), text(&value))
    });
    fields.collect()
}
