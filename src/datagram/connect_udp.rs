//! The proxy for UDP.

use super::{
    relay,
    socket::TargetSocket,
    template::{self, InvalidTemplate, Template},
};
use crate::{
    handler::{Accept, ProtocolHandler, request::UpgradeRequest},
    message::rejection::Rejection,
    negotiate::{host, kind::UpgradeKind},
    time::{limit, within},
    tunnel::{
        Policy, Resolve, dial,
        failure::Failure,
        happy_eyeballs::MAX_ATTEMPTS,
        resolve::{AnyResolver, System},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority};
use std::{fmt, sync::Arc, time::Duration};

/// The protocol in `Upgrade` and `:protocol`.
pub(super) const PROTOCOL: &str = "connect-udp";

/// Announces that the stream consists of capsules (RFC 9297 §3.4).
pub(super) const CAPSULE_PROTOCOL: (&str, HeaderValue) =
    ("capsule-protocol", HeaderValue::from_static("?1"));

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// A proxy for UDP: handles the protocol `connect-udp` (RFC 9298) over HTTP/1.1, HTTP/2 and HTTP/3, and relays UDP payloads
/// between clients and the targets that a [`Policy`] allows.
///
/// HTTP/3 clients of web sites use such a proxy, for example, because QUIC runs over UDP.
///
/// The proxy resolves the target and opens a UDP socket before it responds. After the upgrade response, the session
/// relays datagrams; any other status gives the reason for the failure:
///
/// | reason | status |
/// |---|---|
/// | over HTTP/1.1: the method is not GET | 400 |
/// | `Host` is missing on HTTP/1.1, repeated or invalid; over HTTP/2, it differs from `:authority` | 400 |
/// | the request has `Content-Length`, `Content-Type` or `Transfer-Encoding` (RFC 9297 §3.2) | 400 |
/// | the path does not match the [`template`](Self::template), or contains no valid host and port | 400 |
/// | the host ends in a number and is not an IPv4 address in dotted-decimal notation, for example `127.1`: see [`Policy::hosts`] | 400 |
/// | the policy does not allow the port, the host or any of its addresses | 403 |
/// | the request asks for another protocol than `connect-udp` | 501 |
/// | the host cannot be resolved, or this machine has no route to its addresses | 502 |
/// | resolving exceeds the [`connect_timeout`](Self::connect_timeout) | 504 |
///
/// A response with the status 403, 502 or 504 has a `Proxy-Status` field (RFC 9209) with the type of the error, for
/// example `tower-upgrade; error=dns_error`. Addresses appear only in the log, in the source of the
/// [`RejectionReason`](crate::RejectionReason), and never in a response.
///
/// ```no_run
/// use axum::serve::ListenerExt as _;
/// use tower_upgrade::{Sessions, UpgradeLayer, datagram::ConnectUdp, tunnel::{ConnectProxy, Policy}};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = UpgradeLayer::new()
///     .sessions(Sessions::builder().max(1000).build())
///     .connect(ConnectProxy::new(Policy::new()))
///     .protocol("connect-udp", ConnectUdp::new(Policy::new()))
///     .into_service();
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3128").await?;
/// let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
/// axum::serve(listener, axum::Router::new().fallback_service(app)).await?;
/// # Ok(())
/// # }
/// ```
///
/// Over HTTP/2 the server must [enable extended CONNECT](crate#requirements-on-the-server).
/// [`ConnectProxy`](crate::tunnel::ConnectProxy#authentication) shows how to authenticate clients.
///
/// # Addresses
///
/// The proxy resolves a name once, checks each address, and skips the addresses that the policy denies. UDP has no
/// handshake that could show whether an address answers. The proxy therefore uses the first allowed address to which
/// this machine has a route, in the order of the resolver, among at most 16: on a machine without IPv6, a name with both kinds of
/// addresses is reached over IPv4.
///
/// The socket is connected: the client receives datagrams only from the address and port of the target, and sends only
/// to them. It cannot choose the source address or port. Nothing is sent to the target before the upgrade response.
/// On Linux, one system call sends or receives several datagrams of the same length (GSO, GRO).
///
/// # Datagrams
///
/// Datagrams of UDP payloads have Context ID 0; the session drops others. A payload of the client over 65,527 bytes, or
/// a violation of the capsule protocol, aborts the stream: see [`HttpDatagrams`](super::HttpDatagrams#errors).
///
/// | event | result |
/// |---|---|
/// | the client reads too slowly | datagrams of the target wait in a queue of 64 KiB, which drops its oldest datagrams |
/// | the socket accepts no datagram | the session stops reading from the client |
/// | the system refuses a datagram, for example because it exceeds the MTU of the path | the datagram is dropped, not fragmented |
/// | the target is unreachable, as an ICMP message reports | the session fails with an `io::Error` such as [`ConnectionRefused`](std::io::ErrorKind::ConnectionRefused) |
/// | the client ends its stream | the session ends |
///
/// # Limits
///
/// A session without a datagram for the [`idle_timeout`](Self::idle_timeout) ends. Its socket has a port of this machine
/// until then. [`SessionsBuilder::max`](crate::SessionsBuilder::max) limits the sockets, and
/// [`max_per_key`](crate::SessionsBuilder::max_per_key) those of one client. Both limit the sessions that are open at
/// once. A client that scans a network opens one session after the other: to limit how fast, put a rate limit of
/// requests in front of the layer.
#[derive(Clone)]
pub struct ConnectUdp {
    policy: Arc<Policy>,
    template: Arc<Template>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    resolver: Arc<dyn AnyResolver>,
}

impl ConnectUdp {
    /// Creates a proxy to the targets that `policy` allows. The system resolves names (`getaddrinfo`).
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
            template: Arc::new(Template::well_known()),
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            resolver: Arc::new(System::new()),
        }
    }

    /// Sets the path template of requests (RFC 9298 §2): a path, and perhaps a query, with the variables
    /// `{target_host}` and `{target_port}`, each as a whole path segment or query value.
    ///
    /// The default is `/.well-known/masque/udp/{target_host}/{target_port}/`. Requests with another path are rejected
    /// with 400. To serve several templates on one layer, restrict each handler to its paths with
    /// [`when`](ProtocolHandler::when).
    ///
    /// ```
    /// use tower_upgrade::{datagram::ConnectUdp, tunnel::Policy};
    ///
    /// let proxy = ConnectUdp::new(Policy::new()).template("/masque?h={target_host}&p={target_port}");
    /// ```
    ///
    /// # Panics
    ///
    /// If `template` is invalid. See [`try_template`](Self::try_template).
    #[must_use]
    #[track_caller]
    pub fn template(self, template: &str) -> Self {
        match self.try_template(template) {
            Ok(proxy) => proxy,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets the path template like [`template`](Self::template), but returns an error instead of panicking.
    ///
    /// # Errors
    ///
    /// Returns an error if `template` is invalid.
    pub fn try_template(mut self, template: &str) -> Result<Self, InvalidTemplate> {
        self.template = Arc::new(template.parse()?);
        Ok(self)
    }

    /// Sets the time limit for resolving the name. The default is 10 seconds.
    ///
    /// `None` disables this limit, but not the layer's [`accept_timeout`](crate::UpgradeLayer::accept_timeout).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = limit(timeout.into());
        self
    }

    /// Sets the time after which a session ends if no datagram moves in either direction. The default is 2 minutes, the
    /// minimum of RFC 4787 §4.3, which RFC 9298 §3.1 refers to.
    ///
    /// Datagrams that wait for a client which does not read do not count. The close reason is
    /// [`Idle`](crate::CloseReason::Idle). `None` disables this limit, but not the layer's
    /// [`idle_timeout`](crate::UpgradeLayer::idle_timeout), which also applies if it is shorter.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit(timeout.into());
        self
    }

    /// Sets the resolver, as [`ConnectProxy::resolver`](crate::tunnel::ConnectProxy::resolver) does.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Opens a socket that is connected to an allowed address of the target.
    async fn open(&self, target: &Authority) -> Result<TargetSocket, Rejection> {
        let host = template::host(target).map_err(bad_request)?;
        let port = target.port_u16().unwrap_or_default();
        self.policy
            .check(&host, port)
            .map_err(|denied| Failure::denied(denied, target))?;
        let allowed = dial::allowed(host, port, &self.policy, &*self.resolver);
        let allowed = within(self.connect_timeout, allowed)
            .await
            .ok_or_else(|| Failure::resolving_timed_out(target, self.connect_timeout))??;
        let mut failed = None;
        for address in allowed.into_iter().take(MAX_ATTEMPTS) {
            match TargetSocket::connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = Some(Failure::unreachable(address, error)),
            }
        }
        // Does not panic: `allowed` returns at least one address, and the loop tries it.
        Err(failed.expect("at least one address").into())
    }
}

fn bad_request(message: &'static str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, message)
}

/// Returns `true` if a head has a field that a message with capsules must not have (RFC 9297 §3.2).
pub(super) fn has_content(headers: &HeaderMap) -> bool {
    const CONTENT: [HeaderName; 3] = [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::TRANSFER_ENCODING,
    ];
    CONTENT.iter().any(|name| headers.contains_key(name))
}

impl ProtocolHandler for ConnectUdp {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        if request.protocol().is_none_or(|own| *own != *PROTOCOL) {
            return Err(Rejection::new(
                StatusCode::NOT_IMPLEMENTED,
                "this proxy only supports connect-udp",
            ));
        }
        if request.kind() == UpgradeKind::Upgrade && request.method() != Method::GET {
            return Err(bad_request("the method of the request must be GET"));
        }
        host::check(request.parts()).map_err(bad_request)?;
        if has_content(request.headers()) {
            return Err(bad_request("the request must not have content"));
        }
        let path = request.uri().path_and_query();
        let path = path.map_or("", |path| path.as_str());
        let target = self.template.target(path).map_err(bad_request)?;
        let socket = self.open(&target).await?;
        let idle_timeout = self.idle_timeout;
        let (name, value) = CAPSULE_PROTOCOL;
        Ok(
            Accept::new(move |session| relay::relay(session, socket, idle_timeout))
                .header(name, value),
        )
    }
}

impl fmt::Debug for ConnectUdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectUdp")
            .field("policy", &self.policy)
            .field("template", &self.template)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}
