//! The decoders of streams and of request heads, for the targets in `fuzz/`.

use super::{
    error::Error,
    frame::{FrameReader, Source},
    head::{self, Invalid, RequestHead},
    tunnel::Input,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

/// The parts of a stream. An empty part has not arrived when it is first polled.
struct Parts(VecDeque<Bytes>);

impl Parts {
    fn new<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        Self(parts.map(Bytes::copy_from_slice).collect())
    }
}

impl Source for Parts {
    fn poll_chunk(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        match self.0.pop_front() {
            Some(part) if part.is_empty() => Poll::Pending,
            part => Poll::Ready(Ok(part)),
        }
    }
}

/// Polls until the result is ready.
fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(ready) = poll(&mut cx) {
            return ready;
        }
    }
}

/// Reads the data of a tunnel, at most `max` bytes at a time. Returns the data, and the code of the error that ended it.
pub(crate) fn tunnel<'a>(
    max: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Option<u64>) {
    let mut input = Input::new(FrameReader::new(Parts::new(parts)));
    let mut data = Vec::new();
    loop {
        match wait(|cx| input.poll_data(cx, max)) {
            Ok(Some(bytes)) => {
                assert!(!bytes.is_empty() && bytes.len() <= max);
                data.extend_from_slice(&bytes);
            }
            // The end and an error are final.
            Ok(None) => {
                assert!(matches!(wait(|cx| input.poll_data(cx, max)), Ok(None)));
                return (data, None);
            }
            Err(error) => {
                let again = wait(|cx| input.poll_data(cx, max)).expect_err("the same error");
                assert_eq!(code(&again), code(&error));
                return (data, Some(code(&error)));
            }
        }
    }
}

/// Reads frames: the payload of the first, not of the second, and so on. Returns the type, the length and the read payload
/// of each frame, and the code of the error that ended them.
pub(crate) fn frames<'a>(
    max: usize,
    mut parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<(u64, u64, Vec<u8>)>, Option<u64>) {
    let first = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let mut reader = FrameReader::with(Parts::new(parts), first);
    let mut frames: Vec<(u64, u64, Vec<u8>)> = Vec::new();
    loop {
        let is_read = frames.len() % 2 == 0;
        if is_read {
            // An error is the result of `poll_next`.
            if let Ok(peeked) = wait(|cx| reader.poll_peek(cx)) {
                let again = wait(|cx| reader.poll_peek(cx));
                assert_eq!(again.expect("a peeked frame"), peeked);
            }
        }
        let kind = match wait(|cx| reader.poll_next(cx)) {
            Ok(Some(kind)) => kind,
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(code(&error))),
        };
        frames.push((kind, reader.remaining(), Vec::new()));
        while is_read {
            match wait(|cx| reader.poll_payload(cx, max)) {
                Ok(Some(bytes)) => {
                    assert!(!bytes.is_empty() && bytes.len() <= max);
                    let frame = frames.last_mut().expect("a frame");
                    frame.2.extend_from_slice(&bytes);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(code(&error))),
            }
        }
    }
}

/// Returns the code of an error that closes the connection.
fn code(error: &Error) -> u64 {
    let (code, _) = error.as_fatal().expect("a fatal error");
    code.into_inner()
}

/// The method, the target, the fields and the `:protocol` of a request.
pub(crate) type Head = (Method, Uri, HeaderMap, Option<String>);

/// Decodes the head of a request. The error is the code of the reset and whether it closes the connection, or `None` for a
/// head over the limit.
pub(crate) fn request(section: &[u8], max_size: usize) -> Result<Head, Option<(u64, bool)>> {
    let decode = |section: &[u8], max_size| match head::decode_request(section, max_size) {
        Ok(head) => Ok(head),
        Err(Invalid::TooLarge) => Err(None),
        Err(Invalid::Error(error)) => {
            let is_fatal = error.as_fatal().is_some();
            Err(Some((error.reset_code().into_inner(), is_fatal)))
        }
    };
    let head = decode(section, max_size)?;
    let length = head::content_length(&head.headers).expect("a valid length");
    assert_eq!(head.content_length, length);
    #[cfg(feature = "client")]
    {
        let again = decode(&encode(&head), usize::MAX);
        assert_eq!(again.as_ref().map(parts), Ok(parts(&head)));
    }
    Ok(parts(&head))
}

fn parts(head: &RequestHead) -> Head {
    let protocol = head
        .protocol
        .as_ref()
        .map(|protocol| protocol.as_str().to_owned());
    (
        head.method.clone(),
        head.uri.clone(),
        head.headers.clone(),
        protocol,
    )
}

#[cfg(feature = "client")]
fn encode(head: &RequestHead) -> Vec<u8> {
    let mut request = http::Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    if let Some(protocol) = head.protocol.clone() {
        request.extensions_mut().insert(protocol);
    }
    head::encode_request(&request.into_parts().0)
}
