//! What a client asks for.

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

/// A request to leave HTTP: for one of some protocols, or for a tunnel.
///
/// It is owned, and can be cloned to be sent again. What it says is what is asked for; how it is asked
/// for is the connection's matter: with `Upgrade` on HTTP/1.1, with extended CONNECT on [HTTP/2](super::Http2).
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
/// Whatever else a request can be, make it with `http`:
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
    /// Asks for an upgrade with a GET. The scheme is `http` or `https`, or `ws` or `wss` for the same, in any case of
    /// letters. A URI with a user is [refused](super::ErrorKind::Request): send `Authorization`.
    #[must_use]
    pub fn get(uri: Uri) -> Self {
        Self::new(Method::GET, uri)
    }

    /// Asks for a tunnel to a host and a port, with CONNECT (RFC 9110 §9.3.6). Which proxy is asked is the
    /// service's matter that sends it. It has no body.
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
    /// Offers a protocol, `name` or `name/version`, after those that were offered before: the most wanted
    /// first.
    ///
    /// Over HTTP/2 there is room for one, and the first is asked for (RFC 8441 §4).
    ///
    /// # Panics
    ///
    /// If `protocol` is no protocol. See [`try_protocol`](Self::try_protocol).
    #[must_use]
    #[track_caller]
    pub fn protocol(self, protocol: &str) -> Self {
        match self.try_protocol(protocol) {
            Ok(request) => request,
            Err(error) => panic!("{error}"),
        }
    }

    /// Offers a protocol, as [`protocol`](Self::protocol) does.
    ///
    /// # Errors
    ///
    /// If `protocol` is not `name` or `name/version` of tokens.
    pub fn try_protocol(mut self, protocol: &str) -> Result<Self, InvalidProtocol> {
        self.protocols.push(protocol.parse()?);
        Ok(self)
    }

    /// Offers these, after those before.
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

    /// Replaces the body, which is empty unless it was set: for a client of HTTP that has another type for
    /// bodies.
    ///
    /// Of a long one [a part may be
    /// lost](crate::manual::stack_below#a-clients-body-that-was-not-sent-yet-is-lost-at-a-switch) if the server
    /// switches before it has read it.
    #[must_use]
    pub fn body<T>(self, body: T) -> Request<T> {
        Request {
            http: self.http.map(|_| body),
            protocols: self.protocols,
        }
    }

    /// The request as it was made, without the fields that ask for the upgrade.
    #[must_use]
    pub fn http(&self) -> &http::Request<B> {
        &self.http
    }

    /// The same, to change it: to add credentials before it is sent again, for example.
    #[must_use]
    pub fn http_mut(&mut self) -> &mut http::Request<B> {
        &mut self.http
    }

    /// The protocols that are offered, the most wanted first.
    #[must_use]
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// The request as HTTP/1.1 has it, and what it asks for.
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
                return Err(Error::request("a CONNECT names no protocol"));
            }
            UpgradeKind::Upgrade if protocols.is_empty() => {
                return Err(Error::request("the request offers no protocol"));
            }
            UpgradeKind::Upgrade => {
                let headers = http.headers_mut();
                // It may say so already, and servers that look at one line only want one.
                if !http1::connection_has_upgrade(headers) {
                    headers.append(header::CONNECTION, HeaderValue::from_static("upgrade"));
                }
                headers.insert(header::UPGRADE, list(&protocols));
                let uri = std::mem::take(http.uri_mut());
                *http.uri_mut() = http_uri(uri)?;
            }
            UpgradeKind::Connect | UpgradeKind::ExtendedConnect => {
                connect::target(http.uri()).map_err(Error::request)?;
                // It would be sent before the answer, and a proxy may take it for what the tunnel is
                // to carry (RFC 9110 §9.3.6, RFC 9931).
                if connect::has_content(http.headers()) || !http.body().is_end_stream() {
                    return Err(Error::request("a CONNECT has no body"));
                }
                http.headers_mut().remove(header::UPGRADE);
            }
        }
        has_no_user(http.uri())?;
        // A CONNECT as well: hyper has none in other versions.
        *http.version_mut() = Version::HTTP_11;
        // It would ask over HTTP/2 for what the server may not allow.
        http.extensions_mut().remove::<hyper::ext::Protocol>();
        Ok((http, Asked { kind, protocols }))
    }
}

/// `ws` is asked for as `http` is, and `wss` as `https` (RFC 6455 §3, RFC 8441 §5).
fn http_uri(uri: Uri) -> Result<Uri, Error> {
    // Schemes compare without case (RFC 3986 §3.1), and http keeps the letters of those that it does not know.
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

/// A user may not be sent (RFC 9110 §4.2.4), and leaving it out would lose a password.
///
/// Connections ask once more: behind a redirect the URI is another.
pub(super) fn has_no_user(uri: &Uri) -> Result<(), Error> {
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err(Error::request("a URI with a user: send `Authorization`"))
        }
        _ => Ok(()),
    }
}

fn list(protocols: &[Protocol]) -> HeaderValue {
    let list: Vec<_> = protocols.iter().map(Protocol::as_str).collect();
    HeaderValue::try_from(list.join(", ")).expect("tokens are valid in a header")
}

impl<B> From<http::Request<B>> for Request<B> {
    /// A request that offers nothing yet. A CONNECT is one for a tunnel, which has nothing to offer.
    ///
    /// The `Upgrade` that it may have is replaced.
    fn from(http: http::Request<B>) -> Self {
        Self {
            http,
            protocols: Vec::new(),
        }
    }
}

/// What was asked for: the answer is read in its light.
///
/// Where [`Http2`](super::Http2) asks in another way it says so with one of these in the extensions of the
/// response.
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
