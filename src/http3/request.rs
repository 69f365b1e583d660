//! One request, from the head of its stream to the end of its response.

use super::{
    body::{Body, Expected},
    code,
    error::Error,
    frame::{self, FrameReader, Receiver},
    head::{self, Invalid, RequestHead},
    sender::{Failure, Sender, is_stopped},
    shared::Active,
    tunnel::Tunnel,
};
use crate::{
    error::BoxError,
    io::box_io::BoxIo,
    session::{pending_upgrade::PendingUpgrade, upgraded::Upgraded},
    time::within,
    trace,
};
use bytes::{BufMut as _, BytesMut};
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use quinn::{RecvStream, SendStream, VarInt};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};
use tokio::sync::oneshot;
use tower_service::Service;

/// The settings of a server for its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    pub(crate) max_head_size: usize,
    pub(crate) head_timeout: Duration,
}

/// Serves the request of a stream.
pub(crate) async fn serve<S, B>(
    active: Active,
    service: S,
    limits: RequestLimits,
    (send, recv): (SendStream, RecvStream),
) where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    let mut stream = Stream {
        sender: Sender::new(send, code::INTERNAL_ERROR),
        is_early: recv.is_0rtt(),
        frames: FrameReader::new(Receiver::new(recv)),
        active,
    };
    match stream.head(limits).await {
        Ok(head) => stream.answer(head, service, limits).await,
        Err(Invalid::TooLarge) => {
            stream
                .refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
                .await;
        }
        Err(Invalid::Error(error)) => {
            trace::http3_request_failed(&error);
            stream.abort(&error);
        }
    }
}

struct Stream {
    sender: Sender,
    frames: FrameReader,
    active: Active,
    /// The stream was opened in 0-RTT, so that an attacker may have replayed its data.
    is_early: bool,
}

impl Stream {
    /// Reads the head of the request.
    async fn head(&mut self, limits: RequestLimits) -> Result<RequestHead, Invalid> {
        let section = within(limits.head_timeout, self.head_section(limits.max_head_size)).await;
        let section = section.ok_or_else(Error::incomplete)??;
        head::decode_request(&section, limits.max_head_size)
    }

    async fn head_section(&mut self, max_size: usize) -> Result<BytesMut, Invalid> {
        loop {
            match poll_fn(|cx| self.frames.poll_next(cx)).await? {
                Some(frame::HEADERS) => break,
                Some(kind) if frame::is_unknown(kind) => {}
                Some(_) => {
                    let reason = "a request does not start with HEADERS";
                    return Err(Error::fatal(code::FRAME_UNEXPECTED, reason).into());
                }
                None => return Err(Error::incomplete().into()),
            }
        }
        if self.frames.remaining() > max_size as u64 {
            return Err(Invalid::TooLarge);
        }
        let mut section = BytesMut::with_capacity(self.frames.remaining() as usize);
        while let Some(bytes) = poll_fn(|cx| self.frames.poll_payload(cx, usize::MAX)).await? {
            section.put(bytes);
        }
        Ok(section)
    }

    /// Calls the service and sends its response.
    async fn answer<S, B>(mut self, head: RequestHead, mut service: S, limits: RequestLimits)
    where
        S: Service<Request<Body>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        // A replayed request must not have effects (RFC 8470 §3, RFC 9110 §9.2.1).
        if self.is_early && !head.method.is_safe() {
            return self.refuse(too_early()).await;
        }
        let is_head = head.method == Method::HEAD;
        let is_connect = head.method == Method::CONNECT;
        let reset_code = match head.protocol {
            None if is_connect => code::CONNECT_ERROR,
            _ => code::REQUEST_CANCELLED,
        };
        let has_ended = !is_connect && has_ended(&mut self.frames).await;
        if has_ended && head.content_length.is_some_and(|length| length > 0) {
            let error = Error::malformed("the body is shorter than `content-length`");
            trace::http3_request_failed(&error);
            return self.abort(&error);
        }
        let mut request = Request::new(Body::empty());
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        *request.version_mut() = Version::HTTP_3;
        *request.headers_mut() = head.headers;
        let extensions = request.extensions_mut();
        extensions.insert(self.active.connection.remote_address());
        if let Some(protocol) = head.protocol {
            #[cfg(feature = "datagram")]
            extensions.insert(super::datagrams::of_stream(
                &self.active,
                self.frames.source(),
            ));
            extensions.insert(protocol);
        }

        let Self {
            mut sender,
            frames,
            active,
            ..
        } = self;
        let (handover, upgraded) = oneshot::channel();
        let mut tunnel = None;
        let mut is_read = None;
        if is_connect {
            request.extensions_mut().insert(pending(upgraded));
            tunnel = Some((frames, handover));
        } else if !has_ended {
            let expects = request.headers().get(header::EXPECT);
            let expects =
                expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
            let on_read = expects.then(|| {
                let (on_read, receiver) = oneshot::channel();
                is_read = Some(receiver);
                on_read
            });
            *request.body_mut() = Body::new(
                frames,
                Arc::clone(&active),
                Expected {
                    content_length: head.content_length,
                    max_trailers: limits.max_head_size,
                    on_read,
                },
            );
        }

        let response = {
            let response = crate::service::call(&mut service, request);
            let response = pin!(async { response.await.map_err(Into::into) });
            respond(&mut sender, response, is_read).await
        };
        let response = match response {
            Ok(response) => response,
            Err(failure) => return fail(sender, &failure, reset_code),
        };
        let (parts, body) = response.into_parts();
        if parts.status.is_informational() {
            // A 101 does not exist in HTTP/3 (RFC 9114 §4.5), and another 1xx is not the response.
            let error = format!("the service answered with status {}", parts.status);
            return fail(sender, &Failure::Service(error.into()), reset_code);
        }
        let mut headers = parts.headers;
        set_date(&mut headers);
        // The tunnel is open once the handler has accepted the request: otherwise the layer has dropped the upgrade.
        let tunnel =
            tunnel.filter(|(_, handover)| parts.status.is_success() && !handover.is_closed());
        let has_content = !matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        // A 204 and a 2xx to CONNECT must not have a length (RFC 9110 §8.6).
        if has_content && !(is_connect && parts.status.is_success()) {
            set_length(&mut headers, is_head, &body);
        }
        let section = head::encode_response(parts.status, &headers);
        if let Err(error) = sender.headers(&section).await {
            return fail(sender, &error.into(), reset_code);
        }
        if let Some((frames, handover)) = tunnel {
            if let Some(send) = sender.into_stream() {
                // A dropped upgrade drops the tunnel, which resets the stream.
                let _ = handover.send(Tunnel::new(frames, send, active, reset_code));
            }
            return;
        }
        if has_content && !is_head {
            if let Err(failure) = sender.body(body).await {
                return fail(sender, &failure, reset_code);
            }
        }
        sender.finish(active);
    }

    /// Answers a request that the service does not see.
    async fn refuse(mut self, status: StatusCode) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        set_date(&mut headers);
        let sent = self
            .sender
            .headers(&head::encode_response(status, &headers))
            .await;
        self.frames.source_mut().stop(code::NO_ERROR);
        if sent.is_ok() {
            self.sender.finish(self.active);
        }
    }

    /// Resets both directions, and closes the connection if the error requires it.
    fn abort(mut self, error: &Error) {
        self.active.violated(error);
        let code = error.reset_code();
        self.frames.source_mut().stop(code);
        self.sender.reset(code);
    }
}

/// Reports that a response was not sent, and resets the stream.
fn fail(sender: Sender, failure: &Failure, reset_code: VarInt) {
    match failure {
        Failure::Stream(error) => {
            trace::http3_request_failed(error);
            sender.reset(reset_code);
        }
        Failure::Service(error) => {
            trace::http3_service_failed(error);
            sender.reset(code::INTERNAL_ERROR);
        }
    }
}

/// Waits for the response of the service, and sends 100 (Continue) once the service reads the body.
///
/// A client that cancels the request drops the future of the service.
async fn respond<F, R>(
    sender: &mut Sender,
    response: Pin<&mut F>,
    mut is_read: Option<oneshot::Receiver<()>>,
) -> Result<R, Failure>
where
    F: Future<Output = Result<R, BoxError>>,
{
    let stopped = sender.stopped()?;
    let mut stopped = pin!(stopped);
    let mut response = pin!(select(response, stopped.as_mut()));
    let read = poll_fn(|cx| match response.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Either::Left(response)),
        Poll::Pending => match is_read.as_mut().map(|is_read| Pin::new(is_read).poll(cx)) {
            Some(Poll::Ready(Ok(()))) => Poll::Ready(Either::Right(())),
            // The body was dropped unread.
            Some(Poll::Ready(Err(_))) => {
                is_read = None;
                Poll::Pending
            }
            Some(Poll::Pending) | None => Poll::Pending,
        },
    });
    let response = match read.await {
        Either::Left(response) => response,
        Either::Right(()) => {
            let interim = head::encode_response(StatusCode::CONTINUE, &HeaderMap::new());
            sender.headers(&interim).await?;
            response.await
        }
    };
    match response {
        Either::Left((response, _)) => response.map_err(Failure::Service),
        Either::Right((stopped, _)) => Err(Failure::Stream(is_stopped(stopped))),
    }
}

/// Returns `true` if the end of the stream has already arrived: the message has no body.
async fn has_ended(frames: &mut FrameReader) -> bool {
    poll_fn(|cx| Poll::Ready(matches!(frames.poll_peek(cx), Poll::Ready(Ok(None))))).await
}

/// The pending upgrade of a request, which resolves once the head of the upgrade response was sent.
fn pending(upgraded: oneshot::Receiver<Tunnel>) -> PendingUpgrade {
    PendingUpgrade::new(async move {
        let tunnel = upgraded
            .await
            .map_err(|_| "the upgrade response was not sent")?;
        Ok(Upgraded::from_box_io(BoxIo::resettable(tunnel)))
    })
}

/// Adds `Date` (RFC 9110 §6.6.1), as hyper does over other versions.
fn set_date(headers: &mut HeaderMap) {
    if !headers.contains_key(header::DATE) {
        let date = httpdate::fmt_http_date(SystemTime::now());
        if let Ok(date) = HeaderValue::try_from(date) {
            headers.insert(header::DATE, date);
        }
    }
}

/// Adds `Content-Length` if the body has a known length (RFC 9110 §8.6), as hyper does over other versions.
fn set_length<B: http_body::Body>(headers: &mut HeaderMap, is_head: bool, body: &B) {
    let length = body.size_hint().exact();
    // The empty body of a response to HEAD says nothing about a GET.
    let length = length.filter(|length| !is_head || *length > 0);
    if let Some(length) = length {
        headers
            .entry(header::CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
}

/// Returns 425 (Too Early), for which old versions of `http` have no constant.
fn too_early() -> StatusCode {
    StatusCode::from_u16(425).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}
