//! The error of a client and its kinds.

use super::{
    Body,
    cause::{self, Cause, TIMED_OUT},
};
use crate::error::BoxError;
use http::{Request, Response};
use hyper::client::conn::TrySendError;
#[cfg(doc)]
use std::io;
use std::{borrow::Cow, error::Error as _, fmt, sync::Arc};

/// The reason why a request for an upgrade failed.
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
    /// Shared with the original where another client has wrapped the error. An `Arc` is also cheap to return.
    inner: Arc<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    response: Option<Response<Body>>,
    source: Option<BoxError>,
}

/// The kind of an [`Error`].
///
/// | kind | the request | another attempt |
/// |---|---|---|
/// | [`Request`](Self::Request) | was not sent | fails again |
/// | [`Unsupported`](Self::Unsupported) | was not sent, or its response cannot be used | fails again |
/// | [`Unreachable`](Self::Unreachable) | was not sent | may help |
/// | [`Tls`](Self::Tls) | was not sent, or the server's TLS rejected the connection | fails again |
/// | [`Connector`](Self::Connector) | was not sent | depends on the [source](std::error::Error::source) |
/// | [`ProxyRefused`](Self::ProxyRefused) | was not sent: a proxy refused the tunnel | helps only if the [response](Error::response) says so: credentials after a 407, a wait after a 503 with `Retry-After` |
/// | [`Refused`](Self::Refused) | was answered by the server | helps only if the [response](Error::response) says so |
/// | [`Protocol`](Self::Protocol) | was answered with an invalid upgrade response | fails again |
/// | [`Transport`](Self::Transport), [`Timeout`](Self::Timeout) | may have reached the server, which may have begun a session | may help; the server may see the request twice |
///
/// A retry policy needs a limit on its attempts, also where another attempt "may help".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is invalid: for example, it offers no protocol, has no host, or its URI has a user. Nothing was
    /// sent.
    Request,
    /// The connection cannot carry the request: for example, an HTTP/2 server does not allow extended CONNECT, or the
    /// inner client does not support upgrades.
    Unsupported,
    /// A connection to the server, or to a proxy on the way, could not be made: the connection was refused, the
    /// network has no route, or the name was not resolved. Nothing was sent.
    Unreachable,
    /// TLS failed, with the server or with a proxy on the way: the certificate is not trusted or has another name,
    /// the two sides have no version in common, or the server requires a client certificate.
    ///
    /// tokio-rustls and hyper-rustls report a TLS failure as an [`io::Error`] of kind
    /// [`InvalidData`](io::ErrorKind::InvalidData), from which the client recognizes it. Errors of other TLS libraries,
    /// such as native-tls, have kind [`Connector`](Self::Connector), unless the connector maps them to an `io::Error`
    /// of this kind.
    Tls,
    /// The connector failed for a reason other than the network or TLS. For example, a connector without TLS returns
    /// `invalid URL, scheme is not http` for `https` and for a URI without a scheme. The connector's error is the
    /// [source](std::error::Error::source). Nothing was sent.
    Connector,
    /// A proxy answered the CONNECT of a [`Tunnel`](super::Tunnel) with a status other than 2xx.
    /// [`Error::response`] returns the proxy's response. The server has not seen the request. Do not trust the response
    /// as the server's: without TLS to the proxy, anyone on the network path can forge it.
    ProxyRefused,
    /// The server answered with a response other than an upgrade response. [`Error::response`] returns the response.
    Refused,
    /// The server, or a proxy on the way, answered with an invalid upgrade response, such as a 101 without `Connection:
    /// upgrade`, or a 101 for a protocol that was not offered (RFC 9110 §7.8). The connection was dropped.
    Protocol,
    /// The connection broke, or the response was not valid HTTP. The error of the inner client is the
    /// [source](std::error::Error::source).
    Transport,
    /// The attempt took longer than [`handshake_timeout`](super::UpgradeLayer::handshake_timeout), or than a limit
    /// of the inner client or the connector: an [`io::Error`] of kind [`TimedOut`](io::ErrorKind::TimedOut), or
    /// the `Elapsed` of tokio or of tower's `Timeout`.
    Timeout,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Inner {
            kind,
            message: message.into(),
            response: None,
            source: None,
        })
    }

    fn of(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    fn with_source(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::of(Inner {
            kind,
            message: message.into(),
            response: None,
            source: Some(source.into()),
        })
    }

    fn with_response(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        response: Response<Body>,
    ) -> Self {
        Self::of(Inner {
            kind,
            message: message.into(),
            response: Some(response),
            source: None,
        })
    }

    pub(crate) fn request(message: &'static str) -> Self {
        Self::new(ErrorKind::Request, message)
    }

    pub(super) fn no_host() -> Self {
        Self::request("the request has no host")
    }

    pub(super) fn no_destination() -> Self {
        Self::new(
            ErrorKind::Connector,
            "the `Dial` of the pool has no destination",
        )
    }

    pub(super) fn unsupported(message: &'static str) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// The response answers a request from which the inner client removed the upgrade.
    pub(super) fn not_asked(response: Response<Body>) -> Self {
        let message = "the inner client sent the `Upgrade` over HTTP/2, which does not support it";
        Self::with_response(ErrorKind::Unsupported, message, response)
    }

    pub(super) fn refused(response: Response<Body>) -> Self {
        let message = match response.status() {
            // As a server may (RFC 9110 §7.8).
            status if status.is_success() => format!("the offer was ignored: {status}"),
            status => format!("refused with {status}"),
        };
        Self::with_response(ErrorKind::Refused, message, response)
    }

    pub(crate) fn protocol(message: Cow<'static, str>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    pub(super) fn timeout() -> Self {
        Self::new(ErrorKind::Timeout, TIMED_OUT)
    }

    /// Converts an error of the inner service.
    pub(crate) fn transport(error: impl Into<BoxError>) -> Self {
        // The inner service may return our own `Error`.
        match error.into().downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self::wrap(error, false),
        }
    }

    /// Converts an error of a connector. A refusal here comes from a proxy: the server has not seen the request.
    pub(super) fn connect(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(error) => error.of_proxy(),
            Err(error) => Self::wrap(error, true),
        }
    }

    /// Converts an error of the client that sends the CONNECT to a proxy.
    pub(super) fn tunnel(error: impl Into<BoxError>) -> Self {
        let error = Self::transport(error);
        match error.kind() {
            ErrorKind::Refused | ErrorKind::ProxyRefused => error.of_proxy(),
            kind => Self::with_source(kind, "no tunnel through the proxy", error),
        }
    }

    fn wrap(error: BoxError, is_connector: bool) -> Self {
        match cause::of(&*error, is_connector) {
            Cause::Own(own, is_connector) => {
                // Drop the other reference to the response: `into_response` needs the only one.
                drop(error);
                match is_connector {
                    true => own.of_proxy(),
                    false => own,
                }
            }
            Cause::Kind(kind, message) => Self::with_source(kind, message, error),
        }
    }

    /// Changes a refusal to [`ErrorKind::ProxyRefused`]; other errors stay the same.
    fn of_proxy(self) -> Self {
        let status = match (self.kind(), self.response()) {
            (ErrorKind::Refused, Some(response)) => response.status(),
            _ => return self,
        };
        let message = format!("the proxy refused with {status}");
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => Self::of(Inner {
                kind: ErrorKind::ProxyRefused,
                message: message.into(),
                ..inner
            }),
            // Shared by a client that hands its errors out more than once, such as tower's `Buffer`.
            Err(inner) => Self::with_source(ErrorKind::ProxyRefused, message, Self { inner }),
        }
    }

    pub(super) fn share(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns the response, if any: for kind [`Refused`](ErrorKind::Refused) the server's response, for kind
    /// [`ProxyRefused`](ErrorKind::ProxyRefused) the proxy's.
    ///
    /// Check the [kind](Self::kind) before you act on a status. Otherwise a 401 from a proxy could make you send it
    /// the credentials for the server.
    #[must_use]
    pub fn response(&self) -> Option<&Response<Body>> {
        self.inner.response.as_ref()
    }

    /// Returns the response with its readable body. Once the body has been read, the connection may carry the next
    /// request.
    #[must_use]
    pub fn into_response(self) -> Option<Response<Body>> {
        Arc::into_inner(self.inner)?.response
    }
}

/// A failed request, which the connection returns if it has sent no part of it.
pub(super) struct Unsent<B> {
    pub(super) error: Error,
    pub(super) request: Option<Request<B>>,
}

impl<B> From<Error> for Unsent<B> {
    fn from(error: Error) -> Self {
        Self {
            error,
            request: None,
        }
    }
}

impl<B> From<TrySendError<Request<B>>> for Unsent<B> {
    fn from(mut error: TrySendError<Request<B>>) -> Self {
        Self {
            request: error.take_message(),
            error: Error::transport(error.into_error()),
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
