//! The send side of a message.

use super::{error::Error, frame, head, shared::Active};
use crate::error::BoxError;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::future::{Either, select};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use quinn::{SendStream, VarInt};
use std::pin::pin;

/// The send side of a stream. Dropping it before the end of the message resets the stream, which quinn would finish.
pub(crate) struct Sender {
    send: Option<SendStream>,
    /// The code of a reset by `Drop`.
    drop_code: VarInt,
}

impl Sender {
    pub(crate) fn new(send: SendStream, drop_code: VarInt) -> Self {
        Self {
            send: Some(send),
            drop_code,
        }
    }

    /// Returns the stream after the head of an upgrade.
    pub(crate) fn into_stream(mut self) -> Option<SendStream> {
        self.send.take()
    }

    /// Waits until the peer stops the stream.
    pub(crate) fn stopped(
        &mut self,
    ) -> Result<impl Future<Output = Result<Option<VarInt>, quinn::StoppedError>> + use<>, Error>
    {
        Ok(self.send()?.stopped())
    }

    fn send(&mut self) -> Result<&mut SendStream, Error> {
        self.send
            .as_mut()
            .ok_or_else(|| Error::write(quinn::WriteError::ClosedStream))
    }

    pub(crate) fn reset(mut self, code: VarInt) {
        if let Some(mut send) = self.send.take() {
            // Fails if the peer has stopped the stream.
            let _ = send.reset(code);
        }
    }

    /// Ends the message.
    pub(crate) fn finish(mut self, active: Active) {
        if let Some(mut send) = self.send.take() {
            let _ = send.finish();
            active.finish(send);
        }
    }

    /// Writes a HEADERS frame.
    pub(crate) async fn headers(&mut self, section: &[u8]) -> Result<(), Error> {
        let mut header = [0; frame::MAX_HEADER];
        let size = frame::encode_header(frame::HEADERS, section.len(), &mut header);
        let mut frame = BytesMut::with_capacity(size + section.len());
        frame.put_slice(&header[..size]);
        frame.put_slice(section);
        let written = self.send()?.write_chunk(frame.freeze()).await;
        written.map_err(Error::write)
    }

    /// Writes the body and the trailers of the message.
    pub(crate) async fn body<B>(&mut self, body: B) -> Result<(), Failure>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let mut body = pin!(body.map_err(Into::into));
        // A peer that stops the stream ends the body, also while the body waits.
        let stopped = self.send()?.stopped();
        let mut stopped = pin!(stopped);
        while !body.is_end_stream() {
            let next = match select(body.frame(), stopped.as_mut()).await {
                Either::Left((next, _)) => next,
                Either::Right((stopped, _)) => return Err(Failure::Stream(is_stopped(stopped))),
            };
            let Some(part) = next else { break };
            let part = part.map_err(Failure::Service)?;
            match part.into_data() {
                Ok(mut data) => {
                    while data.has_remaining() {
                        let chunk = data.copy_to_bytes(data.chunk().len());
                        let mut header = [0; frame::MAX_HEADER];
                        let size = frame::encode_header(frame::DATA, chunk.len(), &mut header);
                        let header = Bytes::copy_from_slice(&header[..size]);
                        let send = self.send()?;
                        let written = send.write_all_chunks(&mut [header, chunk]).await;
                        written.map_err(Error::write)?;
                    }
                }
                Err(part) => {
                    if let Ok(trailers) = part.into_trailers() {
                        self.headers(&head::encode_trailers(&trailers)).await?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(mut send) = self.send.take() {
            // Fails if the peer has stopped the stream.
            let _ = send.reset(self.drop_code);
        }
    }
}

/// The reason why a message was not sent.
pub(crate) enum Failure {
    Stream(Error),
    /// An error of the service, or of the body.
    Service(BoxError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Stream(error)
    }
}

pub(crate) fn is_stopped(stopped: Result<Option<VarInt>, quinn::StoppedError>) -> Error {
    match stopped {
        Ok(Some(code)) => Error::write(quinn::WriteError::Stopped(code)),
        Ok(None) => Error::write(quinn::WriteError::ClosedStream),
        Err(error) => Error::write(error.into()),
    }
}
