//! `Sec-WebSocket-Key` and `Sec-WebSocket-Accept` of the WebSocket handshake on HTTP/1.1 (RFC 6455 §4).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header};
use sha1::{Digest as _, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Returns the `Sec-WebSocket-Key` of a request, if it occurs once and encodes 16 bytes in base64.
pub(crate) fn key(headers: &HeaderMap) -> Option<&HeaderValue> {
    let key = one(headers, header::SEC_WEBSOCKET_KEY)?;
    let decoded = STANDARD.decode(key.as_bytes()).ok()?;
    (decoded.len() == 16).then_some(key)
}

/// Returns the `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
pub(crate) fn accept(key: &HeaderValue) -> HeaderValue {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    let accept = STANDARD.encode(hash.finalize());
    HeaderValue::try_from(accept).expect("base64 is valid in a header")
}

/// Returns a key of 16 random bytes.
#[cfg(feature = "client")]
pub(crate) fn random_key() -> HeaderValue {
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    HeaderValue::try_from(key).expect("base64 is valid in a header")
}

/// Returns `true` if a response has the `Sec-WebSocket-Accept` for this key.
#[cfg(feature = "client")]
pub(crate) fn is_answered(key: &HeaderValue, answer: &HeaderMap) -> bool {
    one(answer, header::SEC_WEBSOCKET_ACCEPT) == Some(&accept(key))
}

/// Returns the value of a header that occurs exactly once.
pub(crate) fn one(headers: &HeaderMap, name: header::HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
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
    fn accept_matches_rfc_sample() {
        let headers = headers(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]);
        let key = key(&headers).expect("a key");
        assert_eq!(accept(key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn key_is_base64_of_16_bytes_and_occurs_once() {
        for value in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25jZWU=",
            "dGhlIHNhbXBsZSBub24=",
            "dGhlIHNhbXBsZSBub2 jZQ==",
            "dGhlIHNhbXBsZSBub25-ZQ==",
        ] {
            assert_eq!(
                key(&headers(&[("sec-websocket-key", value)])),
                None,
                "{value}"
            );
        }
        let line = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(key(&headers(&[line, line])), None);
        assert_eq!(key(&headers(&[])), None);
    }
}
