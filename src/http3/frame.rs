//! Frames of a stream (RFC 9114 §7).

use super::{code, error::Error};
use crate::io::varint;
use bytes::{Buf as _, Bytes};
use quinn::{RecvStream, VarInt};
use std::{
    pin::pin,
    task::{Context, Poll, ready},
};

pub(crate) const DATA: u64 = 0x0;
pub(crate) const HEADERS: u64 = 0x1;
pub(crate) const CANCEL_PUSH: u64 = 0x3;
pub(crate) const SETTINGS: u64 = 0x4;
pub(crate) const GOAWAY: u64 = 0x7;
pub(crate) const MAX_PUSH_ID: u64 = 0xd;

/// The maximum length of the type and the length of a frame.
pub(crate) const MAX_HEADER: usize = 2 * varint::MAX_LENGTH;

/// Returns `true` for an unknown type. Its frames are skipped (RFC 9114 §9).
///
/// The types that HTTP/2 uses and HTTP/3 does not are reserved (§7.2.8), and not unknown.
pub(crate) fn is_unknown(kind: u64) -> bool {
    !matches!(kind, DATA | HEADERS | 0x2..=0x9 | MAX_PUSH_ID)
}

/// Writes the type and the length of a frame, and returns the length of both.
pub(crate) fn encode_header(kind: u64, length: usize, bytes: &mut [u8; MAX_HEADER]) -> usize {
    let at = varint::encode(kind, bytes);
    at + varint::encode(length as u64, &mut bytes[at..])
}

/// A stream of bytes in chunks.
pub(crate) trait Source {
    /// Returns the next bytes, not empty, or `None` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>>;
}

/// The receive side of a stream. Dropping it before the end of the stream tells the peer to stop sending, without an
/// error (RFC 9114 §4.1.1). quinn would send the code 0.
pub(crate) struct Receiver {
    stream: RecvStream,
    /// The code of the stop by `Drop`.
    drop_code: VarInt,
}

impl Receiver {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            drop_code: code::NO_ERROR,
        }
    }

    /// Sets the code for dropping the receiver before the end of the stream. The default is `H3_NO_ERROR`.
    #[cfg(feature = "client")]
    pub(crate) fn set_drop_code(&mut self, code: VarInt) {
        self.drop_code = code;
    }

    /// Returns the ID of the stream.
    #[cfg(feature = "datagram")]
    pub(crate) fn id(&self) -> u64 {
        VarInt::from(self.stream.id()).into_inner()
    }

    /// Tells the peer to stop sending.
    pub(crate) fn stop(&mut self, code: VarInt) {
        // Fails if the stream has ended or was reset.
        let _ = self.stream.stop(code);
    }
}

impl Source for Receiver {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        // quinn keeps the waker in the connection, not in this future.
        let read = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx));
        Poll::Ready(match read {
            Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
            Err(error) => Err(Error::read(error)),
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop(self.drop_code);
    }
}

/// Reads frames. Of an incomplete frame, only its header is buffered.
pub(crate) struct FrameReader<S = Receiver> {
    source: S,
    /// Bytes that were read from the source and not yet decoded.
    chunk: Bytes,
    /// The start of a frame header that ended with its chunk.
    partial: Partial,
    /// The current frame, until `poll_next` has returned it.
    peeked: Option<u64>,
    /// The bytes of the current frame's payload that were not yet returned.
    payload: u64,
}

#[derive(Default)]
struct Partial {
    bytes: [u8; MAX_HEADER],
    length: u8,
}

impl<S: Source> FrameReader<S> {
    pub(crate) fn new(source: S) -> Self {
        Self::with(source, Bytes::new())
    }

    /// Reads `first` before the source.
    pub(crate) fn with(source: S, first: Bytes) -> Self {
        Self {
            source,
            chunk: first,
            partial: Partial::default(),
            peeked: None,
            payload: 0,
        }
    }

    #[cfg(feature = "datagram")]
    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    pub(crate) fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Returns `true` if bytes of the source are buffered.
    pub(crate) fn has_chunk(&self) -> bool {
        !self.chunk.is_empty()
    }

    /// Returns the rest of the current frame's payload, in bytes.
    pub(crate) fn remaining(&self) -> u64 {
        self.payload
    }

    /// Skips the rest of the current frame, and returns the type of the next frame, or `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Returns a fatal error if the stream ends within a frame (RFC 9114 §7.1).
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, Error>> {
        let next = ready!(self.poll_peek(cx))?;
        self.peeked = None;
        Poll::Ready(Ok(next))
    }

    /// Does the same as [`poll_next`](Self::poll_next), which then returns the same frame once more.
    pub(crate) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, Error>> {
        if self.peeked.is_some() {
            return Poll::Ready(Ok(self.peeked));
        }
        while self.payload > 0 {
            ready!(self.poll_payload(cx, usize::MAX))?;
        }
        loop {
            if let Some((kind, length)) = self.take_header() {
                self.peeked = Some(kind);
                self.payload = length;
                return Poll::Ready(Ok(self.peeked));
            }
            match ready!(self.source.poll_chunk(cx))? {
                Some(chunk) => self.chunk = chunk,
                None if self.partial.length == 0 => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(truncated())),
            }
        }
    }

    /// Returns the type and the length of a frame, or buffers the whole chunk if it has no complete header.
    fn take_header(&mut self) -> Option<(u64, u64)> {
        if self.partial.length == 0 {
            if let Some((kind, length, size)) = decode_header(&self.chunk) {
                self.chunk.advance(size);
                return Some((kind, length));
            }
        }
        let partial = &mut self.partial;
        while !self.chunk.is_empty() {
            partial.bytes[usize::from(partial.length)] = self.chunk.get_u8();
            partial.length += 1;
            let header = &partial.bytes[..usize::from(partial.length)];
            if let Some((kind, length, _)) = decode_header(header) {
                partial.length = 0;
                return Some((kind, length));
            }
        }
        None
    }

    /// Returns the next bytes of the current frame's payload, at most `max`, or `None` at its end.
    ///
    /// # Errors
    ///
    /// Returns a fatal error if the stream ends within the frame (RFC 9114 §7.1).
    pub(crate) fn poll_payload(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        if self.payload == 0 {
            return Poll::Ready(Ok(None));
        }
        if self.chunk.is_empty() {
            match ready!(self.source.poll_chunk(cx))? {
                Some(chunk) => self.chunk = chunk,
                None => return Poll::Ready(Err(truncated())),
            }
        }
        let rest = usize::try_from(self.payload).unwrap_or(usize::MAX);
        let length = self.chunk.len().min(rest).min(max);
        let bytes = match length == self.chunk.len() {
            // Not `split_to`, which would keep the memory of the chunk.
            true => std::mem::take(&mut self.chunk),
            false => self.chunk.split_to(length),
        };
        self.payload -= length as u64;
        Poll::Ready(Ok(Some(bytes)))
    }
}

fn decode_header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, at) = varint::decode(bytes)?;
    let (length, size) = varint::decode(&bytes[at..])?;
    Some((kind, length, at + size))
}

fn truncated() -> Error {
    Error::fatal(code::FRAME_ERROR, "the stream ended within a frame")
}
