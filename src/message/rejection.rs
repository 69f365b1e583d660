//! The rejection of an upgrade.

use crate::{
    error::BoxError, message::body::ErasedBody, metrics, negotiate::upgrade_response, panic, trace,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode, Version,
    header::{self, IntoHeaderName},
};
use http_body::Body;
use http_body_util::Full;
use std::{any::Any, borrow::Cow, fmt};

/// The media type of plain-text responses.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// The response of a handler that rejects an upgrade.
///
/// | created from | response |
/// |---|---|
/// | a status and a message: [`Rejection::new`] | the message as plain text |
/// | a [`StatusCode`] | the reason phrase of the status as plain text |
/// | a [`Response`] | that response |
///
/// The response contains no data of the request. Its extensions contain a [`RejectionReason`], which middleware outside
/// the layer can log.
///
/// To convert an error type with `?`, implement `From` for `Rejection`:
///
/// ```
/// use http::StatusCode;
/// use tower_upgrade::Rejection;
///
/// enum RoomError { NotFound, Full { retry_after: u64 } }
///
/// impl From<RoomError> for Rejection {
///     fn from(error: RoomError) -> Self {
///         match error {
///             RoomError::NotFound => Rejection::new(StatusCode::NOT_FOUND, "no such room"),
///             RoomError::Full { retry_after } => {
///                 Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "the room is full")
///                     .header(http::header::RETRY_AFTER, retry_after.into())
///             }
///         }
///     }
/// }
/// ```
///
/// # The connection after a rejection
///
/// | request | connection |
/// |---|---|
/// | `Upgrade`, body read to its end | stays open |
/// | `Upgrade`, body not read to its end | closes after the response; if the response body is longer than 16 KiB or of unknown length, 10 seconds after it, because hyper otherwise truncates it |
/// | CONNECT on HTTP/1 | closes after the response (RFC 9931) |
/// | CONNECT and extended CONNECT on HTTP/2 | stays open: only the stream ends |
///
/// # Invalid statuses
///
/// A rejection cannot have the status of an upgrade response: 101, or a 2xx in response to a CONNECT or an extended
/// CONNECT. The layer then responds with 500 and reports the mistake as a `tracing` event.
#[must_use = "a rejection does nothing unless it is returned from `accept`"]
pub struct Rejection {
    /// Boxed to keep `Result<Accept, Rejection>` small.
    refusal: Box<Refusal>,
}

struct Refusal {
    response: Response<ErasedBody>,
    source: Option<BoxError>,
    message: Cow<'static, str>,
}

impl Rejection {
    /// Creates a rejection with `message` as its plain-text body.
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        let body = match message.clone() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        let mut response = Response::new(ErasedBody::new(Full::new(body)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
        Self::of(response, message)
    }

    fn of(response: Response<ErasedBody>, message: Cow<'static, str>) -> Self {
        Self {
            refusal: Box::new(Refusal {
                response,
                source: None,
                message,
            }),
        }
    }

    /// Appends a header to the response. Existing values with the same name are kept.
    ///
    /// # Panics
    ///
    /// If `name` is a `&'static str` that is not a valid header name in lower case.
    pub fn header<K: IntoHeaderName>(mut self, name: K, value: HeaderValue) -> Self {
        self.refusal.response.headers_mut().append(name, value);
        self
    }

    /// Sets the error that caused the rejection.
    ///
    /// The error is the [source](std::error::Error::source) of the [`RejectionReason`], and is part of the `tracing`
    /// event of the rejection. The client does not receive it.
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.refusal.source = Some(source.into());
        self
    }

    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.refusal.response.status()
    }

    /// Returns the headers of the response.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.refusal.response.headers()
    }

    /// Returns the message that describes the rejection in logs.
    ///
    /// If the rejection was created from a [`StatusCode`] or a [`Response`], the message is the reason phrase of the
    /// status.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.refusal.message
    }

    /// Closes the connection after the response.
    pub(crate) fn close(mut self) -> Self {
        upgrade_response::close(self.refusal.response.headers_mut());
        self
    }

    pub(crate) fn into_response(self) -> Response<ErasedBody> {
        let Refusal {
            response,
            source,
            message,
        } = &*self.refusal;
        trace::rejected(response.status(), message, source.as_deref());
        metrics::rejected(response.status());
        self.with_reason()
    }

    /// Returns the response to a request that does not ask for an upgrade.
    #[cfg(feature = "tunnel")]
    pub(crate) fn into_plain_response(self) -> Response<ErasedBody> {
        let Refusal {
            response,
            source,
            message,
        } = &*self.refusal;
        trace::plain_rejected(response.status(), message, source.as_deref());
        self.with_reason()
    }

    fn with_reason(self) -> Response<ErasedBody> {
        let Refusal {
            mut response,
            source,
            message,
        } = *self.refusal;
        response.extensions_mut().insert(RejectionReason {
            message,
            source: source.map(Into::into),
        });
        response
    }
}

impl From<StatusCode> for Rejection {
    /// Creates a rejection with the reason phrase of `status` as its plain-text body.
    fn from(status: StatusCode) -> Self {
        Self::new(status, status.canonical_reason().unwrap_or("refused"))
    }
}

impl<B> From<Response<B>> for Rejection
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Creates a rejection that sends `response`. Its message is the reason phrase of the status.
    fn from(response: Response<B>) -> Self {
        let message = response
            .status()
            .canonical_reason()
            .unwrap_or("refused")
            .into();
        Self::of(response.map(ErasedBody::new), message)
    }
}

impl fmt::Display for Rejection {
    /// Writes the status and the message: `403 Forbidden: members only`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status();
        if status.canonical_reason() == Some(self.message()) {
            write!(f, "{status}")
        } else {
            write!(f, "{status}: {}", self.message())
        }
    }
}

impl std::error::Error for Rejection {
    /// Returns the error of [`with_source`](Self::with_source).
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.refusal.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("status", &self.status())
            .field("message", &self.refusal.message)
            .field("source", &self.refusal.source)
            .finish_non_exhaustive()
    }
}

/// The reason for a rejection, in the extensions of the response.
///
/// `Display` writes the message, and `source` returns the error of [`Rejection::with_source`].
///
/// ```
/// use std::error::Error as _;
/// use tower_upgrade::RejectionReason;
///
/// fn log<B>(response: &http::Response<B>) {
///     if let Some(reason) = response.extensions().get::<RejectionReason>() {
///         eprintln!("rejected with {}: {reason}", response.status());
///         if let Some(source) = reason.source() {
///             eprintln!("caused by: {source}");
///         }
///     }
/// }
/// ```
#[derive(Clone)]
pub struct RejectionReason {
    message: Cow<'static, str>,
    source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl RejectionReason {
    /// Returns the message of the rejection.
    ///
    /// See [`Rejection::message`].
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RejectionReason {
    /// Returns the error of [`Rejection::with_source`].
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

impl fmt::Debug for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectionReason")
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

/// Returns the fields of a 426 that list `protocols`.
pub(crate) fn supported(protocols: &[&str]) -> HeaderMap {
    let list = HeaderValue::from_str(&protocols.join(", "))
        .expect("tokens, slashes, commas and spaces are a field value");
    HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, list),
    ])
}

/// Creates a 426 with the fields that [`supported`] returns.
pub(crate) fn upgrade_required(supported: &HeaderMap) -> Rejection {
    let mut rejection = Rejection::new(
        StatusCode::UPGRADE_REQUIRED,
        "none of the offered protocols is supported",
    );
    for (name, value) in supported {
        rejection = rejection.header(name, value.clone());
    }
    rejection
}

pub(crate) fn not_implemented(message: &'static str) -> Rejection {
    Rejection::new(StatusCode::NOT_IMPLEMENTED, message)
}

/// Closes an HTTP/1 connection after the rejection. On later versions, only the stream ends.
pub(crate) fn close(rejection: Rejection, version: Version) -> Rejection {
    match version <= Version::HTTP_11 {
        true => rejection.close(),
        false => rejection,
    }
}

/// Creates the rejection of a request for which the handler panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Rejection {
    let message = panic::message(panic);
    trace::handler_panicked(&message);
    Rejection::from(StatusCode::INTERNAL_SERVER_ERROR)
        .with_source(format!("the handler panicked: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn display_has_status_and_message() {
        let forbidden = Rejection::new(StatusCode::FORBIDDEN, "members only");
        assert_eq!(forbidden.message(), "members only");
        assert_eq!(forbidden.to_string(), "403 Forbidden: members only");
    }

    #[test]
    fn display_does_not_repeat_the_reason_phrase() {
        let forbidden = Rejection::from(StatusCode::FORBIDDEN);
        assert_eq!(forbidden.message(), "Forbidden");
        assert_eq!(forbidden.to_string(), "403 Forbidden");
    }

    #[test]
    fn source_is_reported_by_rejection_and_reason() {
        let rejection = Rejection::from(StatusCode::BAD_GATEWAY).with_source("refused");
        assert_eq!(rejection.source().unwrap().to_string(), "refused");
        let rejection: BoxError = rejection.into();
        let rejection = *rejection.downcast::<Rejection>().unwrap();
        let response = rejection.into_response();
        let reason = response.extensions().get::<RejectionReason>().unwrap();
        assert_eq!(reason.to_string(), "Bad Gateway");
        assert_eq!(reason.source().unwrap().to_string(), "refused");
    }
}
