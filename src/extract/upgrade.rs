//! The extractor for upgrades to any protocol.

use super::response;
use crate::{
    commit::Gate,
    decide,
    handler::{Accept, request::UpgradeRequest as Request},
    message::{
        rejection::{self, Rejection},
        request_body::RequestBody,
    },
    metrics::{self, Labels, Timer},
    negotiate::{self, kind::UpgradeKind, protocol::Protocol},
    session::{guard::Admitted, pending_upgrade::Handover},
    trace,
};
use axum::{
    extract::{self, FromRequest},
    response::Response,
};
use http::StatusCode;
use std::{
    fmt,
    ops::{Deref, DerefMut},
};

/// Extracts an upgrade request, which the route accepts or rejects.
///
/// The extractor dereferences to an [`UpgradeRequest`](crate::UpgradeRequest), whose
/// [`protocol`](crate::UpgradeRequest::protocol) is `None` until the route accepts one. The request counts as a session
/// as soon as it is extracted: if the session limit is reached or the server is shutting down, the extractor rejects
/// the request with 503.
///
/// The layer's [`accept_timeout`](crate::UpgradeLayer::accept_timeout) does not apply to the route. To limit its time,
/// put tower-http's `TimeoutLayer` inside the `UpgradeLayer`.
///
/// # Rejections
///
/// | cause | status |
/// |---|---|
/// | the request does not ask for an upgrade | 400 |
/// | the session limit is reached, or the server is shutting down | 503 |
/// | the router has no `UpgradeLayer` | 500 |
/// | the server does not hand over the connection | 501 |
pub struct UpgradeRequest {
    request: Request,
    admitted: Option<Admitted>,
    gate: Gate,
    timer: Timer,
}

impl UpgradeRequest {
    /// Accepts the upgrade to `protocol`, given as `name` or `name/version`, and runs the session handler in `accept`.
    ///
    /// If `accept` [sets a protocol](Accept::protocol), the upgrade response uses that protocol.
    ///
    /// The rest of the request body is read and discarded first.
    ///
    /// If the client did not offer `protocol`, the request is rejected: an `Upgrade` with 426 and the supported
    /// protocol, an extended CONNECT or a CONNECT with 501.
    ///
    /// # Panics
    ///
    /// If `protocol` is not `name` or `name/version` of tokens.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the session does not start.
    pub async fn accept(mut self, protocol: &str, accept: Accept) -> Response {
        let supported: Protocol = match protocol.parse() {
            Ok(protocol) => protocol,
            Err(error) => panic!("{error}"),
        };
        self.choose(&supported);
        let decision = match self.protocol() {
            Some(_) => Ok(accept),
            None => Err(self.unsupported(&supported)),
        };
        self.conclude(decision).await
    }

    /// Accepts a CONNECT request and runs the session handler in `accept`.
    ///
    /// Any other request is rejected with 501.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the session does not start.
    pub async fn connect(self, accept: Accept) -> Response {
        let decision = match self.request.kind {
            UpgradeKind::Connect => Ok(accept),
            UpgradeKind::Upgrade | UpgradeKind::ExtendedConnect => {
                Err(rejection::not_implemented("only CONNECT is supported here"))
            }
        };
        self.conclude(decision).await
    }

    /// Rejects the upgrade and returns the response.
    ///
    /// A route can also return the [`Rejection`] directly. In this case the server closes an HTTP/1 connection whose
    /// request body was not read to its end.
    pub async fn reject(self, rejection: Rejection) -> Response {
        self.conclude(Err(rejection)).await
    }

    /// Chooses the protocol if the client offers it.
    fn choose(&mut self, supported: &Protocol) {
        let Request { kind, parts, .. } = &self.request;
        let member = negotiate::offered(*kind, parts).find(|member| supported.takes(*member));
        let protocol = member.map(|member| supported.as_offered(member));
        self.request.labels = Labels::new(*kind, Some(supported));
        self.request.protocol = protocol;
    }

    pub(super) fn unsupported(&self, supported: &Protocol) -> Rejection {
        match self.request.kind {
            UpgradeKind::Upgrade => {
                rejection::upgrade_required(&rejection::supported(&[supported.as_str()]))
            }
            UpgradeKind::Connect | UpgradeKind::ExtendedConnect => {
                rejection::not_implemented("this protocol is not supported")
            }
        }
    }

    async fn conclude(self, decision: Result<Accept, Rejection>) -> Response {
        let Self {
            mut request,
            admitted,
            gate,
            timer,
        } = self;
        metrics::decided(timer, &request.labels);
        let decided = decide::conclude(decision, &mut request, admitted, &gate).await;
        response(decided.into_response())
    }

    /// Reads and discards the rest of the request body.
    #[cfg(feature = "websocket")]
    pub(super) async fn discard_body(&mut self) -> Result<(), Rejection> {
        let limit = self.gate.settings().body_limit();
        let discarded = self.request.body.discard(limit).await;
        // Close the connection: the unread rest of the body must not be parsed as the next request.
        discarded.map_err(|unread| rejection::close(unread.into(), self.request.parts.version))
    }

    /// Accepts the upgrade to the only protocol of this extractor. The request body has been read.
    #[cfg(feature = "websocket")]
    pub(super) fn accept_as(mut self, protocol: &Protocol, accept: Accept) -> Response {
        self.choose(protocol);
        metrics::decided(self.timer, &self.request.labels);
        let decided =
            decide::upgrade_response(accept, &mut self.request, self.admitted, &self.gate);
        response(decided.into_response())
    }
}

impl Deref for UpgradeRequest {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl DerefMut for UpgradeRequest {
    fn deref_mut(&mut self) -> &mut Request {
        &mut self.request
    }
}

/// Returns how a request asks to switch protocols, or `None` if it does not.
pub(super) fn kind(request: &extract::Request) -> Option<UpgradeKind> {
    negotiate::kind(
        request.method(),
        request.version(),
        request.headers(),
        request.extensions(),
    )
}

impl<S: Send + Sync> FromRequest<S> for UpgradeRequest {
    type Rejection = Rejection;

    async fn from_request(request: extract::Request, _state: &S) -> Result<Self, Rejection> {
        let Some(kind) = kind(&request) else {
            return Err(Rejection::new(
                StatusCode::BAD_REQUEST,
                "the request does not ask for an upgrade",
            ));
        };
        let (mut parts, body) = request.into_parts();
        let Some(gate) = Gate::find(&parts.extensions).cloned() else {
            return Err(match Handover::is_in(&parts.extensions) {
                true => {
                    trace::no_layer();
                    Rejection::from(StatusCode::INTERNAL_SERVER_ERROR)
                        .with_source("no `UpgradeLayer` is around the route")
                }
                false => not_handed_over(),
            });
        };
        if !gate.hold(&mut parts) {
            return Err(not_handed_over());
        }
        let timer = Timer::start();
        let admitted = decide::admit(&gate, &parts)?;
        let request = Request {
            parts,
            kind,
            protocol: None,
            is_for_any: true,
            labels: Labels::new(kind, None),
            body: RequestBody::new(body, gate.settings().body_timeout()),
        };
        Ok(Self {
            request,
            admitted,
            gate,
            timer,
        })
    }
}

fn not_handed_over() -> Rejection {
    rejection::not_implemented("the server does not hand over this connection")
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}
