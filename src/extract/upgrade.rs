//! Any upgrade.

use super::response;
use crate::{
    commit::Gate,
    decide,
    handler::{Accept, request::UpgradeRequest as Request},
    message::{rejection::Rejection, request_body::RequestBody},
    metrics::{self, Labels, Timer},
    negotiate::{self, kind::UpgradeKind, protocol::Protocol},
    session::guard::Admitted,
    trace,
};
use crate::{message::rejection, session::held};
use axum::{
    extract::{self, FromRequest},
    response::Response,
};
use http::StatusCode;
use std::{
    fmt,
    ops::{Deref, DerefMut},
};

/// A request that asks for an upgrade, for a route that decides on it.
///
/// It is an [`UpgradeRequest`](crate::UpgradeRequest) whose [`protocol`](crate::UpgradeRequest::protocol) is
/// not chosen yet. The session counts from here on: if there is no room for it, or the server is to stop, the
/// extractor refuses with 503.
///
/// The accept timeout of the layer does not hold for it; put tower-http's `TimeoutLayer` inside.
///
/// # Rejections
///
/// | | |
/// |---|---|
/// | the request asks for no upgrade | 400 |
/// | there is no room for another session, or the server is to stop | 503 |
/// | there is no `UpgradeLayer` around | 500 |
/// | the server does not hand over its connections | 501 |
pub struct UpgradeRequest {
    request: Request,
    admitted: Option<Admitted>,
    gate: Gate,
    timer: Timer,
}

impl UpgradeRequest {
    /// Switches to a protocol, `name` or `name/version`, and lets what was accepted run the session. If that
    /// says [which protocol](Accept::protocol) it is, that one counts.
    ///
    /// The rest of the request's body is read first, and dropped.
    ///
    /// If the client did not offer the protocol the response is a refusal: 426 with what is spoken here, and 501 over
    /// HTTP/2.
    ///
    /// # Panics
    ///
    /// If `protocol` is no protocol.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no session.
    pub async fn accept(mut self, protocol: &str, accept: Accept) -> Response {
        let spoken: Protocol = match protocol.parse() {
            Ok(protocol) => protocol,
            Err(error) => panic!("{error}"),
        };
        self.choose(&spoken);
        let decision = match self.protocol() {
            Some(_) => Ok(accept),
            None => Err(self.unsupported(&spoken)),
        };
        self.conclude(decision).await
    }

    /// Answers a CONNECT, and lets what was accepted run the session.
    ///
    /// To any other request the response is a refusal with 501.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no session.
    pub async fn connect(self, accept: Accept) -> Response {
        let decision = match self.request.kind {
            UpgradeKind::Connect => Ok(accept),
            UpgradeKind::Upgrade | UpgradeKind::ExtendedConnect => {
                Err(rejection::not_implemented("only CONNECT is supported here"))
            }
        };
        self.conclude(decision).await
    }

    /// Refuses. A [`Rejection`] can be returned as it is, too; then an HTTP/1 connection whose request was not
    /// read to its end is closed.
    pub async fn reject(self, rejection: Rejection) -> Response {
        self.conclude(Err(rejection)).await
    }

    /// Chooses a protocol, if it is offered.
    fn choose(&mut self, spoken: &Protocol) {
        let Request { kind, parts, .. } = &self.request;
        let member = negotiate::offered(*kind, parts).find(|member| spoken.takes(*member));
        let protocol = member.map(|member| spoken.as_offered(member));
        self.request.labels = Labels::new(*kind, Some(spoken));
        self.request.protocol = protocol;
    }

    pub(super) fn unsupported(&self, spoken: &Protocol) -> Rejection {
        match self.request.kind {
            UpgradeKind::Upgrade => {
                rejection::upgrade_required(&rejection::supported(&[spoken.as_str()]))
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

    /// Reads the rest of the body, and drops it.
    #[cfg(feature = "websocket")]
    pub(super) async fn discard_body(&mut self) -> Result<(), Rejection> {
        let limit = self.gate.settings().body_limit();
        let discarded = self.request.body.discard(limit).await;
        // What is left of it must not be taken for the next request.
        discarded.map_err(|unread| rejection::close(unread.into(), self.request.parts.version))
    }

    /// Switches to the only protocol that is spoken here, once the body was read.
    #[cfg(feature = "websocket")]
    pub(super) fn switch(mut self, protocol: &Protocol, accept: Accept) -> Response {
        self.choose(protocol);
        metrics::decided(self.timer, &self.request.labels);
        let switch = decide::switch(accept, &mut self.request, self.admitted, &self.gate);
        response(switch.into_response())
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

/// How a request asks to leave HTTP, if it does.
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
                "the request asks for no upgrade",
            ));
        };
        let (mut parts, body) = request.into_parts();
        let Some(gate) = Gate::find(&parts.extensions).cloned() else {
            return Err(match held::is_available(&parts.extensions) {
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
        let admitted = decide::admit(gate.settings(), &parts)?;
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
