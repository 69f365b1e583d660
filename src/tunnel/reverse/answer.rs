//! What a client gets of a backend's answer.

use super::{headers, is_websocket};
use crate::{
    Accept, BoxError, Rejection, UpgradeKind,
    client::{Error, ErrorKind, Session},
    negotiate::{switch, token, websocket_key},
    tunnel::relay,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use std::borrow::Cow;

/// The backend has switched: so do we.
pub(super) fn switch(
    kind: UpgradeKind,
    version: Version,
    key: Option<&HeaderValue>,
    session: Session,
) -> Result<Accept, Rejection> {
    let head = session.response();
    let key = key.filter(|_| session.protocol().is_some_and(is_websocket));
    if let (Some(key), UpgradeKind::Upgrade) = (key, session.kind()) {
        if !websocket_key::is_answered(key, &head.headers) {
            return Err(bad_gateway("the backend did not answer the key"));
        }
    }
    if session.protocol().is_some_and(is_websocket) && !chooses_at_most_one(&head.headers) {
        return Err(bad_gateway("the backend chose more than one subprotocol"));
    }
    let mut headers = headers::of_response(kind, version, head.status, head.headers.clone());
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

/// Whether a response has at most one subprotocol (RFC 6455 §11.3.4).
fn chooses_at_most_one(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let subprotocols = lines.flat_map(|line| token::members(line.as_bytes()));
    subprotocols.take(2).count() < 2
}

/// The backend has not switched.
pub(super) fn refusal(kind: UpgradeKind, version: Version, error: BoxError) -> Rejection {
    const LATE: &str = "the backend did not answer in time";
    if error.is::<tower::timeout::error::Elapsed>() {
        return Rejection::new(StatusCode::GATEWAY_TIMEOUT, LATE).with_source(error);
    }
    let error = Error::transport(error);
    let rejection = match error.kind() {
        ErrorKind::Refused => match error.into_response() {
            Some(response) => return refused(kind, version, response),
            None => return bad_gateway("the backend refused"),
        },
        ErrorKind::Timeout => Rejection::new(StatusCode::GATEWAY_TIMEOUT, LATE),
        ErrorKind::Protocol => bad_gateway(format!(
            "the backend's upgrade response is invalid: {error}"
        )),
        ErrorKind::Unsupported => bad_gateway("the backend does not support this upgrade"),
        ErrorKind::Proxy => bad_gateway("a proxy refused the connection to the backend"),
        ErrorKind::Tls => bad_gateway("TLS with the backend failed"),
        ErrorKind::Connect => bad_gateway("the backend cannot be reached"),
        ErrorKind::Request => bad_gateway("the request cannot be sent to the backend"),
        ErrorKind::Transport => {
            bad_gateway("the backend closed the connection, or sent something other than HTTP")
        }
    };
    rejection.with_source(error)
}

/// What the backend says in place of a switch, for a client of this version.
fn refused<B>(kind: UpgradeKind, version: Version, response: Response<B>) -> Rejection
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    let mut response = Response::new(body);
    *response.status_mut() = match head.status {
        // Whoever asked with CONNECT would take it for a switch.
        status if switch::switches(kind, status) => {
            return bad_gateway("the backend ignored the request for an upgrade");
        }
        // There is none on HTTP/2.
        StatusCode::UPGRADE_REQUIRED if kind == UpgradeKind::ExtendedConnect => {
            match head.headers.contains_key(header::SEC_WEBSOCKET_VERSION) {
                true => StatusCode::BAD_REQUEST,
                false => StatusCode::NOT_IMPLEMENTED,
            }
        }
        status => status,
    };
    *response.headers_mut() = headers::of_response(kind, version, head.status, head.headers);
    Rejection::from(response).with_source("the backend refused")
}

fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::new(StatusCode::BAD_GATEWAY, message)
}
