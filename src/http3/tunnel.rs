//! The IO of an upgraded stream: DATA frames in both directions (RFC 9114 §4.4).

use super::{
    code,
    error::Error,
    frame::{self, FrameReader, Receiver, Source},
    shared::{Active, Rest},
};
use crate::io::box_io::Reset;
use bytes::{BufMut as _, Bytes, BytesMut};
use quinn::{SendStream, VarInt};
use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    task::coop,
};

/// The maximum payload of a DATA frame.
const MAX_PAYLOAD: usize = 64 * 1024;

/// The length from which a chunk counts as full: QUIC packets have at least 1,200 bytes.
const FULL_CHUNK: usize = 1024;

/// The write side.
enum Output {
    Open(SendStream),
    /// The connection writes the rest of the last frame, and then returns the stream.
    Blocked(oneshot::Receiver<(SendStream, Result<(), Error>)>),
    /// The stream was finished or reset.
    Closed,
}

/// A stream after its upgrade response.
///
/// Shutting down the write side sends FIN. Dropping the tunnel before that resets the stream, so that the peer does not
/// take an abort for an end.
pub(crate) struct Tunnel {
    input: Input,
    output: Output,
    active: Active,
    /// The error code of a reset.
    reset_code: VarInt,
}

impl Tunnel {
    /// `frames` has returned the head of the message, and `send` has sent the head of the other.
    pub(crate) fn new(
        frames: FrameReader,
        send: SendStream,
        active: Active,
        reset_code: VarInt,
    ) -> Self {
        Self {
            input: Input::new(frames),
            output: Output::Open(send),
            active,
            reset_code,
        }
    }

    fn failed(&self, error: Error) -> io::Error {
        self.active.violated(&error);
        error.into()
    }

    /// Waits until the last frame was written.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut SendStream>> {
        if let Output::Blocked(back) = &mut self.output {
            match ready!(Pin::new(back).poll(cx)) {
                Ok((send, written)) => {
                    self.output = Output::Open(send);
                    written?;
                }
                // The connection is closed.
                Err(_) => self.output = Output::Closed,
            }
        }
        match &mut self.output {
            Output::Open(send) => Poll::Ready(Ok(send)),
            Output::Blocked(_) | Output::Closed => {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
        }
    }

    /// Writes a DATA frame. quinn may accept a part of the frame, whose header has announced its whole length. The
    /// connection writes the rest, because the caller need not flush.
    fn poll_write_frame<'a>(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(coop::poll_proceed(cx));
        let send = ready!(self.poll_open(cx))?;
        turn.made_progress();
        let length = length.min(MAX_PAYLOAD);
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut header = [0; frame::MAX_HEADER];
        let size = frame::encode_header(frame::DATA, length, &mut header);
        let mut bytes = BytesMut::with_capacity(size + length);
        bytes.put_slice(&header[..size]);
        let mut room = length;
        for part in parts {
            let part = &part[..part.len().min(room)];
            bytes.put_slice(part);
            room -= part.len();
            if room == 0 {
                break;
            }
        }
        let mut frame = bytes.freeze();
        {
            let written = pin!(send.write_chunks(std::slice::from_mut(&mut frame)));
            if let Err(error) = ready!(written.poll(cx)) {
                return Poll::Ready(Err(Error::write(error).into()));
            }
        }
        if !frame.is_empty() {
            self.write_rest(frame);
        }
        Poll::Ready(Ok(length))
    }

    fn write_rest(&mut self, bytes: Bytes) {
        let (back, blocked) = oneshot::channel();
        let output = std::mem::replace(&mut self.output, Output::Blocked(blocked));
        if let Output::Open(send) = output {
            self.active.write_rest(Rest {
                send,
                bytes,
                back,
                reset_code: self.reset_code,
            });
        }
    }
}

/// The read side: the payloads of DATA frames.
pub(crate) struct Input<S = Receiver> {
    frames: FrameReader<S>,
    is_in_frame: bool,
    has_ended: bool,
    /// Returned by every further read: quinn returns the end of the stream after an error.
    error: Option<Box<Error>>,
}

impl<S: Source> Input<S> {
    pub(crate) fn new(frames: FrameReader<S>) -> Self {
        Self {
            frames,
            is_in_frame: false,
            has_ended: false,
            error: None,
        }
    }

    /// Returns the next bytes, at most `max`, or `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Returns a fatal error for a known frame other than DATA (RFC 9114 §4.4).
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        if let Some(error) = &self.error {
            return Poll::Ready(Err(Error::clone(error)));
        }
        let read = ready!(self.poll_frames(cx, max));
        if let Err(error) = &read {
            self.error = Some(Box::new(error.clone()));
        }
        Poll::Ready(read)
    }

    /// Returns `true` if bytes have arrived that were not decoded.
    fn has_chunk(&self) -> bool {
        self.frames.has_chunk()
    }

    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if self.has_ended {
                return Poll::Ready(Ok(None));
            }
            if self.is_in_frame {
                match ready!(self.frames.poll_payload(cx, max))? {
                    Some(bytes) => return Poll::Ready(Ok(Some(bytes))),
                    None => self.is_in_frame = false,
                }
            }
            match ready!(self.frames.poll_next(cx))? {
                Some(frame::DATA) => self.is_in_frame = true,
                Some(kind) if frame::is_unknown(kind) => {}
                Some(_) => {
                    let reason = "a tunnel received a frame other than DATA";
                    return Poll::Ready(Err(Error::fatal(code::FRAME_UNEXPECTED, reason)));
                }
                None => self.has_ended = true,
            }
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let turn = ready!(coop::poll_proceed(cx));
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            match this.input.poll_data(cx, buf.remaining()) {
                Poll::Ready(Ok(Some(bytes))) => {
                    buf.put_slice(&bytes);
                    // More data may follow a chunk that fills a packet. After a short one the attempt would only cost.
                    if bytes.len() < FULL_CHUNK && !this.input.has_chunk() {
                        break;
                    }
                }
                Poll::Ready(Ok(None)) => break,
                // The next read returns the error.
                Poll::Ready(Err(_)) | Poll::Pending if buf.filled().len() > before => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(this.failed(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        turn.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_write_frame(cx, buf.len(), std::iter::once(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.get_mut()
            .poll_write_frame(cx, length, bufs.iter().map(|buf| &**buf))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !matches!(this.output, Output::Closed) {
            ready!(this.poll_open(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !matches!(this.output, Output::Closed) {
            ready!(this.poll_open(cx))?;
        }
        let output = std::mem::replace(&mut this.output, Output::Closed);
        if let Output::Open(mut send) = output {
            // Fails only if the peer has stopped the stream.
            let _ = send.finish();
            this.active.activate().finish(send);
        }
        Poll::Ready(Ok(()))
    }
}

impl Reset for Tunnel {
    /// Resets both directions. A finished write side remains finished.
    fn reset(&mut self) {
        // The connection resets a stream whose receiver is dropped.
        if let Output::Open(mut send) = std::mem::replace(&mut self.output, Output::Closed) {
            // Fails if the peer has stopped the stream.
            let _ = send.reset(self.reset_code);
        }
        let code = self.reset_code;
        self.input.frames.source_mut().stop(code);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if !matches!(self.output, Output::Closed) {
            self.reset();
        }
    }
}
