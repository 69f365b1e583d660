//! The body of a received message.

use super::{
    code,
    error::Error,
    frame::{self, FrameReader},
    head,
    shared::Shared,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// The body of a request over HTTP/3, or of a response to [`client::Http3`](crate::client::Http3).
///
/// Data is received as the body is read: flow control stops the peer of an unread body. Dropping the body before its
/// end tells the peer to stop sending it.
pub struct Body(Option<Box<Incoming>>);

struct Incoming {
    frames: FrameReader,
    shared: Arc<Shared>,
    is_in_frame: bool,
    /// The announced length that has not arrived yet.
    expected: Option<u64>,
    max_trailers: usize,
    /// The trailers that have arrived so far.
    trailers: Option<BytesMut>,
    /// Sent when the body is first read: the request has `Expect: 100-continue`.
    on_read: Option<oneshot::Sender<()>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    /// Only the end of the stream may follow.
    Trailers,
    Ended,
    Failed,
}

/// The parts of a message that its body depends on.
pub(crate) struct Expected {
    pub(crate) content_length: Option<u64>,
    /// The limit for trailers, in bytes as RFC 9114 §4.2.2 counts them.
    pub(crate) max_trailers: usize,
    pub(crate) on_read: Option<oneshot::Sender<()>>,
}

impl Body {
    /// Returns a body without data.
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// Creates the body of a message, after `frames` has returned its head.
    pub(crate) fn new(frames: FrameReader, shared: Arc<Shared>, expected: Expected) -> Self {
        Self(Some(Box::new(Incoming {
            frames,
            shared,
            is_in_frame: false,
            expected: expected.content_length,
            max_trailers: expected.max_trailers,
            trailers: None,
            on_read: expected.on_read,
            state: State::Data,
        })))
    }
}

impl Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        if let Some(on_read) = self.on_read.take() {
            // The request is already answered if nothing receives.
            let _ = on_read.send(());
        }
        let result = ready!(self.poll_message(cx));
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::Ended,
            Err(error) => {
                self.state = State::Failed;
                self.shared.violated(error);
                self.frames.source_mut().stop(error.reset_code());
            }
        }
        Poll::Ready(result)
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        loop {
            if self.is_in_frame {
                let payload = ready!(self.frames.poll_payload(cx, usize::MAX))?;
                match (payload, &mut self.trailers) {
                    (Some(bytes), Some(trailers)) => {
                        trailers.put(bytes);
                        continue;
                    }
                    (Some(bytes), None) => {
                        self.count(bytes.len())?;
                        return Poll::Ready(Ok(Some(Frame::data(bytes))));
                    }
                    (None, trailers) => {
                        self.is_in_frame = false;
                        if let Some(trailers) = trailers.take() {
                            self.check_length()?;
                            let trailers = head::decode_trailers(&trailers, self.max_trailers)?;
                            return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                        }
                    }
                }
            }
            match ready!(self.frames.poll_next(cx))? {
                Some(frame::DATA) if self.state == State::Data => self.is_in_frame = true,
                Some(frame::HEADERS) if self.state == State::Data => {
                    if self.frames.remaining() > self.max_trailers as u64 {
                        return Poll::Ready(Err(Error::malformed("the trailers are too large")));
                    }
                    self.state = State::Trailers;
                    self.is_in_frame = true;
                    self.trailers = Some(BytesMut::new());
                }
                Some(kind) if frame::is_unknown(kind) => {}
                Some(_) => {
                    let reason = "a frame is not allowed within a message";
                    return Poll::Ready(Err(Error::fatal(code::FRAME_UNEXPECTED, reason)));
                }
                None => {
                    if self.state == State::Data {
                        self.check_length()?;
                    }
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    /// A message is malformed if the length of its data differs from `Content-Length` (RFC 9114 §4.1.2).
    fn count(&mut self, length: usize) -> Result<(), Error> {
        if let Some(expected) = &mut self.expected {
            *expected = expected
                .checked_sub(length as u64)
                .ok_or_else(|| Error::malformed("the body is longer than `content-length`"))?;
        }
        Ok(())
    }

    fn check_length(&self) -> Result<(), Error> {
        match self.expected {
            None | Some(0) => Ok(()),
            Some(_) => Err(Error::malformed(
                "the body is shorter than `content-length`",
            )),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.get_mut().0 {
            Some(incoming) if matches!(incoming.state, State::Data | State::Trailers) => {
                incoming.poll_frame(cx).map(Result::transpose)
            }
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Some(incoming) => matches!(incoming.state, State::Ended | State::Failed),
            None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(incoming) => match incoming.expected {
                Some(expected) => SizeHint::with_exact(expected),
                None => SizeHint::default(),
            },
            None => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
