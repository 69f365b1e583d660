//! Why there is no session.

use super::Body;
use crate::{BoxError, error::causes};
use http::{Response, uri::Authority};
use hyper_util::client::legacy;
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

/// The kind of an [`Error`].
///
/// | kind | what happened | another attempt |
/// |---|---|---|
/// | [`Request`](Self::Request) | nothing was sent | fails again |
/// | [`Unsupported`](Self::Unsupported) | nothing was sent, or the response cannot be used | fails again |
/// | [`Refused`](Self::Refused) | the server answered | if the [response](Error::response) allows it, such as 503 with `Retry-After` |
/// | [`Proxy`](Self::Proxy) | a proxy answered; the server has not seen the request | if the [response](Error::response) of the proxy allows it |
/// | [`Protocol`](Self::Protocol) | the server sent an invalid upgrade response | fails again |
/// | [`Tls`](Self::Tls) | TLS failed | fails again |
/// | [`Connect`](Self::Connect) | there is no connection; the server has not seen the request | may succeed |
/// | [`Transport`](Self::Transport), [`Timeout`](Self::Timeout) | unknown: the server may have started a session, and sees it end | may succeed; the server may see the request twice |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be sent: it offers no protocol, names no host, or its URI has a user. Nothing was sent.
    Request,
    /// The connection cannot carry the request: it is HTTP/2, and its server does not allow extended
    /// CONNECT, or the inner client does not support upgrades.
    Unsupported,
    /// The server answered with a response other than the upgrade response: [`Error::response`].
    Refused,
    /// A proxy on the way refused the tunnel to the server: [`Error::response`] is the proxy's.
    ///
    /// [`Tunnel`](super::Tunnel) fails with this kind, and so does a request through a connector that is made of one.
    Proxy,
    /// The server's upgrade response breaks the rules of RFC 9110 §7.8. The connection was dropped.
    Protocol,
    /// TLS failed: a certificate that is not trusted, no common version, a peer without TLS.
    ///
    /// A connector, or its connection, tells this with an [`io::Error`] of kind
    /// [`InvalidData`](io::ErrorKind::InvalidData), as rustls, tokio-rustls and hyper-rustls do. A connector that fails
    /// with an error type that this crate cannot know, such as native-tls, gives [`Connect`](Self::Connect).
    Tls,
    /// The connection could not be made: a name that does not resolve, a refused connection. The error of the connector
    /// is the [source](std::error::Error::source).
    ///
    /// A connector that does not support the URI fails with this kind at each attempt: one without TLS says
    /// `invalid URL, scheme is not http` to `https`, and to a URI without a scheme.
    Connect,
    /// The connection broke, or the peer did not send HTTP. The error of the inner client is the
    /// [source](std::error::Error::source).
    Transport,
    /// The handshake took longer than [`handshake_timeout`](super::UpgradeLayer::handshake_timeout), or than a limit
    /// further in that fails with [`TimedOut`](io::ErrorKind::TimedOut).
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

    /// Turns the refusal of a server into that of a proxy, which was asked for a tunnel to `target`.
    pub(super) fn of_proxy(mut self, target: &Authority) -> Self {
        let status = self.response().map(Response::status).unwrap_or_default();
        self.inner.kind = ErrorKind::Proxy;
        self.inner.message =
            format!("the proxy refused the tunnel to {target} with {status}").into();
        self
    }

    /// An error of the inner service.
    pub(crate) fn transport(error: impl Into<BoxError>) -> Self {
        // A service further in may have made it.
        let error = match error.into().downcast::<Self>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        Self::failed(error, ErrorKind::Transport)
    }

    /// An error of a connector.
    pub(super) fn connect(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        match error.downcast::<Self>() {
            // The refusal of a proxy, in the words of `Tunnel`.
            Ok(error) if error.kind() == ErrorKind::Proxy => *error,
            Ok(error) => Self::failed(error, ErrorKind::Connect),
            Err(error) => Self::failed(error, ErrorKind::Connect),
        }
    }

    /// Finds out of an error, and of those in it, what failed.
    fn failed(error: BoxError, mut kind: ErrorKind) -> Self {
        let mut refusal = None;
        for cause in causes(&*error) {
            if let Some(own) = cause.downcast_ref::<Self>() {
                // The error of a connector through a proxy, inside of that of a client.
                match own.kind() {
                    ErrorKind::Proxy => refusal = own.proxy_refusal(),
                    own @ (ErrorKind::Timeout | ErrorKind::Tls) => kind = own,
                    _ => {}
                }
            } else if let Some(client) = cause.downcast_ref::<legacy::Error>() {
                if client.is_connect() {
                    kind = ErrorKind::Connect;
                }
            } else if let Some(io) = cause.downcast_ref::<io::Error>() {
                match io.kind() {
                    io::ErrorKind::TimedOut => kind = ErrorKind::Timeout,
                    io::ErrorKind::InvalidData => kind = ErrorKind::Tls,
                    _ => {}
                }
            }
        }
        if let Some(refusal) = refusal {
            return refusal.with_source(error);
        }
        let message = match kind {
            ErrorKind::Timeout => return Self::timeout().with_source(error),
            ErrorKind::Tls => match causes(&*error).last() {
                Some(cause) => format!("TLS failed: {cause}").into(),
                None => Cow::Borrowed("TLS failed"),
            },
            ErrorKind::Connect => "cannot connect".into(),
            _ => "the connection failed".into(),
        };
        Self::new(kind, message).with_source(error)
    }

    /// The refusal of a proxy, with its head alone: the body stays in the error that another client has wrapped.
    fn proxy_refusal(&self) -> Option<Self> {
        let refusal = self.response()?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = refusal.status();
        *response.version_mut() = refusal.version();
        response.headers_mut().clone_from(refusal.headers());
        let message = self.inner.message.clone();
        Some(Self::new(ErrorKind::Proxy, message).with_response(response))
    }

    /// What kind of an error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns the response, if there was one: always with the kinds [`Refused`](ErrorKind::Refused), where it is the
    /// server's, and [`Proxy`](ErrorKind::Proxy), where it is the proxy's.
    #[must_use]
    pub fn response(&self) -> Option<&Response<Body>> {
        self.inner.response.as_ref()
    }

    /// Returns the response with its body, which can be read. The connection may serve the next request
    /// once the body was read.
    ///
    /// The response of a proxy has no body if another client, such as hyper-util's, made the connection through the
    /// proxy: that client keeps the error that owns the body.
    #[must_use]
    pub fn into_response(self) -> Option<Response<Body>> {
        self.inner.response
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
