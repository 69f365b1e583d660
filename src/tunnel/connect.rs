//! A forward proxy.

use super::{
    Policy,
    dial::{self, Resolve},
    failure::Failure,
    host::Host,
    relay,
};
use crate::{
    error::BoxError,
    handler::{Accept, ProtocolHandler, request::UpgradeRequest},
    message::rejection::Rejection,
    negotiate::{self, kind::UpgradeKind},
    time::{limit, within},
};
use http::StatusCode;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};
use tower_service::Service;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A handler for CONNECT (RFC 9110 §9.3.6) that connects clients to the targets they ask for, where a
/// [`Policy`] allows it: a forward proxy, over HTTP/1 and HTTP/2.
///
/// It connects before it answers, so a client that is told 200 has its tunnel, and one that does not is told
/// why:
///
/// | | status |
/// |---|---|
/// | the request is HTTP/1.1 without `Host`, has two, or one that is not valid or, over HTTP/2, not its `:authority` | 400 |
/// | the host ends in a number and is not an IPv4 address in dotted-decimal notation, as `127.1`: see [`Policy::hosts`] | 400 |
/// | the policy does not allow the port, the host or any of its addresses | 403 |
/// | the host cannot be resolved, refuses, or cannot be reached | 502 |
/// | it takes longer than the [`connect_timeout`](Self::connect_timeout) | 504 |
///
/// Addresses are told to nobody but the log, in the source of the
/// [`RejectionReason`](crate::RejectionReason).
///
/// A name is resolved once. Each address is checked, and those that the policy does not allow are not
/// connected to. The others are tried as RFC 8305 has it, "happy eyeballs": IPv6 and IPv4 take turns, each
/// next one 250 ms after the one before, or at once when one has failed; the first that connects is the
/// tunnel's. No more than 16 are tried. The connection has `TCP_NODELAY`.
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
/// then does the [`Relay`](super::Relay#the-socket-of-a-connection) of a tunnel pass resets on and `splice`.
///
/// # Who may use it
///
/// That is for a layer between this one and an outermost `UpgradeLayer`, which closes the connections of
/// HTTP/1 on which a CONNECT was refused (RFC 9931):
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
/// # exchange.expect_refused(StatusCode::FORBIDDEN);
/// # Ok(())
/// # }
/// ```
///
/// # For anything but CONNECT
///
/// Registered for a [`protocol`](crate::UpgradeLayer::protocol) it refuses with 501: such a request names no
/// target.
#[derive(Clone)]
pub struct ConnectProxy {
    policy: Arc<Policy>,
    connect_timeout: Duration,
    resolver: Arc<dyn Resolve>,
}

impl ConnectProxy {
    /// A proxy to the targets that `policy` allows. Names are resolved by the system (`getaddrinfo`).
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
            connect_timeout: CONNECT_TIMEOUT,
            resolver: Arc::new(GaiResolver::new()),
        }
    }

    /// Sets how long it may take to resolve a name and to connect, all attempts together, by default 10
    /// seconds. `None` sets no limit but the layer's
    /// [`accept_timeout`](crate::UpgradeLayer::accept_timeout), which holds in any case.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = limit(timeout.into());
        self
    }

    /// Sets what resolves names, in the way of hyper-util: a service that takes a [`Name`] and answers with
    /// addresses. Their ports are ignored. The one that is wanted most comes first.
    ///
    /// It is not asked about IPv4 and IPv6 addresses. Nor is it trusted: the policy judges what it says.
    ///
    /// The system's `getaddrinfo`, the default, occupies a thread of tokio's blocking pool until it answers,
    /// even if the request is given up before. A proxy for many clients may want one that does not.
    ///
    /// ```
    /// use std::{io, net::SocketAddr};
    /// use hyper_util::client::legacy::connect::dns::Name;
    /// use tower_upgrade::tunnel::{ConnectProxy, Policy};
    ///
    /// let hosts = tower::service_fn(|name: Name| async move {
    ///     match name.as_str() {
    ///         "database.internal" => Ok([SocketAddr::from(([10, 1, 0, 5], 0))].into_iter()),
    ///         _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    ///     }
    /// });
    /// let policy = Policy::new()
    ///     .hosts(["database.internal:5432"])
    ///     .allow_network("10.1.0.0/16".parse()?);
    /// let proxy = ConnectProxy::new(policy).resolver(hosts);
    /// # Ok::<(), tower_upgrade::BoxError>(())
    /// ```
    #[must_use]
    pub fn resolver<R>(mut self, resolver: R) -> Self
    where
        R: Service<Name, Response: Iterator<Item = SocketAddr>> + Clone + Send + Sync + 'static,
        R::Future: Send,
        R::Error: Into<BoxError>,
    {
        self.resolver = Arc::new(resolver);
        self
    }
}

impl ProtocolHandler for ConnectProxy {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let (UpgradeKind::Connect, Some(port)) = (request.kind(), request.port()) else {
            return Err(Rejection::new(
                StatusCode::NOT_IMPLEMENTED,
                "this is a proxy for CONNECT",
            ));
        };
        negotiate::host::check(request.parts())
            .map_err(|message| Rejection::new(StatusCode::BAD_REQUEST, message))?;
        let target = request.authority()?;
        let host = Host::of(&target).ok_or_else(|| {
            let message = "the host ends in a number and is not an IPv4 address";
            Rejection::new(StatusCode::BAD_REQUEST, message)
        })?;
        self.policy
            .check(&host, port)
            .map_err(|denied| Failure::denied(denied, &target))?;
        let dialing = dial::dial(host, port, &self.policy, &*self.resolver);
        let upstream = within(self.connect_timeout, dialing)
            .await
            .ok_or_else(|| Failure::timed_out(&target, self.connect_timeout))??;
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
