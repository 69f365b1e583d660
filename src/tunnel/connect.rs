//! The forward proxy for CONNECT.

use super::{
    Policy, dial,
    failure::Failure,
    host::Host,
    relay,
    resolve::{AnyResolver, Resolve, System},
};
use crate::{
    handler::{Accept, ProtocolHandler, request::UpgradeRequest},
    message::rejection::Rejection,
    negotiate::{connect, host, kind::UpgradeKind},
    time::{limit, within},
};
use http::StatusCode;
use std::{fmt, sync::Arc, time::Duration};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A forward proxy: handles CONNECT (RFC 9110 §9.3.6) over HTTP/1, HTTP/2 and HTTP/3, and connects clients to the targets
/// that a [`Policy`] allows.
///
/// The proxy connects to the target before it responds. After a 200 the tunnel is open; any other status gives the
/// reason for the failure:
///
/// | reason | status |
/// |---|---|
/// | `Host` is missing on HTTP/1.1, repeated or invalid; over HTTP/2, it differs from `:authority` | 400 |
/// | the host ends in a number and is not an IPv4 address in dotted-decimal notation, for example `127.1`: see [`Policy::hosts`] | 400 |
/// | the policy does not allow the port, the host or any of its addresses | 403 |
/// | the host cannot be resolved, refuses the connection, or cannot be reached | 502 |
/// | resolving and connecting exceed the [`connect_timeout`](Self::connect_timeout) | 504 |
///
/// A response with the status 403, 502 or 504 has a `Proxy-Status` field (RFC 9209) with the type of the error, for
/// example `tower-upgrade; error=dns_error`. Addresses appear only in the log, in the source of the
/// [`RejectionReason`](crate::RejectionReason), and never in a response.
///
/// The proxy resolves a name once, checks each address, and skips the addresses that the policy denies. The remaining
/// addresses, at most 16, are tried with "happy eyeballs" (RFC 8305): IPv6 and IPv4 alternate, and each attempt starts
/// 250 ms after the previous one, or at once after a failure. The tunnel uses the first connection that succeeds, with
/// `TCP_NODELAY` set.
///
/// ```no_run
/// use axum::serve::ListenerExt as _;
/// use std::time::Duration;
/// use tower_upgrade::{Sessions, UpgradeLayer, tunnel::{ConnectProxy, Policy}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = Policy::new().ports([80, 443]);
/// let app = UpgradeLayer::new()
///     .sessions(Sessions::builder().max(1000).build())
///     .idle_timeout(Duration::from_secs(600))
///     .connect(ConnectProxy::new(policy))
///     .into_service();
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3128").await?;
/// // With `TCP_NODELAY`: otherwise each small write may wait 40 ms for an acknowledgement.
/// let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
/// axum::serve(listener, axum::Router::new().fallback_service(app)).await?;
/// # Ok(())
/// # }
/// ```
///
/// A server that accepts clients with and without TLS should serve a [`BoxIo`](crate::BoxIo) instead of an enum: only
/// then does the [`Relay`](super::Relay#the-socket-of-a-connection) of a tunnel forward resets and use `splice`.
///
/// # Authentication
///
/// Authenticate clients in a layer between this one and an outermost `UpgradeLayer`. The outermost layer closes the
/// HTTP/1 connections on which a CONNECT was rejected (RFC 9931):
///
#[cfg_attr(feature = "testing", doc = "```")]
#[cfg_attr(not(feature = "testing"), doc = "```ignore")]
/// use http::{HeaderValue, Request, Response, StatusCode, header};
/// use hyper::body::Incoming;
/// use tower::ServiceBuilder;
/// use tower_http::validate_request::ValidateRequestHeaderLayer;
/// use tower_upgrade::{ResponseBody, UpgradeLayer, testing, tunnel::{ConnectProxy, Policy}};
///
/// /// `ann`, with the password `secret`.
/// const ANN: &str = "Basic YW5uOnNlY3JldA==";
///
/// fn check(request: &mut Request<Incoming>) -> Result<(), Response<ResponseBody<String>>> {
///     if request.headers().get(header::PROXY_AUTHORIZATION).is_some_and(|sent| sent == ANN) {
///         return Ok(());
///     }
///     let mut response = Response::new(ResponseBody::default());
///     *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
///     let challenge = HeaderValue::from_static("Basic realm=\"proxy\"");
///     response.headers_mut().insert(header::PROXY_AUTHENTICATE, challenge);
///     Err(response)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_upgrade::BoxError> {
/// let app = ServiceBuilder::new()
///     .layer(UpgradeLayer::new())
///     .layer(ValidateRequestHeaderLayer::custom(check))
///     .service(UpgradeLayer::new().connect(ConnectProxy::new(Policy::new())).into_service());
///
/// let request = testing::connect("example.com:443").body(String::new())?;
/// let exchange = testing::upgrade(app.clone(), request).await?;
/// let headers = exchange.response().headers();
/// assert_eq!(headers["proxy-authenticate"], "Basic realm=\"proxy\"");
/// assert_eq!(headers["connection"], "close");
/// # let ann = testing::connect("example.com:1").header("proxy-authorization", ANN);
/// # let exchange = testing::upgrade(app, ann.body(String::new())?).await?;
/// # exchange.expect_rejected(StatusCode::FORBIDDEN);
/// # Ok(())
/// # }
/// ```
///
/// # Requests other than CONNECT
///
/// A `ConnectProxy` registered for a [`protocol`](crate::UpgradeLayer::protocol) rejects every request with 501, because
/// such a request does not name a tunnel target.
#[derive(Clone)]
pub struct ConnectProxy {
    policy: Arc<Policy>,
    connect_timeout: Duration,
    resolver: Arc<dyn AnyResolver>,
}

impl ConnectProxy {
    /// Creates a proxy to the targets that `policy` allows. The system resolves names (`getaddrinfo`).
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
            connect_timeout: CONNECT_TIMEOUT,
            resolver: Arc::new(System::new()),
        }
    }

    /// Sets the time limit for resolving the name and connecting, all attempts together. The default is 10 seconds.
    ///
    /// `None` disables this limit, but not the layer's [`accept_timeout`](crate::UpgradeLayer::accept_timeout).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = limit(timeout.into());
        self
    }

    /// Sets the resolver: a closure that takes the host as a `String`, or any other [`Resolve`].
    ///
    /// The resolver is not called for IPv4 and IPv6 addresses. The policy checks every address that the resolver
    /// returns.
    ///
    /// The default, the system's `getaddrinfo`, occupies a thread of tokio's blocking pool until it returns, even if
    /// the request is cancelled earlier. A proxy with many clients may need an asynchronous resolver.
    ///
    /// ```
    /// use std::{io, net::SocketAddr};
    /// use tower_upgrade::tunnel::{ConnectProxy, Policy};
    ///
    /// let hosts = |host: String| async move {
    ///     match host.as_str() {
    ///         "database.internal" => Ok([SocketAddr::from(([10, 1, 0, 5], 0))]),
    ///         _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    ///     }
    /// };
    /// let policy = Policy::new()
    ///     .hosts(["database.internal:5432"])
    ///     .allow_network("10.1.0.0/16".parse()?);
    /// let proxy = ConnectProxy::new(policy).resolver(hosts);
    /// # Ok::<(), tower_upgrade::BoxError>(())
    /// ```
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }
}

impl ProtocolHandler for ConnectProxy {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        if request.kind() != UpgradeKind::Connect {
            return Err(Rejection::new(
                StatusCode::NOT_IMPLEMENTED,
                "this proxy only supports CONNECT",
            ));
        }
        let bad_request = |message| Rejection::new(StatusCode::BAD_REQUEST, message);
        let (target, port) = connect::target(request.uri()).map_err(bad_request)?;
        host::check(request.parts()).map_err(bad_request)?;
        let host = Host::of(target)
            .ok_or_else(|| bad_request("the host ends in a number and is not an IPv4 address"))?;
        self.policy
            .check(&host, port)
            .map_err(|denied| Failure::denied(denied, target))?;
        let dialing = dial::dial(host, port, &self.policy, &*self.resolver);
        let upstream = within(self.connect_timeout, dialing)
            .await
            .ok_or_else(|| Failure::timed_out(target, self.connect_timeout))??;
        Ok(Accept::new(|session| relay(session, upstream)))
    }
}

impl fmt::Debug for ConnectProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectProxy")
            .field("policy", &self.policy)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}
