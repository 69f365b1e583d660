//! The origins allowed to open a WebSocket (RFC 6455 §10.2).
//!
//! A browser allows any page to connect to any server, and sends the user's cookies with the request. Only the `Origin`
//! header that the browser adds distinguishes the server's pages from others.

use http::{
    HeaderMap, Uri, header,
    uri::{Authority, Scheme},
};
use std::{net::Ipv6Addr, sync::Arc};

/// The allowed origins.
#[derive(Clone, Debug, Default)]
pub(crate) enum Policy {
    /// The host and port of the request, with the scheme `http` or `https` (or `ws`, `wss`).
    #[default]
    SameOrigin,
    /// Only these origins.
    List(Arc<[Origin]>),
    Any,
}

/// The reason for which an `Origin` is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The origin is `null` or invalid, or the request has several `Origin` headers.
    Opaque,
    /// The origin is valid, and not among the allowed ones.
    CrossOrigin,
}

impl Policy {
    /// Checks the `Origin` of a request to `authority`. A request without `Origin` does not come from a page, and
    /// passes.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        authority: Option<&Authority>,
    ) -> Result<(), Refused> {
        if matches!(self, Self::Any) {
            return Ok(());
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return Ok(()),
            (Some(origin), None) => origin.to_str().ok().and_then(Origin::parse),
            (Some(_), Some(_)) => None,
        };
        let origin = origin.ok_or(Refused::Opaque)?;
        let is_allowed = match self {
            Self::Any => true,
            Self::SameOrigin => authority
                .is_some_and(|authority| origin.is_web(uri.scheme()) && origin.is_at(authority)),
            Self::List(origins) => origins.contains(&origin),
        };
        match is_allowed {
            true => Ok(()),
            false => Err(Refused::CrossOrigin),
        }
    }
}

/// An origin that is not opaque: a scheme, a host, and a port (RFC 6454 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: Host,
    /// `None` if the scheme has no default port and the origin names no port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ipv6(Ipv6Addr),
    /// In lower case.
    Name(String),
}

impl Origin {
    /// Parses exactly `scheme://host` or `scheme://host:port`, and returns `None` for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if rest.contains(['/', '?', '#', '@']) {
            return None;
        }
        if !is_scheme(scheme) {
            return None;
        }
        // In lower case, the form in which `default_port` matches schemes.
        let scheme: Scheme = scheme.to_ascii_lowercase().parse().ok()?;
        let authority: Authority = rest.parse().ok()?;
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => default_port(&scheme),
            port => Some(parse_port(port.strip_prefix(':')?)?),
        };
        Some(Self {
            host: Host::parse(authority.host())?,
            scheme: scheme.as_str().to_owned(),
            port,
        })
    }

    /// Returns whether this is the origin of a web page (`http`, `https`; some clients send `ws`, `wss`), and the page
    /// has the scheme of the request, where the request names one: an HTTP/1.1 request does not.
    ///
    /// Other schemes have no port by which to compare them: `tauri://localhost` is not the page of a service at
    /// `Host: localhost`.
    fn is_web(&self, of_request: Option<&Scheme>) -> bool {
        let of_page = is_secure(&self.scheme);
        of_page.is_some()
            && of_request
                .is_none_or(|scheme| is_secure(&scheme.as_str().to_ascii_lowercase()) == of_page)
    }

    /// Returns whether the origin has the host and port of `authority`. If `authority` names no port, the port is the
    /// default of the origin's scheme, because `authority` has no scheme.
    fn is_at(&self, authority: &Authority) -> bool {
        let rest = authority.as_str().strip_prefix(authority.host());
        let port = match rest.and_then(|rest| rest.strip_prefix(':')) {
            None | Some("") => self.scheme.parse().ok().as_ref().and_then(default_port),
            Some(port) => match parse_port(port) {
                None => return false,
                port => port,
            },
        };
        port == self.port && Host::parse(authority.host()).as_ref() == Some(&self.host)
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('[') {
            Some(address) => {
                let address = address.strip_suffix(']')?.parse().ok()?;
                Some(Self::Ipv6(address))
            }
            None if text.is_empty() => None,
            None => Some(Self::Name(text.to_ascii_lowercase())),
        }
    }
}

/// Parses a port of digits only: `u16::from_str` also accepts a sign.
fn parse_port(text: &str) -> Option<u16> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

/// Checks the grammar of RFC 3986 §3.1. The parser of the `http` crate also accepts other characters.
fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Returns whether a lower-case web scheme implies TLS, or `None` for any other scheme.
fn is_secure(scheme: &str) -> Option<bool> {
    match scheme {
        "http" | "ws" => Some(false),
        "https" | "wss" => Some(true),
        _ => None,
    }
}

fn default_port(scheme: &Scheme) -> Option<u16> {
    match is_secure(scheme.as_str())? {
        false => Some(80),
        true => Some(443),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check(policy: &Policy, origin: &'static str, uri: &str, host: &str) -> Result<(), Refused> {
        let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        let authority = host.parse().expect(host);
        policy.check(&headers, &uri.parse().expect(uri), Some(&authority))
    }

    #[test]
    fn same_origin_compares_host_and_port() {
        for (origin, host) in [
            ("http://test", "test"),
            ("https://test", "test"),
            ("https://TEST", "test"),
            ("https://test", "Test:443"),
            ("http://test:80", "test"),
            ("http://test", "test:80"),
            ("http://test:8080", "test:8080"),
            ("HTTPS://test", "test"),
            ("http://test", "test:"),
            ("http://test.", "TEST."),
            ("http://[::1]:8080", "[0:0::1]:8080"),
        ] {
            assert_eq!(
                check(&Policy::SameOrigin, origin, "/", host),
                Ok(()),
                "{origin} {host}"
            );
        }
        for (origin, host) in [
            ("http://evil", "test"),
            ("http://test.evil", "test"),
            ("http://eviltest", "test"),
            ("http://test:8080", "test"),
            ("http://test", "test:8080"),
            ("http://test", "test:443"),
            ("https://test", "test:80"),
            ("https://test:80", "test"),
            ("http://[::1]", "[::2]"),
            ("chrome-extension://test", "test:1"),
            ("chrome-extension://test", "test"),
            ("tauri://localhost", "localhost"),
            ("capacitor://localhost", "localhost"),
            ("ftp://test:80", "test:80"),
            ("http://test.", "test"),
            ("http://test", "test."),
            ("http://test", "test:99999"),
            ("http://test", "[::1]"),
        ] {
            let refused = check(&Policy::SameOrigin, origin, "/", host);
            assert_eq!(refused, Err(Refused::CrossOrigin), "{origin} {host}");
        }
    }

    #[test]
    fn known_request_scheme_must_match() {
        let policy = Policy::SameOrigin;
        assert_eq!(
            check(&policy, "https://test", "https://test/", "test"),
            Ok(())
        );
        assert_eq!(
            check(&policy, "wss://test", "https://test/", "test"),
            Ok(())
        );
        for origin in ["http://test", "ws://test", "tauri://test"] {
            let refused = check(&policy, origin, "https://test/", "test");
            assert_eq!(refused, Err(Refused::CrossOrigin), "{origin}");
        }
    }

    #[test]
    fn invalid_origin_is_refused() {
        for origin in [
            "null",
            "",
            "test",
            "//test",
            "http://",
            "http://test/",
            "http://test?a",
            "http://test#a",
            "http://ann@test",
            "http://test:",
            "http://test:x",
            "http://test:99999",
            "http://test:+80",
            "http://test@evil",
            "http://[::1]evil",
            "http://[::1]:",
            "http://[test]",
            "http://[]",
            "http://a http://b",
            "http://[::1",
            "ht tp://test",
            "f~oo://test",
            "1http://test",
            "://test",
        ] {
            let refused = check(&Policy::SameOrigin, origin, "/", "test");
            assert_eq!(refused, Err(Refused::Opaque), "{origin}");
        }
        let mut headers = HeaderMap::new();
        headers.append(header::ORIGIN, HeaderValue::from_static("http://test"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://test"));
        let authority = Authority::from_static("test");
        let refused = Policy::SameOrigin.check(&headers, &Uri::from_static("/"), Some(&authority));
        assert_eq!(refused, Err(Refused::Opaque));
    }

    #[test]
    fn request_without_origin_is_allowed() {
        let authority = Authority::from_static("test");
        for authority in [Some(&authority), None] {
            let checked =
                Policy::SameOrigin.check(&HeaderMap::new(), &Uri::from_static("/"), authority);
            assert_eq!(checked, Ok(()));
        }
    }

    #[test]
    fn only_listed_origins_are_allowed() {
        let origins = [
            "https://Example.com",
            "HTTPS://UPPER.example",
            "chrome-extension://abc",
        ];
        let origins = origins.iter().filter_map(|origin| Origin::parse(origin));
        let policy = Policy::List(origins.collect());
        assert_eq!(
            check(&policy, "https://example.com:443", "/", "test"),
            Ok(())
        );
        assert_eq!(check(&policy, "https://upper.example", "/", "test"), Ok(()));
        assert_eq!(
            check(&policy, "chrome-extension://abc", "/", "test"),
            Ok(())
        );
        for origin in [
            "http://example.com",
            "https://test",
            "https://example.com:8443",
        ] {
            let refused = check(&policy, origin, "/", "test");
            assert_eq!(refused, Err(Refused::CrossOrigin), "{origin}");
        }
        let refused = check(&policy, "null", "/", "test");
        assert_eq!(refused, Err(Refused::Opaque));
        assert_eq!(check(&Policy::Any, "null", "/", "test"), Ok(()));
    }
}
