//! CONNECT (RFC 9110 §9.3.6).

use http::{HeaderMap, Uri, header, uri::Authority};
use std::net::Ipv6Addr;

/// Returns the target of a CONNECT, which is exactly `host:port`, and its port.
///
/// # Errors
///
/// Returns a message if the target is invalid.
pub(crate) fn target(uri: &Uri) -> Result<(&Authority, u16), &'static str> {
    let authority = match uri.authority() {
        // A URI with an authority and without a scheme has neither path nor query.
        Some(authority) if uri.scheme().is_none() => authority,
        _ => return Err("the target of a CONNECT must be `host:port`"),
    };
    if !is_host_and_port(authority) {
        return Err("the target of a CONNECT is not a valid host and port");
    }
    match port(authority) {
        Some(port) => Ok((authority, port)),
        None => Err("the target of a CONNECT must have a port from 1 to 65535"),
    }
}

/// Returns `true` if an authority consists of a host and an optional port in digits (RFC 3986 §3.2.3), without user
/// information.
pub(crate) fn is_host_and_port(authority: &Authority) -> bool {
    // `Authority` is more lenient: it parses the host `[::1]` from `[::1]x:80`, the host `host` from `ann@host`, and
    // the port 80 from `host:+80`.
    let host = authority.host();
    let rest = authority.as_str().strip_prefix(host);
    let is_port = |rest: &str| match rest.strip_prefix(':') {
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()),
        None => rest.is_empty(),
    };
    rest.is_some_and(is_port) && is_host(host)
}

/// Returns the port of an authority, if it is from 1 to 65535.
pub(crate) fn port(authority: &Authority) -> Option<u16> {
    authority.port_u16().filter(|port| *port > 0)
}

/// Returns `true` if `host` is an IPv6 address in brackets, an IPv4 address or a name (RFC 3986 §3.2.2).
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(is_name),
    }
}

fn is_name(byte: u8) -> bool {
    // `&'()*+,-.` are consecutive.
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'$' | b'&'..=b'.' | b';' | b'=' | b'_' | b'~')
}

/// Returns `true` if a head announces content. On HTTP/1, the content of a CONNECT is indistinguishable from bytes for
/// the tunnel (RFC 9110 §9.3.6).
pub(crate) fn has_content(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| !is_zero(length.as_bytes()))
}

/// Returns `true` if a `Content-Length` is zero, in any number of digits. hyper drops repeated values that are equal to
/// the first.
fn is_zero(length: &[u8]) -> bool {
    !length.is_empty() && length.iter().all(|digit| *digit == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_host_and_port() {
        for (text, port) in [
            ("example.com:443", 443),
            ("EXAMPLE.com:1", 1),
            ("127.0.0.1:65535", 65535),
            ("[::1]:80", 80),
            ("[::ffff:127.0.0.1]:80", 80),
            ("a_b-c.d~e:080", 80),
        ] {
            let uri: Uri = text.parse().expect(text);
            let (authority, found) = target(&uri).expect(text);
            assert_eq!((authority.as_str(), found), (text, port));
        }
    }

    #[test]
    fn invalid_target_error_names_invalid_part() {
        for (text, wrong) in [
            ("/", "`host:port`"),
            ("/example.com:443", "`host:port`"),
            ("*", "`host:port`"),
            ("http://example.com:443/", "`host:port`"),
            ("ann@example.com:443", "host"),
            ("ann:secret@example.com:443", "host"),
            ("example.com@example.com:443", "host"),
            (":443", "host"),
            ("[::1]x:443", "host"),
            ("a[::1]:443", "host"),
            ("[localhost]:443", "host"),
            ("[]:443", "host"),
            ("[fe80::1%25eth0]:443", "host"),
            ("example.com", "port"),
            ("example.com:", "port"),
            ("example.com:0", "port"),
            ("example.com:65536", "port"),
            ("example.com:99999999999999999999", "port"),
            ("example.com:+80", "port"),
            ("example.com:http", "port"),
            ("[::1]", "port"),
        ] {
            let uri: Uri = text.parse().expect(text);
            let error = target(&uri).expect_err(text);
            assert!(error.contains(wrong), "{text}: {error}");
        }
        // `Uri` rejects these.
        for text in ["a{b}:443", "a\"b:443", "a%41:443", ""] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }

    #[test]
    fn length_and_transfer_encoding_announce_content() {
        let headers = |name, value: &'static str| {
            HeaderMap::from_iter([(name, http::HeaderValue::from_static(value))])
        };
        assert!(!has_content(&HeaderMap::new()));
        assert!(!has_content(&headers(header::CONTENT_LENGTH, "0")));
        assert!(!has_content(&headers(header::CONTENT_LENGTH, "00")));
        for length in ["1", "01", "10", "", "0 ", "-0", "0,0"] {
            assert!(
                has_content(&headers(header::CONTENT_LENGTH, length)),
                "{length}"
            );
        }
        let mut lines = headers(header::CONTENT_LENGTH, "0");
        lines.append(header::CONTENT_LENGTH, http::HeaderValue::from_static("1"));
        assert!(has_content(&lines));
        assert!(has_content(&headers(header::TRANSFER_ENCODING, "chunked")));
    }
}
