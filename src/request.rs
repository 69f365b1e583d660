//! What a handler decides on.

use crate::{
    Protocol, Rejection, RequestBody,
    metrics::Labels,
    negotiate::{self, connect},
};
use bytes::Bytes;
use http::{
    Extensions, HeaderMap, Method, Request, StatusCode, Uri, request::Parts, uri::Authority,
};
use std::fmt;

/// How a request asks to leave HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpgradeKind {
    /// `Upgrade` on HTTP/1.1 (RFC 9110 §7.8), answered with 101.
    Upgrade,
    /// CONNECT on any version of HTTP (RFC 9110 §9.3.6), answered with 200. It names a host and a port,
    /// and no protocol.
    Connect,
    /// Extended CONNECT on HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220), answered with 200. Its `:protocol`
    /// names one protocol.
    ExtendedConnect,
}

impl UpgradeKind {
    /// `upgrade`, `connect` or `extended-connect`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Connect => "connect",
            Self::ExtendedConnect => "extended-connect",
        }
    }
}

impl fmt::Display for UpgradeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request that asks for an upgrade.
///
/// A handler gets it in [`ProtocolHandler::accept`](crate::ProtocolHandler::accept), before
/// anything is answered. It takes from it what the session will need: a session keeps the
/// request's extensions and nothing else of it
/// (see [`Accept::keep_request`](crate::Accept::keep_request)).
pub struct UpgradeRequest {
    pub(crate) parts: Parts,
    pub(crate) kind: UpgradeKind,
    pub(crate) protocol: Option<Protocol>,
    /// Whether the handler is one for any protocol, and the choice is its own.
    #[cfg_attr(not(feature = "tunnel"), allow(dead_code, reason = "proxies ask"))]
    pub(crate) is_for_any: bool,
    pub(crate) labels: Labels,
    pub(crate) body: RequestBody,
}

impl UpgradeRequest {
    /// How the request asks to leave HTTP.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.kind
    }

    /// The protocol that was chosen, as the client wrote it: with a handler for
    /// [any protocol](crate::UpgradeLayer::any_protocol) the first that is offered. A
    /// [CONNECT](UpgradeKind::Connect) names none.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.protocol.as_ref()
    }

    /// All protocols that the client offers, in its order: any number with an
    /// [`Upgrade`](UpgradeKind::Upgrade), one with an [extended CONNECT](UpgradeKind::ExtendedConnect),
    /// none with a [CONNECT](UpgradeKind::Connect).
    pub fn offered(&self) -> impl Iterator<Item = Protocol> {
        negotiate::offered(self.kind, &self.parts).map(Protocol::from)
    }

    /// The host, and the port if there is one, that the request is for: of the request target
    /// (`:authority`), or else of `Host`.
    ///
    /// It has no user. That of a [CONNECT](UpgradeKind::Connect) has a port, and was checked before.
    ///
    /// # Errors
    ///
    /// 400 if the request has none that is valid. A CONNECT always has one.
    pub fn authority(&self) -> Result<Authority, Rejection> {
        negotiate::authority(&self.parts)
            .ok_or_else(|| Rejection::new(StatusCode::BAD_REQUEST, "the request has no valid host"))
    }

    /// The port of the [`authority`](Self::authority), from 1 to 65535. A CONNECT always has one; with
    /// other requests it is left out where it is the default of the scheme.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        connect::port(&self.authority().ok()?)
    }

    /// The head of the request.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The head of the request, mutably: for example to run axum extractors.
    #[must_use]
    pub fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// The method. The layer accepts any; a handler may be stricter.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The request target.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// What the layers around left for the handler. The session gets it too.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.parts.extensions
    }

    /// The body, to read it piece by piece.
    ///
    /// How much is read here, and how long that takes, is up to the handler: neither
    /// [`body_limit`](crate::UpgradeLayer::body_limit) nor [`body_timeout`](crate::UpgradeLayer::body_timeout) holds,
    /// but [`accept_timeout`](crate::UpgradeLayer::accept_timeout) does. [`read_body`](Self::read_body) has both.
    #[must_use]
    pub fn body_mut(&mut self) -> &mut RequestBody {
        &mut self.body
    }

    /// Reads the whole body, which may be up to `limit` bytes long.
    ///
    /// # Errors
    ///
    /// A longer body is rejected with 413, one that takes longer than
    /// [`UpgradeLayer::body_timeout`](crate::UpgradeLayer::body_timeout) with 408, one that breaks
    /// off or is malformed with 400.
    ///
    /// # Cancel safety
    ///
    /// What has been read is lost if the future is dropped.
    pub async fn read_body(&mut self, limit: usize) -> Result<Bytes, Rejection> {
        Ok(self.body.read(limit as u64).await?)
    }
}

impl UpgradeRequest {
    /// Leaves the head of an empty request.
    pub(crate) fn take_parts(&mut self) -> Parts {
        let (nothing, ()) = Request::new(()).into_parts();
        std::mem::replace(&mut self.parts, nothing)
    }
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRequest")
            .field("kind", &self.kind)
            .field("protocol", &self.protocol)
            .field("method", &self.parts.method)
            .field("uri", &self.parts.uri)
            .field("headers", &self.parts.headers)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}
