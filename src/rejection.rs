//! A handler's refusal.

use crate::{BoxError, body::ErasedBody, metrics, negotiate::switch, trace};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{self, IntoHeaderName},
};
use http_body::Body;
use http_body_util::Full;
use std::{borrow::Cow, fmt};

/// The media type of a message.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// A refusal: a whole response in place of the switch.
///
/// Make one from a status and a message, from a bare [`StatusCode`], or from a whole [`Response`];
/// implement `From<YourError> for Rejection` and `?` does the rest. Nothing of the request is
/// copied into it.
///
/// The response carries a [`RejectionReason`] in its extensions, for the layers around to log.
///
/// On HTTP/1.1 the connection stays open after it, if the request's body was read. Otherwise it ends:
/// at once, or 10 seconds later if the body of the rejection is longer than 16 KiB, so that hyper does
/// not cut what is still to be sent. After the refusal of a CONNECT it ends in any case (RFC 9931). On
/// HTTP/2 the stream ends, and the connection goes on.
///
/// To a client that asked with CONNECT every 2xx is a switch, and so is a 101 to one that asked with
/// `Upgrade`: a rejection with such a status is answered with 500, and reported.
///
/// ```
/// use http::StatusCode;
/// use tower_upgrade::{Accept, Rejection, UpgradeRequest};
///
/// enum NoRoom { Unknown, Full { retry_after: u64 } }
///
/// impl From<NoRoom> for Rejection {
///     fn from(error: NoRoom) -> Self {
///         match error {
///             NoRoom::Unknown => Rejection::new(StatusCode::NOT_FOUND, "no such room"),
///             NoRoom::Full { retry_after } => {
///                 Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "the room is full")
///                     .header(http::header::RETRY_AFTER, retry_after.into())
///             }
///         }
///     }
/// }
/// ```
#[must_use = "a rejection does nothing unless it is returned from `accept`"]
pub struct Rejection {
    /// In a box, so that it is cheap to return.
    refusal: Box<Refusal>,
}

struct Refusal {
    response: Response<ErasedBody>,
    source: Option<BoxError>,
    message: Cow<'static, str>,
}

impl Rejection {
    /// A refusal that says `message`, as plain text.
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

    /// Appends a header; existing values with the same name are kept.
    ///
    /// # Panics
    ///
    /// If `name` is a `&'static str` that is not a valid header name in lower case.
    pub fn header<K: IntoHeaderName>(mut self, name: K, value: HeaderValue) -> Self {
        self.refusal.response.headers_mut().append(name, value);
        self
    }

    /// Says what the refusal comes from: for the log, the client does not see it.
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.refusal.source = Some(source.into());
        self
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.refusal.response.status()
    }

    /// The headers of the response.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.refusal.response.headers()
    }

    /// Lets the connection end after the response.
    pub(crate) fn close(mut self) -> Self {
        switch::close(self.refusal.response.headers_mut());
        self
    }

    pub(crate) fn into_response(self) -> Response<ErasedBody> {
        let Refusal {
            mut response,
            source,
            message,
        } = *self.refusal;
        trace::refused(response.status(), &message, source.as_deref());
        metrics::refused(response.status());
        response.extensions_mut().insert(RejectionReason {
            message,
            source: source.map(Into::into),
        });
        response
    }
}

impl From<StatusCode> for Rejection {
    /// A rejection whose body is the status's reason phrase.
    fn from(status: StatusCode) -> Self {
        Self::new(status, status.canonical_reason().unwrap_or("refused"))
    }
}

impl<B> From<Response<B>> for Rejection
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// A refusal that is `response`, as it is.
    fn from(response: Response<B>) -> Self {
        let message = response
            .status()
            .canonical_reason()
            .unwrap_or("refused")
            .into();
        Self::of(response.map(ErasedBody::new), message)
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

/// Why an upgrade was refused: left in the extensions of the response for the layers around.
///
/// ```
/// use tower_upgrade::RejectionReason;
///
/// fn log<B>(response: &http::Response<B>) {
///     if let Some(reason) = response.extensions().get::<RejectionReason>() {
///         eprintln!("refused with {}: {reason}", response.status());
///     }
/// }
/// ```
#[derive(Clone)]
pub struct RejectionReason {
    message: Cow<'static, str>,
    source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl RejectionReason {
    /// The rejection's message, or the reason phrase of a whole response's status.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the refusal came from, where the handler said it.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
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
