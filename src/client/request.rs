//! The request for an upgrade.

use super::Error;
use crate::negotiate::{
    connect, http1,
    kind::UpgradeKind,
    protocol::{InvalidProtocol, Protocol},
};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Uri, Version,
    header::{self, IntoHeaderName},
    uri::{Authority, Scheme},
};
use http_body_util::Full;

/// A request to switch to one of the offered protocols, or to open a tunnel.
///
/// The same request works over every HTTP version: an HTTP/1.1 connection sends it as `Upgrade`, an
/// [HTTP/2](super::Http2) connection as extended CONNECT. Clone the request for another attempt.
///
/// ```
/// use http::HeaderValue;
/// use tower_upgrade::client::Request;
///
/// let request = Request::get("http://example.com/chat".parse()?)
///     .protocol("chat/2")
///     .protocol("chat/1")
///     .header("user", HeaderValue::from_static("ann"));
///
/// let tunnel = Request::connect("example.com:443".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// For other methods, or a request with a body, build an `http::Request` and convert it:
///
/// ```
/// use tower_upgrade::client::Request;
///
/// // As Docker's client does.
/// let request = http::Request::post("http://localhost/v1.47/exec/4fa6/start")
///     .header("content-type", "application/json")
///     .body(r#"{"Tty":true}"#.to_owned())?;
/// let request = Request::from(request).protocol("tcp");
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Request<B = Full<Bytes>> {
    http: http::Request<B>,
    protocols: Vec<Protocol>,
}

impl Request {
    /// Creates a GET request for an upgrade.
    ///
    /// The scheme is `http` or `https`, or the equivalent `ws` or `wss`, in any letter case. A URI with a user is
    /// [refused](super::ErrorKind::Request): send `Authorization` instead.
    #[must_use]
    pub fn get(uri: Uri) -> Self {
        Self::new(Method::GET, uri)
    }

    /// Creates a CONNECT request for a tunnel to a host and a port (RFC 9110 §9.3.6).
    ///
    /// The service that sends the request chooses the proxy. The request has no body.
    #[must_use]
    pub fn connect(target: Authority) -> Self {
        Self::new(Method::CONNECT, target.into())
    }

    fn new(method: Method, uri: Uri) -> Self {
        let mut http = http::Request::new(Full::default());
        *http.method_mut() = method;
        *http.uri_mut() = uri;
        http.into()
    }
}

impl<B> Request<B> {
    /// Offers a protocol, `name` or `name/version`, after the protocols offered before. Offer the preferred protocol
    /// first.
    ///
    /// An HTTP/2 request carries one protocol, so only the first is offered (RFC 8441 §4).
    ///
    /// # Panics
    ///
    /// If `protocol` is not `name` or `name/version` of tokens. See [`try_protocol`](Self::try_protocol).
    #[must_use]
    #[track_caller]
    pub fn protocol<P>(self, protocol: P) -> Self
    where
        P: TryInto<Protocol, Error: Into<InvalidProtocol>>,
    {
        match self.try_protocol(protocol) {
            Ok(request) => request,
            Err(error) => panic!("{error}"),
        }
    }

    /// Offers a protocol, like [`protocol`](Self::protocol), but returns an error if the name is invalid.
    ///
    /// # Errors
    ///
    /// If `protocol` is not `name` or `name/version` of tokens.
    pub fn try_protocol<P>(mut self, protocol: P) -> Result<Self, InvalidProtocol>
    where
        P: TryInto<Protocol, Error: Into<InvalidProtocol>>,
    {
        let protocol = protocol.try_into().map_err(Into::into)?;
        self.protocols.push(protocol);
        Ok(self)
    }

    /// Offers `protocols`, after the protocols offered before.
    #[cfg(feature = "tunnel")]
    pub(crate) fn offering(mut self, protocols: Vec<Protocol>) -> Self {
        self.protocols.extend(protocols);
        self
    }

    /// Appends a header; existing values with the same name are kept.
    ///
    /// # Panics
    ///
    /// If `name` is a `&'static str` that is not a valid header name in lower case.
    #[must_use]
    pub fn header<K: IntoHeaderName>(mut self, name: K, value: HeaderValue) -> Self {
        self.http.headers_mut().append(name, value);
        self
    }

    /// Replaces the body, for an HTTP client with another body type. The default body is empty.
    ///
    /// [Part of a long body may be
    /// lost](crate::manual::stack_below#a-clients-unsent-body-is-lost-at-the-upgrade) if the server
    /// switches protocols before it has read the whole body.
    #[must_use]
    pub fn body<T>(self, body: T) -> Request<T> {
        Request {
            http: self.http.map(|_| body),
            protocols: self.protocols,
        }
    }

    /// Returns the HTTP request. The service adds `Connection` and `Upgrade` when it sends the request.
    #[must_use]
    pub fn http(&self) -> &http::Request<B> {
        &self.http
    }

    /// Returns the HTTP request mutably, for example to add credentials before another attempt.
    #[must_use]
    pub fn http_mut(&mut self) -> &mut http::Request<B> {
        &mut self.http
    }

    /// Returns the offered protocols, the preferred one first.
    #[must_use]
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// Returns the request in its HTTP/1.1 form, and the kind of upgrade and the protocols that it requests.
    pub(super) fn into_http(self) -> Result<(http::Request<B>, Asked), Error>
    where
        B: http_body::Body,
    {
        let Self {
            mut http,
            protocols,
        } = self;
        let kind = match *http.method() {
            Method::CONNECT => UpgradeKind::Connect,
            _ => UpgradeKind::Upgrade,
        };
        match kind {
            UpgradeKind::Connect if !protocols.is_empty() => {
                return Err(Error::request("a CONNECT cannot offer a protocol"));
            }
            UpgradeKind::Upgrade if protocols.is_empty() => {
                return Err(Error::request("the request offers no protocol"));
            }
            UpgradeKind::Upgrade => {
                let headers = http.headers_mut();
                // The caller may have set `Connection: upgrade`, and some servers read only one `Connection` line.
                if !http1::connection_has_upgrade(headers) {
                    headers.append(header::CONNECTION, HeaderValue::from_static("upgrade"));
                }
                headers.insert(header::UPGRADE, list(&protocols));
                let uri = std::mem::take(http.uri_mut());
                *http.uri_mut() = http_uri(uri)?;
            }
            UpgradeKind::Connect | UpgradeKind::ExtendedConnect => {
                connect::target(http.uri()).map_err(Error::request)?;
                // hyper would send the body before the response, and a proxy may take it for tunnel data
                // (RFC 9110 §9.3.6, RFC 9931).
                if connect::has_content(http.headers()) || !http.body().is_end_stream() {
                    return Err(Error::request("a CONNECT cannot have a body"));
                }
                http.headers_mut().remove(header::UPGRADE);
            }
        }
        has_no_user(http.uri())?;
        // This includes CONNECT: hyper does not support it in other versions.
        *http.version_mut() = Version::HTTP_11;
        // The extension would send an extended CONNECT over HTTP/2, which the server may not allow.
        http.extensions_mut().remove::<hyper::ext::Protocol>();
        Ok((http, Asked { kind, protocols }))
    }
}

/// Replaces the scheme `ws` with `http`, and `wss` with `https` (RFC 6455 §3, RFC 8441 §5).
fn http_uri(uri: Uri) -> Result<Uri, Error> {
    // Schemes are case-insensitive (RFC 3986 §3.1), and http keeps the case of unknown schemes.
    let is = |scheme: &str| uri.scheme().is_some_and(|own| *own == *scheme);
    let scheme = match (is("ws"), is("wss")) {
        (true, _) => Scheme::HTTP,
        (_, true) => Scheme::HTTPS,
        (false, false) => return Ok(uri),
    };
    let mut parts = uri.into_parts();
    parts.scheme = Some(scheme);
    Uri::from_parts(parts).map_err(|_| Error::no_host())
}

/// Rejects a URI with a user: a client must not send the user (RFC 9110 §4.2.4), and removing it would lose a password.
///
/// Connections repeat the check, because a redirect changes the URI.
pub(super) fn has_no_user(uri: &Uri) -> Result<(), Error> {
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => Err(Error::request(
            "the URI has a user: send `Authorization` instead",
        )),
        _ => Ok(()),
    }
}

fn list(protocols: &[Protocol]) -> HeaderValue {
    let list: Vec<_> = protocols.iter().map(Protocol::as_str).collect();
    HeaderValue::try_from(list.join(", ")).expect("tokens are valid in a header")
}

impl<B> From<http::Request<B>> for Request<B> {
    /// Converts an HTTP request. Offer protocols with [`protocol`](Self::protocol), unless the method is CONNECT, which
    /// requests a tunnel.
    ///
    /// An existing `Upgrade` field is replaced, or removed from a CONNECT.
    fn from(http: http::Request<B>) -> Self {
        Self {
            http,
            protocols: Vec::new(),
        }
    }
}

/// The requested kind of upgrade and the offered protocols, which decide whether the response is valid.
///
/// When [`Http2`](super::Http2) sends an extended CONNECT in place of an `Upgrade`, it puts an `Asked` into the
/// extensions of the response.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: UpgradeKind,
    pub(super) protocols: Vec<Protocol>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ws_is_http_and_wss_is_https() {
        for (uri, asked) in [
            ("ws://test", "http://test/"),
            ("wss://test:1/a?b", "https://test:1/a?b"),
            ("WS://test", "http://test/"),
            ("Ws://test", "http://test/"),
            ("wSS://test/a", "https://test/a"),
            ("HTTPS://test/a", "https://test/a"),
            ("http://test/", "http://test/"),
            ("https://test/", "https://test/"),
            ("/a", "/a"),
        ] {
            let request = Request::get(uri.parse().expect(uri)).protocol("echo");
            let (http, _) = request.into_http().expect(uri);
            assert_eq!(*http.uri(), asked);
        }
    }
}
