//! The `Host` of a request (RFC 9112 §3.2, RFC 9113 §8.3.1), which hyper does not check.

use super::connect::is_host_and_port;
use http::{
    HeaderValue, Version, header,
    request::Parts,
    uri::{Authority, Scheme},
};

/// Checks that a request names exactly one host, as a proxy must.
///
/// # Errors
///
/// Returns the message of a rejection with 400.
pub(crate) fn check(parts: &Parts) -> Result<(), &'static str> {
    let target = parts.uri.authority();
    let mut lines = parts.headers.get_all(header::HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => return Err("the request has more than one `Host`"),
        (None, _) if parts.version == Version::HTTP_11 => {
            return Err("the request has no `Host`");
        }
        (None, _) => return Ok(()),
        (Some(host), None) => host,
    };
    // The target names the host.
    if host.is_empty() && target.is_some() {
        return Ok(());
    }
    let Some(host) = parse(host) else {
        return Err("the `Host` of the request is invalid");
    };
    match target {
        // Over HTTP/1.1 the target replaces `Host` (RFC 9112 §3.2.2).
        Some(target)
            if parts.version > Version::HTTP_11 && !is_same(parts.uri.scheme(), target, &host) =>
        {
            Err("the `Host` of the request differs from its `:authority`")
        }
        _ => Ok(()),
    }
}

fn parse(host: &HeaderValue) -> Option<Authority> {
    let host = Authority::try_from(host.as_bytes()).ok();
    host.filter(is_host_and_port)
}

/// Returns `true` if two authorities are the same host and port.
fn is_same(scheme: Option<&Scheme>, one: &Authority, other: &Authority) -> bool {
    let default = match scheme.map(Scheme::as_str) {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    };
    one.host().eq_ignore_ascii_case(other.host())
        && one.port_u16().or(default) == other.port_u16().or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_of(version: Version, uri: &str, hosts: &[&'static str]) -> Result<(), &'static str> {
        let mut request = http::Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        check(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn http_1_1_needs_one_valid_host() {
        for uri in ["/", "http://test/", "test:443"] {
            let check = |hosts: &[_]| check_of(Version::HTTP_11, uri, hosts);
            assert_eq!(check(&["test"]), Ok(()), "{uri}");
            assert_eq!(check(&["[::1]:80"]), Ok(()), "{uri}");
            for hosts in [&[][..], &["test", "test"], &["a b"], &["ann@test"]] {
                assert!(check(hosts).is_err(), "{uri}: {hosts:?}");
            }
        }
        // The target replaces `Host`.
        assert_eq!(
            check_of(Version::HTTP_11, "http://test/", &["other"]),
            Ok(())
        );
        assert_eq!(check_of(Version::HTTP_11, "test:443", &[""]), Ok(()));
        assert!(check_of(Version::HTTP_11, "/", &[""]).is_err());
        // HTTP/1.0 does not require `Host`.
        assert_eq!(check_of(Version::HTTP_10, "/", &[]), Ok(()));
        assert!(check_of(Version::HTTP_10, "/", &["test", "test"]).is_err());
    }

    #[test]
    fn http_2_host_must_match_authority() {
        let check = |uri, hosts: &[_]| check_of(Version::HTTP_2, uri, hosts);
        for (uri, host) in [
            ("https://test/", "TEST"),
            ("https://test/", "test:443"),
            ("http://test:80/", "test"),
            ("test:443", "test:443"),
        ] {
            assert_eq!(check(uri, &[host]), Ok(()), "{uri} {host}");
            assert_eq!(check(uri, &[]), Ok(()), "{uri}");
            assert!(check(uri, &[host, host]).is_err(), "{uri} {host}");
        }
        for (uri, host) in [
            ("https://test/", "other"),
            ("https://test/", "test:80"),
            ("test:443", "test"),
        ] {
            assert!(check(uri, &[host]).is_err(), "{uri} {host}");
        }
    }
}
