//! Plain requests through the proxy.

use super::{ForwardFuture, ReverseProxy, answer, bad_request, path, progress::Progress};
use crate::{client::Body, error::BoxError, message::rejection::Rejection};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts,
};
use std::{
    convert::Infallible,
    task::{Context, Poll},
};
use tower_service::Service;

impl<B> Service<Request<B>> for ReverseProxy
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ForwardFuture;

    /// Returns ready. The future of the call waits until the client is ready.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ForwardFuture {
        let proxy = self.clone();
        ForwardFuture::new(async move {
            match proxy.forward(request).await {
                Ok(response) => response,
                Err(rejection) => rejection.into_plain_response().map(Body::new),
            }
        })
    }
}

impl ReverseProxy {
    async fn forward<B>(&self, request: Request<B>) -> Result<Response<Body>, Rejection>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let version = parts.version;
        if parts.method == Method::CONNECT {
            return Err(not_implemented(version, "the proxy opens no tunnel here"));
        }
        let (_, mut headers) = self.head(None, &parts)?;
        if let Some(response) = hop(&parts, &mut headers)? {
            return Ok(response);
        }
        if needs_chunked(&parts.method, &headers, &body) {
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }

        let progress = Progress::new();
        let mut request = Request::new(Body::new(progress.of(body)));
        *request.method_mut() = parts.method;
        *request.uri_mut() = path(&parts.uri);
        *request.headers_mut() = headers;
        let response = self.backend.send(request);
        match progress.within(self.response_timeout, response).await {
            Some(Ok(response)) => answer::plain(version, response),
            Some(Err(error)) if progress.has_failed() => {
                Err(bad_request("the request body could not be read").with_source(error))
            }
            Some(Err(error)) => Err(answer::failure(error)),
            None => Err(answer::timeout()),
        }
    }
}

/// Counts down `Max-Forwards` (RFC 9110 §7.6.2). Returns the response if the request must not be forwarded.
fn hop(parts: &Parts, headers: &mut HeaderMap) -> Result<Option<Response<Body>>, Rejection> {
    if !matches!(parts.method, Method::OPTIONS | Method::TRACE) {
        return Ok(None);
    }
    let mut lines = headers.get_all(header::MAX_FORWARDS).iter();
    let hops = match (lines.next(), lines.next()) {
        (None, _) => return Ok(None),
        (Some(line), None) => number(line),
        (Some(_), Some(_)) => None,
    };
    match hops.ok_or_else(|| bad_request("`Max-Forwards` is not a number"))? {
        0 if parts.method == Method::OPTIONS => Ok(Some(Response::new(Body::empty()))),
        0 => Err(not_implemented(parts.version, "the proxy answers no TRACE")),
        hops => {
            headers.insert(header::MAX_FORWARDS, (hops - 1).into());
            Ok(None)
        }
    }
}

/// Parses `1*DIGIT`.
fn number(line: &HeaderValue) -> Option<u64> {
    let text = line.to_str().ok()?;
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

/// Returns `true` if hyper would drop the body over HTTP/1.1: it sends a GET or HEAD with a body of unknown length only
/// with an explicit `Transfer-Encoding`.
fn needs_chunked<B: http_body::Body>(method: &Method, headers: &HeaderMap, body: &B) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && !body.is_end_stream()
        && !headers.contains_key(header::CONTENT_LENGTH)
        && body.size_hint().exact() != Some(0)
}

fn not_implemented(version: Version, message: &'static str) -> Rejection {
    let rejection = Rejection::new(StatusCode::NOT_IMPLEMENTED, message);
    match version {
        // The client may send the data of a tunnel at once (RFC 9931).
        Version::HTTP_10 | Version::HTTP_11 => rejection.close(),
        _ => rejection,
    }
}
