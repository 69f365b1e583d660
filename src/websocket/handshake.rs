//! The opening handshake, without its IO (RFC 6455 §4, RFC 8441 §5).

#[cfg(feature = "client")]
use crate::negotiate::websocket_key;
use crate::negotiate::{token, websocket_key::one};
use http::{HeaderMap, HeaderValue, header};

/// The WebSocket version of RFC 6455.
pub(crate) const VERSION: &str = "13";

/// Returns whether a request has the WebSocket version of RFC 6455.
pub(crate) fn is_version_13(headers: &HeaderMap) -> bool {
    one(headers, header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == VERSION)
}

/// Converts the names of subprotocols to header values, marked as sensitive.
///
/// # Panics
///
/// If a name is not a token.
#[track_caller]
pub(crate) fn subprotocol_values<I>(names: I) -> impl Iterator<Item = HeaderValue>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let values: Vec<_> = names
        .into_iter()
        .map(|name| {
            let name = name.as_ref();
            let value = HeaderValue::from_str(name).ok();
            match value.filter(|_| token::is_token(name.as_bytes())) {
                Some(mut value) => {
                    // A subprotocol may be a secret, which must not appear in a log.
                    value.set_sensitive(true);
                    value
                }
                None => panic!("{name:?} is not a subprotocol: expected a token"),
            }
        })
        .collect();
    values.into_iter()
}

/// Returns the subprotocols that a request offers, in the client's order.
///
/// Returns `None` if the header is not a list of tokens.
pub(crate) fn subprotocols(headers: &HeaderMap) -> Option<Vec<&str>> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|line| token::members(line.as_bytes()))
        .map(|name| {
            let is_token = token::is_token(name);
            std::str::from_utf8(name).ok().filter(|_| is_token)
        })
        .collect()
}

/// Checks the upgrade response of a server to which the request offered no extension.
///
/// # Errors
///
/// Returns the violated requirement of RFC 6455 §4.1.
#[cfg(feature = "client")]
pub(crate) fn check_no_extension(headers: &HeaderMap) -> Result<(), &'static str> {
    match headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        true => Err("the server chose an extension that was not offered"),
        false => Ok(()),
    }
}

/// Checks the server's upgrade response, except for extensions, and returns the subprotocol.
///
/// `key` is the key that the request sent, if any; `offered` are the subprotocols that the request offered.
///
/// # Errors
///
/// Returns the violated requirement of RFC 6455 §4.1.
#[cfg(feature = "client")]
pub(crate) fn check_answer<'a>(
    headers: &'a HeaderMap,
    key: Option<&HeaderValue>,
    offered: &[HeaderValue],
) -> Result<Option<&'a HeaderValue>, &'static str> {
    if key.is_some_and(|key| !websocket_key::is_answered(key, headers)) {
        return Err("Sec-WebSocket-Accept does not match the key");
    }
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    match one(headers, header::SEC_WEBSOCKET_PROTOCOL) {
        Some(subprotocol) if offered.contains(subprotocol) => Ok(Some(subprotocol)),
        _ => Err("the server chose a subprotocol that was not offered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn version_must_be_13_once() {
        let version = |value| headers(&[("sec-websocket-version", value)]);
        assert!(is_version_13(&version("13")));
        for value in ["", "8", "013", "13, 8", "13 "] {
            assert!(!is_version_13(&version(value)), "{value}");
        }
        let line = ("sec-websocket-version", "13");
        assert!(!is_version_13(&headers(&[line, line])));
        assert!(!is_version_13(&headers(&[])));
    }

    #[test]
    fn offered_subprotocols_must_be_tokens() {
        let name = "sec-websocket-protocol";
        let offer = headers(&[(name, "chat.v2 , ,chat.v1"), (name, "Superchat")]);
        assert_eq!(
            subprotocols(&offer),
            Some(vec!["chat.v2", "chat.v1", "Superchat"])
        );
        assert_eq!(subprotocols(&headers(&[])), Some(vec![]));
        for value in ["chat v2", "chat/2", "a, \"b\""] {
            assert_eq!(subprotocols(&headers(&[(name, value)])), None, "{value}");
        }
    }
}
