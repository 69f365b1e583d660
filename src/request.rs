//! What a handler decides on.

use crate::{Protocol, Rejection, RequestBody, negotiate::http1};
use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, Uri, request::Parts};
use std::fmt;

/// How a request asks to leave HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpgradeKind {
    /// `Upgrade` on HTTP/1.1 (RFC 9110 §7.8), answered with 101.
    Upgrade,
}

/// A request that asks for an upgrade, with the protocol that was chosen from its offer.
///
/// A handler gets it in [`ProtocolHandler::accept`](crate::ProtocolHandler::accept), before
/// anything is answered. It takes from it what the session will need: a session keeps the
/// request's extensions and nothing else of it
/// (see [`Accept::keep_request`](crate::Accept::keep_request)).
pub struct UpgradeRequest {
    pub(crate) parts: Parts,
    pub(crate) kind: UpgradeKind,
    pub(crate) protocol: Protocol,
    pub(crate) body: RequestBody,
}

impl UpgradeRequest {
    /// How the request asks to leave HTTP.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.kind
    }

    /// The protocol that was chosen, as the client wrote it.
    #[must_use]
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// All protocols that the client offers, in its order.
    pub fn offered(&self) -> impl Iterator<Item = Protocol> {
        http1::offered(&self.parts.headers).map(Protocol::from)
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
