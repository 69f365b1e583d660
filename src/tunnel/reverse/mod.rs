//! The reverse proxy.

mod answer;
mod backend;
mod forwarded;
mod future;
mod headers;
mod plain;
mod progress;
mod upgrade;

pub use self::{forwarded::Forwarding, future::ForwardFuture};

use self::{backend::Backend, forwarded::Client};
use crate::{
    client::Body,
    error::BoxError,
    message::rejection::Rejection,
    negotiate::{
        self,
        kind::UpgradeKind,
        protocol::{Member, Protocol},
    },
    time,
};
use http::{
    Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};
use tower_service::Service;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

const NO_HOST: &str = "the request has no valid host";

/// A reverse proxy: a handler that forwards upgrades to a backend, and a service that forwards all other requests.
///
/// ```
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower::Layer as _;
/// use tower_upgrade::{UpgradeLayer, client, tunnel::ReverseProxy};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut tcp = HttpConnector::new();
/// tcp.set_nodelay(true); // or each small write may wait 40 ms for an acknowledgement
/// // An upgrade gets a connection to itself. Plain requests reuse connections.
/// let dial = client::Dial::new(tcp).destination("http://127.0.0.1:4000".parse()?);
/// let proxy = ReverseProxy::new(client::Pool::new(dial));
/// let app = UpgradeLayer::new().any_protocol(proxy.clone()).layer(proxy);
/// # fn is_app<S: tower::Service<http::Request<hyper::body::Incoming>>>(_: S) {}
/// # is_app(app);
/// # Ok(())
/// # }
/// ```
///
/// If the backend accepts an upgrade, a [`Relay`](super::Relay#the-socket-of-a-connection) joins the two connections.
/// The relay forwards resets and uses `splice` only if it finds the sockets: accept clients on a
/// [`BoxIo`](crate::BoxIo) instead of an enum of TLS and TCP, and set [`Dial::map_io`](crate::client::Dial::map_io) if
/// the connector supports TLS.
///
/// # The client
///
/// The proxy sends all requests with clones of one HTTP client, which determines the address of the backend. Each
/// request has only a path as its URI, and the client's host in `Host`, so that a backend can compare the host with the
/// `Origin`. A [`Pool`](crate::client::Pool) and a [`Dial`](crate::client::Dial) with a
/// [destination](crate::client::Dial::destination) send the host as `Host` or as `:authority`. A `Dial` without a
/// destination fails: the proxy never connects to a host from the request. The request has no extensions.
///
/// hyper-util's client needs a URI with the backend's authority, which a layer has to set. Over HTTP/1.1 this client
/// keeps `Host`. Over HTTP/2 it sends the authority of the URI in place of the client's host:
///
/// ```
/// use http::Request;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::ServiceExt as _;
/// use tower_upgrade::{client::Body, tunnel::ReverseProxy};
///
/// let client = Client::builder(TokioExecutor::new()).build_http();
/// let client = client.map_request(|mut request: Request<Body>| {
///     let mut uri = std::mem::take(request.uri_mut()).into_parts();
///     uri.scheme = Some(http::uri::Scheme::HTTP);
///     uri.authority = Some(http::uri::Authority::from_static("127.0.0.1:4000"));
///     *request.uri_mut() = http::Uri::from_parts(uri).expect("a scheme, an authority and a path");
///     request
/// });
/// let proxy = ReverseProxy::new(client);
/// ```
///
/// # Several backends
///
/// A service around several clients selects the backend of each request, upgrade or not. tower's `Steer` selects by the
/// head of the request:
///
/// ```
/// use http::{Request, Uri};
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower::steer::Steer;
/// use tower_upgrade::{client::{Body, Dial, Pool}, tunnel::ReverseProxy};
///
/// fn proxy(api: Uri, web: Uri) -> ReverseProxy {
///     let backends = [api, web].map(|uri| Pool::new(Dial::new(HttpConnector::new()).destination(uri)));
///     let by_path = |request: &Request<Body>, _: &[_]| match request.uri().path().starts_with("/api/") {
///         true => 0,
///         false => 1,
///     };
///     ReverseProxy::new(Steer::new(backends, by_path))
/// }
/// ```
///
/// tower's `Balance` selects the less loaded of two random backends. Here the load is the number of requests without a
/// response: the session of an upgrade does not count. `Buffer` makes the balancer `Clone`, and spawns its task, which
/// needs a tokio runtime:
///
/// ```
/// use http::Uri;
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower::{
///     balance::p2c::Balance,
///     buffer::Buffer,
///     discover::ServiceList,
///     load::{CompleteOnResponse, PendingRequests},
/// };
/// use tower_upgrade::{client::{Dial, Pool}, tunnel::ReverseProxy};
///
/// fn proxy(backends: Vec<Uri>) -> ReverseProxy {
///     let backends = backends.into_iter().map(|uri| {
///         let pool = Pool::new(Dial::new(HttpConnector::new()).destination(uri));
///         PendingRequests::new(pool, CompleteOnResponse::default())
///     });
///     let balance = Balance::new(ServiceList::new(backends.collect::<Vec<_>>()));
///     ReverseProxy::new(Buffer::new(balance, 1024))
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// #     proxy(vec![Uri::from_static("http://127.0.0.1:1")]);
/// # }
/// ```
///
/// # Protocols
///
/// | registered with | passed on |
/// |---|---|
/// | [`.any_protocol(proxy)`](crate::UpgradeLayer::any_protocol) | all offered protocols; the backend chooses |
/// | `.any_protocol(proxy.protocols(["chat/2", "chat/1"]))` | the offered protocols among [these](Self::protocols); the backend chooses |
/// | [`.protocol("websocket", proxy)`](crate::UpgradeLayer::protocol) | this protocol |
/// | [`.connect(proxy)`](crate::UpgradeLayer::connect) | CONNECT, to another proxy |
///
/// The proxy never passes on `h2c`, or `HTTP` and `TLS` of any version: they carry further requests, which bypass all
/// checks of the proxy. `TLS` is HTTP within TLS (RFC 2817), and RFC 9113 §3.1 has removed `h2c`. A request that offers
/// only these goes to the inner service, and from there to the backend without `Upgrade`, if the inner service is the
/// proxy. Any other protocol opens a tunnel to the backend too: list the intended ones.
///
/// # Between versions
///
/// The client and the backend may use different versions of HTTP. The proxy translates an `Upgrade` of HTTP/1.1 to an
/// extended CONNECT of HTTP/2, and an extended CONNECT to a GET with `Upgrade`. A request to an HTTP/2 backend contains
/// one protocol, the first offered, and no body.
///
/// Only HTTP/1.1 has a WebSocket key (RFC 8441 §5). The proxy sends an HTTP/1.1 backend the client's key, or a random
/// key if the client uses HTTP/2, and checks the answer. The proxy also answers the key of an HTTP/1.1 client. A client
/// with an invalid key gets 400. If the backend does not answer the key, the client gets 502.
///
/// # Headers
///
/// The proxy removes hop-by-hop fields in both directions: the fields that `Connection` names, and `Connection`,
/// `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade` and `HTTP2-Settings` (RFC 9110 §7.6.1).
/// `Expect` is removed as well: the server answers the expectation when the proxy reads the body.
///
/// | field | upgrade | plain request |
/// |---|---|---|
/// | `Content-Length` | removed: the proxy reads the whole body before it sends the request, and rejects more than 64 KiB with 413 | kept |
/// | `TE` | removed | `trailers` is kept |
/// | `Trailer` | removed | kept |
/// | `Max-Forwards` | kept | counted down in OPTIONS and TRACE (RFC 9110 §7.6.2) |
///
/// - A request whose `Connection` names an end-to-end field is rejected with 400: `Host`, `Authorization`, `Cookie`,
///   `Origin`, `Content-Type`, `Forwarded`, and fields that begin with `Sec-` or `X-Forwarded-`. Removing such a field
///   would change the meaning of the request. A client can have any other field removed this way, even a field added by
///   a layer in front of the proxy. Add fields that the backend trusts in a layer around the proxy's client.
/// - `Proxy-Authorization` and `Proxy-Authenticate` are passed on only with a CONNECT, whose backend is another proxy.
///   A layer that checks these credentials itself has to remove them.
/// - `Via` is added to requests and responses, with the received version, such as `1.1 tower-upgrade` (RFC 9110
///   §7.6.3).
/// - `Cookie`, `Sec-WebSocket-Protocol` and `Sec-WebSocket-Extensions` are sent in one line each, because many servers
///   read only the first line.
/// - A 426 to an HTTP/1.1 client keeps its `Upgrade` field.
/// - `Forwarded`, and fields that begin with `X-Forwarded-`, are removed by default, because any client can send them:
///   see [`forwarded`](Self::forwarded) and [`x_forwarded`](Self::x_forwarded).
///
/// # Plain requests
///
/// Bodies and their trailers stream in both directions. Over HTTP/1.1, hyper sends only the trailers that `Trailer`
/// names, and to a client only if it sent `TE: trailers`. If the body of a request breaks, the request to the backend is
/// cancelled; if the body of a response breaks, the client's response breaks as well, and does not end like a complete
/// one. Dropping the future or the body of the response cancels the request to the backend.
///
/// The proxy ignores interim responses (1xx) of the backend. It answers these requests itself:
///
/// | request | status |
/// |---|---|
/// | CONNECT, with or without a protocol | 501 |
/// | OPTIONS with `Max-Forwards: 0` | 200, without a body |
/// | TRACE with `Max-Forwards: 0` | 501 |
///
/// An HTTP/1.0 request without `Host` is sent with the host of the backend.
///
/// # Stop signal
///
/// When a session receives its [stop](crate::Session::stop) signal, for example in a drain, both ends of a WebSocket
/// receive a close frame with code 1001: see [`Relay::websocket`](super::Relay::websocket). A session of any other
/// protocol ends at the first second without a byte in either direction.
///
/// # Failures
///
/// The proxy responds to the client after the backend has responded. The client receives the backend's rejection of an
/// upgrade, with its status, headers and body.
///
/// | failure | status |
/// |---|---|
/// | `Host` is missing on HTTP/1.1, repeated or invalid (RFC 9112 §3.2); over HTTP/2, it differs from `:authority` (RFC 9113 §8.3.1) | 400 |
/// | the request has a transfer coding other than `chunked` (RFC 9112 §6.1) | 501 |
/// | `Max-Forwards` of an OPTIONS or TRACE is not a number | 400 |
/// | the body of a plain request breaks before the backend responds | 400 |
/// | the backend cannot be reached, or the TLS handshake with it fails | 502 |
/// | the backend's connection breaks, or its response is not HTTP | 502 |
/// | the backend answers a plain request with 101 (RFC 9110 §15.2.2), or with a transfer coding other than `chunked` | 502 |
/// | a proxy before the backend rejects the CONNECT | 502 |
/// | the backend's upgrade response is invalid, does not answer the key, or has more than one subprotocol (RFC 6455 §4.2.2) | 502 |
/// | the backend answers an extended CONNECT with a 2xx without an upgrade | 502 |
/// | the backend uses HTTP/2 and does not allow extended CONNECT, or HTTP/2 cannot express the request | 502 |
/// | the backend takes longer than the [`response_timeout`](Self::response_timeout), or than tower's `Timeout` around the client | 504 |
/// | the backend answers an extended CONNECT with 426 | 501, or 400 if it requires another WebSocket version |
///
/// The response names the failure as plain text, without addresses. The error of the proxy's client is the source of
/// the [reason](crate::RejectionReason), and part of the `tracing` event. If the client leaves before the backend has
/// responded, the proxy cancels the request to the backend.
#[derive(Clone)]
pub struct ReverseProxy {
    backend: Arc<dyn Backend>,
    /// The protocols to pass on; `None` means all.
    protocols: Option<Arc<[Protocol]>>,
    forwarded: Forwarding,
    x_forwarded: Forwarding,
    scheme: Option<Scheme>,
    response_timeout: Duration,
    peer: Arc<dyn Fn(&Extensions) -> Option<SocketAddr> + Send + Sync>,
}

impl ReverseProxy {
    /// Creates a proxy that sends each request with a clone of `client`. The proxy wraps the clone in
    /// [`client::UpgradeLayer`](crate::client::UpgradeLayer) for upgrades.
    pub fn new<S, B>(client: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            backend: Arc::new(client),
            protocols: None,
            forwarded: Forwarding::Remove,
            x_forwarded: Forwarding::Remove,
            scheme: None,
            response_timeout: RESPONSE_TIMEOUT,
            peer: Arc::new(|extensions| extensions.get::<SocketAddr>().copied()),
        }
    }

    /// Passes on only these protocols, each `name` or `name/version`. A name without a version includes all versions.
    /// By default the proxy passes on all protocols except `h2c`, `HTTP` and `TLS`, which it never passes on. The list
    /// does not apply to CONNECT, which has no protocol.
    ///
    /// # Panics
    ///
    /// Panics if an item is not a valid protocol.
    #[must_use]
    #[track_caller]
    pub fn protocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut parsed = Vec::new();
        for protocol in protocols {
            match protocol.as_ref().parse() {
                Ok(protocol) => parsed.push(protocol),
                Err(error) => panic!("{error}"),
            }
        }
        self.protocols = Some(parsed.into());
        self
    }

    /// Sets the handling of `Forwarded` (RFC 7239). By default the field is [removed](Forwarding::Remove).
    ///
    /// The proxy writes the address of the [peer](Self::peer), without its port, the requested host, and the
    /// [scheme](Self::scheme): `for="[2001:db8::1]";host=example.com;proto=https`. With a CONNECT it writes only the
    /// address.
    ///
    /// To trust only some clients, register two proxies:
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use tower_upgrade::{ProtocolHandler as _, UpgradeLayer, tunnel::{Forwarding, ReverseProxy}};
    ///
    /// # fn example(proxy: ReverseProxy) -> UpgradeLayer {
    /// let is_balancer = |request: &http::request::Parts| {
    ///     let peer = request.extensions.get::<SocketAddr>();
    ///     peer.is_some_and(|peer| peer.ip().is_loopback())
    /// };
    /// let behind = proxy.clone().forwarded(Forwarding::Append).when(is_balancer);
    /// UpgradeLayer::new()
    ///     .any_protocol(behind)
    ///     .any_protocol(proxy.forwarded(Forwarding::Replace))
    /// # }
    /// ```
    #[must_use]
    pub fn forwarded(mut self, forwarding: Forwarding) -> Self {
        self.forwarded = forwarding;
        self
    }

    /// Sets the handling of `X-Forwarded-For`, `X-Forwarded-Host`, `X-Forwarded-Proto` and other fields that begin with
    /// `X-Forwarded-`, also if they are spelled with `_`. By default they are [removed](Forwarding::Remove).
    ///
    /// These three fields contain the same values as [`Forwarded`](Self::forwarded). If the host and the scheme that
    /// the client sent are passed on, they stay unchanged.
    #[must_use]
    pub fn x_forwarded(mut self, forwarding: Forwarding) -> Self {
        self.x_forwarded = forwarding;
        self
    }

    /// Sets the scheme that the forwarded fields contain. The default is the scheme of the request, which HTTP/2
    /// requests contain. The client chooses that scheme freely, with or without TLS.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = Some(scheme);
        self
    }

    /// Sets the function that reads the client's address from the extensions of a request, like
    /// [`SessionsBuilder::peer`](crate::SessionsBuilder::peer). The default reads a [`SocketAddr`] extension.
    #[must_use]
    pub fn peer<F>(mut self, peer: F) -> Self
    where
        F: Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static,
    {
        self.peer = Arc::new(peer);
        self
    }

    /// Sets the time limit for the head of the backend's response. The default is 60 seconds; `None` disables the limit.
    /// When the limit is exceeded, the client gets 504.
    ///
    /// | request | the limit starts |
    /// |---|---|
    /// | plain | with the call, and again with each frame of the request body that the proxy's client takes |
    /// | upgrade | with the call |
    ///
    /// The limit includes the time until the proxy's client is ready, and the time to connect. It does not cover the
    /// body of the response. For an upgrade, [`UpgradeLayer::accept_timeout`](crate::UpgradeLayer::accept_timeout),
    /// which is 30 seconds by default, applies as well.
    #[must_use]
    pub fn response_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.response_timeout = time::limit(timeout.into());
        self
    }

    fn passes(&self, member: Member<'_>) -> bool {
        let is_http = ["h2c", "http", "tls"]
            .iter()
            .any(|name| member.name.eq_ignore_ascii_case(name));
        let is_meant = |protocols: &Arc<[Protocol]>| protocols.iter().any(|own| own.takes(member));
        !is_http && self.protocols.as_ref().is_none_or(is_meant)
    }

    fn add_forwarded(&self, parts: &Parts, host: Option<&Authority>, headers: &mut HeaderMap) {
        let scheme = self.scheme.as_ref().or(parts.uri.scheme());
        let client = Client {
            address: (self.peer)(&parts.extensions).map(|peer| peer.ip().to_canonical()),
            host,
            scheme: scheme.filter(|_| host.is_some()).map(Scheme::as_str),
        };
        client.forwarded(self.forwarded, headers);
        client.x_forwarded(self.x_forwarded, headers);
    }

    /// Returns the requested host, and the fields for the backend, or a rejection. `kind` is `None` for a plain request.
    /// Only a plain request of HTTP/1.0 may have no host.
    fn head(
        &self,
        kind: Option<UpgradeKind>,
        parts: &Parts,
    ) -> Result<(Option<Authority>, HeaderMap), Rejection> {
        if !headers::is_decoded(&parts.headers) {
            // RFC 9112 §6.1.
            let message = "the request has an unknown transfer coding";
            return Err(Rejection::new(StatusCode::NOT_IMPLEMENTED, message));
        }
        negotiate::host::check(parts).map_err(bad_request)?;
        let authority = negotiate::authority(parts);
        let is_optional = kind.is_none() && parts.version < Version::HTTP_11;
        let has_none = parts.uri.authority().is_none() && !parts.headers.contains_key(header::HOST);
        if authority.is_none() && !(is_optional && has_none) {
            return Err(bad_request(NO_HOST));
        }
        let mut headers = headers::of_request(kind, &parts.headers).map_err(bad_request)?;
        let host = authority.as_ref();
        let host = host.filter(|_| kind != Some(UpgradeKind::Connect));
        self.add_forwarded(parts, host, &mut headers);
        forwarded::via(parts.version, &mut headers);
        if let Some(authority) = &authority {
            let named = HeaderValue::from_str(authority.as_str());
            let named = named.map_err(|_| bad_request(NO_HOST))?;
            headers.insert(header::HOST, named);
        }
        Ok((authority, headers))
    }
}

fn bad_request(message: &'static str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, message)
}

/// Returns the path and query of a request target, without scheme and authority.
fn path(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    path.unwrap_or_else(|| PathAndQuery::from_static("/"))
        .into()
}

impl fmt::Debug for ReverseProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseProxy")
            .field("protocols", &self.protocols)
            .field("forwarded", &self.forwarded)
            .field("x_forwarded", &self.x_forwarded)
            .field("scheme", &self.scheme)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}
