//! The response to the client after the backend's response.

use super::{forwarded, headers};
use crate::{
    client::{Body, Error, ErrorKind, Session},
    error::BoxError,
    handler::Accept,
    message::rejection::Rejection,
    negotiate::{
        join, kind::UpgradeKind, protocol::Protocol, token, upgrade_response, websocket_key,
    },
    tunnel::relay,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header, response::Parts};
use std::borrow::Cow;

/// Accepts the request after the backend has accepted it.
pub(super) fn upgrade(
    kind: UpgradeKind,
    version: Version,
    key: Option<&HeaderValue>,
    session: Session,
) -> Result<Accept, Rejection> {
    let head = session.response();
    let key = key.filter(|_| session.protocol().is_some_and(Protocol::is_websocket));
    if let (Some(key), UpgradeKind::Upgrade) = (key, session.kind()) {
        if !websocket_key::is_answered(key, &head.headers) {
            return Err(bad_gateway("the backend did not answer the key"));
        }
    }
    let mut headers = headers_of(Some(kind), version, head);
    if session.protocol().is_some_and(Protocol::is_websocket) {
        if !has_one_subprotocol(&headers) {
            return Err(bad_gateway(
                "the backend's `Sec-WebSocket-Protocol` is not one subprotocol",
            ));
        }
        // A response may have one line only (RFC 6455 §11.3.2).
        join::lines(&mut headers, &header::SEC_WEBSOCKET_EXTENSIONS, ", ");
    }
    match (kind, key) {
        (UpgradeKind::Upgrade, Some(key)) => {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, websocket_key::accept(key));
        }
        (UpgradeKind::Upgrade, None) => {}
        (UpgradeKind::Connect | UpgradeKind::ExtendedConnect, _) => {
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        }
    }
    let protocol = session.protocol().cloned();
    let backend = session.into_io();
    let mut accept = Accept::new(move |session| relay(session, backend));
    if let Some(protocol) = protocol {
        accept = accept.protocol(protocol);
    }
    for (name, value) in &headers {
        accept = accept.header(name.clone(), value.clone());
    }
    Ok(accept)
}

/// Rejects an upgrade after an error of the client that asked the backend.
pub(super) fn refusal(kind: UpgradeKind, version: Version, error: BoxError) -> Rejection {
    let error = Error::transport(error);
    match error.kind() {
        ErrorKind::Refused => match error.into_response() {
            Some(response) => refused(kind, version, response),
            None => bad_gateway("the backend refused"),
        },
        _ => failure(error),
    }
}

/// Rejects a request after an error of the client. The message names the failed part for the client of the proxy;
/// addresses stay in the source, for the log.
pub(super) fn failure(error: impl Into<BoxError>) -> Rejection {
    let error = Error::transport(error);
    let rejection = match error.kind() {
        ErrorKind::Timeout => timeout(),
        ErrorKind::Protocol => bad_gateway(format!(
            "the backend's upgrade response is invalid: {error}"
        )),
        ErrorKind::Unsupported => bad_gateway("the backend does not support this request"),
        ErrorKind::ProxyRefused => bad_gateway("a proxy on the way to the backend refused"),
        ErrorKind::Tls => bad_gateway("TLS with the backend failed"),
        ErrorKind::Transport => bad_gateway(format!("the backend did not answer: {error}")),
        ErrorKind::Refused => bad_gateway("the backend refused"),
        ErrorKind::Request | ErrorKind::Unreachable | ErrorKind::Connector => {
            bad_gateway("the backend cannot be reached")
        }
    };
    rejection.with_source(error)
}

pub(super) fn timeout() -> Rejection {
    Rejection::new(
        StatusCode::GATEWAY_TIMEOUT,
        "the backend did not answer in time",
    )
}

/// Converts the response to a plain request, for a client of `version`.
pub(super) fn plain(
    version: Version,
    response: Response<Body>,
) -> Result<Response<Body>, Rejection> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // The client has not asked to switch protocols (RFC 9110 §15.2.2).
        return Err(bad_gateway(
            "the backend answered 101 to a request without `Upgrade`",
        ));
    }
    if head.status.is_informational() {
        return Err(bad_gateway("the backend's response is not final"));
    }
    if !headers::is_decoded(&head.headers) {
        return Err(bad_gateway(
            "the backend's response has an unknown transfer coding",
        ));
    }
    head.headers = headers_of(None, version, &head);
    // The server sends the version of the client's connection.
    head.version = Version::default();
    Ok(Response::from_parts(head, body))
}

/// Converts a backend's response that is not an upgrade response, for a client of `version`.
fn refused<B>(kind: UpgradeKind, version: Version, response: Response<B>) -> Rejection
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    let headers = headers_of(Some(kind), version, &head);
    let mut response = Response::new(body);
    *response.status_mut() = match head.status {
        // A client that sent CONNECT would take a 2xx for an upgrade response.
        status if upgrade_response::is_upgrade(kind, status) => {
            return bad_gateway("the backend ignored the request for an upgrade");
        }
        // HTTP/2 has no 426.
        StatusCode::UPGRADE_REQUIRED if kind == UpgradeKind::ExtendedConnect => {
            match head.headers.contains_key(header::SEC_WEBSOCKET_VERSION) {
                true => StatusCode::BAD_REQUEST,
                false => StatusCode::NOT_IMPLEMENTED,
            }
        }
        status => status,
    };
    *response.headers_mut() = headers;
    Rejection::from(response).with_source("the backend refused")
}

/// Returns the fields of a backend's response to forward to a client of `version`.
fn headers_of(kind: Option<UpgradeKind>, version: Version, head: &Parts) -> HeaderMap {
    let mut headers = headers::of_response(kind, version, head.status, head.headers.clone());
    forwarded::via(head.version, &mut headers);
    headers
}

/// Returns `true` if a backend chose at most one subprotocol (RFC 6455 §4.2.2).
fn has_one_subprotocol(headers: &HeaderMap) -> bool {
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    !headers.contains_key(&name)
        || websocket_key::one(headers, name).is_some_and(|one| token::is_token(one.as_bytes()))
}

fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::new(StatusCode::BAD_GATEWAY, message)
}
