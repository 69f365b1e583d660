//! The upgrade request, as its handler receives it.

use crate::negotiate::kind::UpgradeKind;
use crate::{
    message::{rejection::Rejection, request_body::RequestBody},
    metrics::Labels,
    negotiate::{self, connect, protocol::Protocol},
};
use bytes::Bytes;
use http::{
    Extensions, HeaderMap, Method, Request, StatusCode, Uri, request::Parts, uri::Authority,
};
use std::fmt;

/// A request for an upgrade, before it is accepted or rejected.
///
/// [`ProtocolHandler::accept`](crate::ProtocolHandler::accept) receives it, and moves the data that the session needs
/// into the session handler. The session also gets the extensions of the request. It gets the head of the request only
/// with [`Accept::keep_request`](crate::Accept::keep_request).
pub struct UpgradeRequest {
    pub(crate) parts: Parts,
    pub(crate) kind: UpgradeKind,
    pub(crate) protocol: Option<Protocol>,
    /// Whether the handler was added with `any_protocol`, and may choose among the offered protocols.
    #[cfg_attr(not(feature = "tunnel"), allow(dead_code, reason = "proxies ask"))]
    pub(crate) is_for_any: bool,
    pub(crate) labels: Labels,
    pub(crate) body: RequestBody,
}

impl UpgradeRequest {
    /// Returns the kind of the upgrade request.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.kind
    }

    /// Returns the negotiated protocol, in the client's spelling.
    ///
    /// For a handler for [any protocol](crate::UpgradeLayer::any_protocol), this is the first offered protocol.
    /// Returns `None` for a [CONNECT](UpgradeKind::Connect), which offers no protocol.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.protocol.as_ref()
    }

    /// Returns the protocols that the client offers, in the client's order of preference.
    ///
    /// | kind | protocols |
    /// |---|---|
    /// | [`Upgrade`](UpgradeKind::Upgrade) | one or more |
    /// | [`Connect`](UpgradeKind::Connect) | none |
    /// | [`ExtendedConnect`](UpgradeKind::ExtendedConnect) | one, or none if `:protocol` is invalid |
    pub fn offered(&self) -> impl Iterator<Item = Protocol> {
        negotiate::offered(self.kind, &self.parts).map(Protocol::from)
    }

    /// Returns the host of the request, with its port if the request has one.
    ///
    /// The authority comes from the request target (`:authority` on HTTP/2), or from `Host` if the target does not
    /// contain one. An authority with user information is invalid. The layer has validated the authority of a
    /// [CONNECT](UpgradeKind::Connect), which always has a port.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with 400 if the authority is missing or invalid.
    pub fn authority(&self) -> Result<Authority, Rejection> {
        negotiate::authority(&self.parts)
            .ok_or_else(|| Rejection::new(StatusCode::BAD_REQUEST, "the request has no valid host"))
    }

    /// Returns the port of the [`authority`](Self::authority), from 1 to 65535.
    ///
    /// Returns `None` if the authority is invalid or has no port: clients omit the default port of the scheme. A
    /// CONNECT always has a port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        connect::port(&self.authority().ok()?)
    }

    /// Returns the head of the request.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Returns a mutable reference to the head of the request, for example to run axum extractors.
    #[must_use]
    pub fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// Returns the method of the request.
    ///
    /// The layer accepts any method for an `Upgrade`; a handler may be stricter.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// Returns the request target.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// Returns the headers of the request.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Returns the extensions of the request, with the values that middleware has inserted.
    ///
    /// The session gets the extensions as well: see [`Session::extensions`](crate::Session::extensions).
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.parts.extensions
    }

    /// Returns a mutable reference to the body of the request, to read it frame by frame.
    ///
    /// [`accept_timeout`](crate::UpgradeLayer::accept_timeout) limits these reads, but
    /// [`body_limit`](crate::UpgradeLayer::body_limit) and [`body_timeout`](crate::UpgradeLayer::body_timeout) do not.
    /// [`read_body`](Self::read_body) limits size and time.
    #[must_use]
    pub fn body_mut(&mut self) -> &mut RequestBody {
        &mut self.body
    }

    /// Reads the body of the request to its end, up to `limit` bytes.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with one of these statuses:
    ///
    /// | status | cause |
    /// |---|---|
    /// | 400 | the body is malformed or incomplete |
    /// | 408 | reading takes longer than [`UpgradeLayer::body_timeout`](crate::UpgradeLayer::body_timeout) |
    /// | 413 | the body is longer than `limit` |
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the data that it has read is lost.
    pub async fn read_body(&mut self, limit: usize) -> Result<Bytes, Rejection> {
        Ok(self.body.read(limit as u64).await?)
    }
}

impl UpgradeRequest {
    /// Takes the head, and leaves that of an empty request.
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
