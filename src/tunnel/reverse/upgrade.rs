//! Upgrades through the proxy.

use super::{ReverseProxy, answer, bad_request, path};
use crate::{
    client::{Body, Request},
    handler::{Accept, ProtocolHandler, request::UpgradeRequest},
    message::rejection::Rejection,
    negotiate::{self, kind::UpgradeKind, protocol::Protocol, websocket_key},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body_util::Full;

/// The maximum length of a request body that the proxy passes on with an upgrade, in bytes.
const BODY_LIMIT: usize = 64 * 1024;

impl ReverseProxy {
    /// Returns the protocols to offer to the backend.
    fn offer(&self, request: &UpgradeRequest) -> Result<Vec<Protocol>, Rejection> {
        if request.kind == UpgradeKind::Connect {
            return Ok(Vec::new());
        }
        // A proxy registered for one protocol offers only that protocol.
        let chosen = request.protocol.as_ref().filter(|_| !request.is_for_any);
        let offer: Vec<_> = negotiate::offered(request.kind, &request.parts)
            .filter(|member| self.passes(*member))
            .map(Protocol::from)
            .filter(|protocol| chosen.is_none_or(|chosen| chosen == protocol))
            .collect();
        match offer.is_empty() {
            true => Err(Rejection::new(
                StatusCode::NOT_IMPLEMENTED,
                "the proxy does not pass this protocol on",
            )),
            false => Ok(offer),
        }
    }

    /// Returns the request for the backend. For a WebSocket, also returns the key that the backend must answer over
    /// HTTP/1.1.
    async fn backend_request(
        &self,
        request: &mut UpgradeRequest,
    ) -> Result<(Request<Body>, Option<HeaderValue>), Rejection> {
        let kind = request.kind;
        let offer = self.offer(request)?;
        let (authority, mut headers) = self.head(Some(kind), request.parts())?;
        // The proxy reads the whole body, and its client frames the body again.
        headers.remove(header::CONTENT_LENGTH);
        let key = if offer.iter().any(Protocol::is_websocket) {
            let key = key(kind, request.headers())?;
            headers.insert(header::SEC_WEBSOCKET_KEY, key.clone());
            Some(key)
        } else {
            None
        };
        let (method, uri, body) = match kind {
            UpgradeKind::Upgrade => {
                let body = request.read_body(BODY_LIMIT).await?;
                (request.method().clone(), path(request.uri()), body)
            }
            UpgradeKind::ExtendedConnect => (Method::GET, path(request.uri()), Bytes::new()),
            UpgradeKind::Connect => {
                let target = authority.ok_or_else(|| bad_request(super::NO_HOST))?;
                (Method::CONNECT, target.into(), Bytes::new())
            }
        };
        let mut http = http::Request::new(Body::new(Full::new(body)));
        *http.method_mut() = method;
        *http.uri_mut() = uri;
        *http.headers_mut() = headers;
        Ok((Request::from(http).offering(offer), key))
    }
}

impl ProtocolHandler for ReverseProxy {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let (kind, version) = (request.kind, request.parts.version);
        let (backend_request, key) = self.backend_request(request).await?;
        let limit = self.response_timeout;
        match self.backend.upgrade(backend_request, limit).await {
            Some(Ok(session)) => answer::upgrade(kind, version, key.as_ref(), session),
            Some(Err(error)) => Err(answer::refusal(kind, version, error)),
            None => Err(answer::timeout()),
        }
    }

    fn matches(&self, parts: &Parts) -> bool {
        let (method, version) = (&parts.method, parts.version);
        match negotiate::kind(method, version, &parts.headers, &parts.extensions) {
            Some(UpgradeKind::Connect) => true,
            Some(kind) => negotiate::offered(kind, parts).any(|member| self.passes(member)),
            None => false,
        }
    }
}

/// Returns the key for the backend: the client's key, or a random one if the client's HTTP version does not use keys.
fn key(kind: UpgradeKind, headers: &HeaderMap) -> Result<HeaderValue, Rejection> {
    match kind {
        UpgradeKind::Upgrade => websocket_key::key(headers).cloned().ok_or_else(|| {
            bad_request("Sec-WebSocket-Key must appear once, with 16 bytes in base64")
        }),
        UpgradeKind::Connect | UpgradeKind::ExtendedConnect => Ok(websocket_key::random_key()),
    }
}
