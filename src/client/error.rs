//! Why there is no session.

use super::Body;
use crate::BoxError;
use http::Response;
use std::{borrow::Cow, error::Error as _, fmt, io};

/// Why a request for an upgrade came to no session.
///
/// ```
/// use tower_upgrade::client::{Error, ErrorKind};
///
/// async fn explain(error: Error) -> String {
///     use http_body_util::BodyExt as _;
///
///     let message = error.to_string();
///     match (error.kind(), error.into_response()) {
///         (ErrorKind::Refused, Some(response)) => match response.into_body().collect().await {
///             Ok(body) => format!("{message}: {}", String::from_utf8_lossy(&body.to_bytes())),
///             Err(_) => message,
///         },
///         _ => message,
///     }
/// }
/// ```
pub struct Error {
    /// In a box, so that it is cheap to return.
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    response: Option<Response<Body>>,
    source: Option<BoxError>,
}

/// What kind of an [`Error`] it is.
///
/// | kind | what came of the request | to ask again |
/// |---|---|---|
/// | [`Request`](Self::Request) | it was not sent | comes to the same |
/// | [`Unsupported`](Self::Unsupported) | it was not sent, or came to nothing that can be used | comes to the same |
/// | [`Refused`](Self::Refused) | the server has answered | if the [response](Error::response) says so, such as 503 with `Retry-After` |
/// | [`Protocol`](Self::Protocol) | the server switched to something else | comes to the same |
/// | [`Transport`](Self::Transport), [`Timeout`](Self::Timeout) | it is not known: the server may have begun a session, and sees it end | may help; the server may see the request twice |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be sent: it offers no protocol, or is for no host. Nothing was sent.
    Request,
    /// The connection cannot be asked for this: it is HTTP/2, and its server has not allowed extended
    /// CONNECT, or the client beneath does not do it.
    Unsupported,
    /// The server answered with a response that is no switch. It is in [`Error::response`].
    Refused,
    /// The server switched, and not to what was asked for (RFC 9110 §7.8). The connection was dropped.
    Protocol,
    /// The connection could not be made, broke, or was not HTTP. What the client beneath says is the
    /// [source](std::error::Error::source). It is of this kind as well if a connector does not take the URI, however
    /// often it is asked: one without TLS says `invalid URL, scheme is not http` to `https`, and to a URI without a
    /// scheme.
    Transport,
    /// It took longer than [`handshake_timeout`](super::UpgradeLayer::handshake_timeout), or than a limit
    /// beneath that says [`TimedOut`](io::ErrorKind::TimedOut).
    Timeout,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                response: None,
                source: None,
            }),
        }
    }

    fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    fn with_response(mut self, response: Response<Body>) -> Self {
        self.inner.response = Some(response);
        self
    }

    pub(crate) fn request(message: &'static str) -> Self {
        Self::new(ErrorKind::Request, message)
    }

    pub(super) fn no_host() -> Self {
        Self::request("the request is for no host")
    }

    pub(super) fn unsupported(message: &'static str) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// The client beneath turned the request into one that asks for nothing. Whatever the answer is, it
    /// is to that.
    pub(super) fn not_asked(response: Response<Body>) -> Self {
        Self::unsupported("the client sent an `Upgrade` over HTTP/2, where there is none")
            .with_response(response)
    }

    pub(super) fn refused(response: Response<Body>) -> Self {
        let message = match response.status() {
            // As a server may (RFC 9110 §7.8).
            status if status.is_success() => format!("the offer was ignored: {status}"),
            status => format!("refused with {status}"),
        };
        Self::new(ErrorKind::Refused, message).with_response(response)
    }

    pub(crate) fn protocol(message: Cow<'static, str>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    pub(super) fn timeout() -> Self {
        Self::new(ErrorKind::Timeout, "the handshake took too long")
    }

    /// What the service beneath failed with.
    pub(crate) fn transport(error: impl Into<BoxError>) -> Self {
        // It may be one of ours, from a service further in.
        let error = match error.into().downcast::<Self>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        if has_timed_out(&*error) {
            Self::timeout().with_source(error)
        } else {
            Self::not_connected(error)
        }
    }

    /// What a connector failed with. One that goes through a proxy may fail with a refusal, which the
    /// server that the request is for has never seen.
    pub(super) fn connect(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        match error.downcast_ref::<Self>().map(Self::kind) {
            Some(ErrorKind::Timeout) => Self::timeout().with_source(error),
            Some(_) => Self::not_connected(error),
            None => Self::transport(error),
        }
    }

    fn not_connected(error: BoxError) -> Self {
        Self::new(ErrorKind::Transport, "the connection failed").with_source(error)
    }

    /// What kind of an error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The response, if there was one: always of an error that is [`Refused`](ErrorKind::Refused).
    #[must_use]
    pub fn response(&self) -> Option<&Response<Body>> {
        self.inner.response.as_ref()
    }

    /// The response, with a body that can be read. The connection may be used for the next request
    /// once it was.
    #[must_use]
    pub fn into_response(self) -> Option<Response<Body>> {
        self.inner.response
    }
}

fn has_timed_out(mut error: &(dyn std::error::Error + 'static)) -> bool {
    loop {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        match error.source() {
            Some(source) => error = source,
            None => return false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("response", &self.inner.response)
            .field("source", &self.source())
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
