//! What a backend is told of the client (RFC 7239, and what was there before). No IO here.

use crate::negotiate::token;
use http::{
    HeaderMap, HeaderValue, Version,
    header::{self, HeaderName},
    uri::Authority,
};
use std::{borrow::Cow, net::IpAddr};

/// What becomes of the fields with which proxies tell backends of a client: see
/// [`ReverseProxy::forwarded`](super::ReverseProxy::forwarded) and
/// [`ReverseProxy::x_forwarded`](super::ReverseProxy::x_forwarded).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarding {
    /// Removes the client's fields, because any client can send them. Adds nothing.
    #[default]
    Remove,
    /// Replaces the client's fields with the values that the proxy knows.
    Replace,
    /// Appends the values that the proxy knows to the client's fields: only if every client is a trusted proxy that
    /// removes or replaces the fields of its clients.
    Append,
}

/// What is known of a client.
pub(super) struct Client<'a> {
    pub(super) address: Option<IpAddr>,
    /// The host that it asked for. It is the target of a CONNECT, where there is nothing more to say.
    pub(super) host: Option<&'a Authority>,
    pub(super) scheme: Option<&'a str>,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Client<'_> {
    /// Says it with `Forwarded`.
    pub(super) fn forwarded(&self, forwarding: Forwarding, headers: &mut HeaderMap) {
        if forwarding != Forwarding::Append {
            headers.remove(header::FORWARDED);
        }
        if forwarding != Forwarding::Remove {
            append(headers, header::FORWARDED, &self.element());
        }
    }

    /// Says it with `X-Forwarded-For`, `-Host` and `-Proto`.
    pub(super) fn x_forwarded(&self, forwarding: Forwarding, headers: &mut HeaderMap) {
        if forwarding != Forwarding::Append {
            remove_x_forwarded(headers);
        }
        if forwarding == Forwarding::Remove {
            return;
        }
        let address = self.address.map(|address| address.to_string());
        append(
            headers,
            X_FORWARDED_FOR,
            address.as_deref().unwrap_or(UNKNOWN),
        );
        // These two say what the first client asked for: who has said it already knows better.
        for (name, value) in [
            (X_FORWARDED_HOST, self.host.map(Authority::as_str)),
            (X_FORWARDED_PROTO, self.scheme),
        ] {
            if let (Some(value), false) = (value, headers.contains_key(&name)) {
                append(headers, name, value);
            }
        }
    }

    /// One element of the list (RFC 7239 §4).
    fn element(&self) -> String {
        let address = match self.address {
            // In brackets (RFC 7239 §6).
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(address)) => address.to_string(),
            None => UNKNOWN.to_owned(),
        };
        let mut element = format!("for={}", quoted(&address));
        for (name, value) in [
            ("host", self.host.map(Authority::as_str)),
            ("proto", self.scheme),
        ] {
            if let Some(value) = value {
                element.push_str(&format!(";{name}={}", quoted(value)));
            }
        }
        element
    }
}

/// Says that a request has come through here, with which version (RFC 9110 §7.6.3).
pub(super) fn via(version: Version, headers: &mut HeaderMap) {
    let received = match version {
        Version::HTTP_11 => "1.1 tower-upgrade",
        Version::HTTP_2 => "2 tower-upgrade",
        Version::HTTP_3 => "3 tower-upgrade",
        _ => "1.0 tower-upgrade",
    };
    append(headers, header::VIA, received);
}

/// Whose address nobody has left (RFC 7239 §6.2). It is said, so that nobody takes the address before it for
/// that of our client.
const UNKNOWN: &str = "unknown";

/// A token as it is, anything else as a quoted string (RFC 9110 §5.6.4).
fn quoted(value: &str) -> Cow<'_, str> {
    if token::is_token(value.as_bytes()) {
        return value.into();
    }
    let mut quoted = String::from("\"");
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted.into()
}

/// Adds a member to a list, in one line: there are those who look at one only.
fn append(headers: &mut HeaderMap, name: HeaderName, member: &str) {
    let lines = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
    let list: Vec<_> = lines
        // No sender makes a member that is empty (RFC 9110 §5.6.1.1).
        .filter(|line| !line.is_empty())
        .chain([member.as_bytes()])
        .collect();
    let list = HeaderValue::from_bytes(&list.join(&b", "[..]));
    headers.insert(
        name,
        list.expect("field values, addresses and hosts are a field value"),
    );
}

/// Those which we do not write as well. To many backends `_` is `-`.
fn remove_x_forwarded(headers: &mut HeaderMap) {
    let is_x_forwarded = |name: &&HeaderName| {
        let name = name.as_str();
        name.replace('_', "-").starts_with("x-forwarded-")
    };
    let names: Vec<_> = headers.keys().filter(is_x_forwarded).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(address: Option<&str>, host: Option<&str>, scheme: Option<&str>) -> String {
        let host: Option<Authority> = host.map(|host| host.parse().expect(host));
        let client = Client {
            address: address.map(|address| address.parse().expect(address)),
            host: host.as_ref(),
            scheme,
        };
        client.element()
    }

    #[test]
    fn an_element_quotes_what_is_no_token() {
        assert_eq!(
            element(Some("192.0.2.1"), Some("example.com"), Some("https")),
            "for=192.0.2.1;host=example.com;proto=https"
        );
        assert_eq!(
            element(Some("2001:db8::1"), Some("example.com:8080"), None),
            "for=\"[2001:db8::1]\";host=\"example.com:8080\""
        );
        assert_eq!(
            element(None, Some("[::1]"), None),
            "for=unknown;host=\"[::1]\""
        );
        assert_eq!(
            element(Some("192.0.2.1"), Some("a;proto=x,b"), None),
            "for=192.0.2.1;host=\"a;proto=x,b\""
        );
        assert_eq!(element(Some("192.0.2.1"), None, None), "for=192.0.2.1");
        assert_eq!(quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
    }

    #[test]
    fn what_is_added_to_an_empty_line_is_alone() {
        let mut headers = HeaderMap::new();
        headers.append(header::VIA, HeaderValue::from_static(""));
        via(Version::HTTP_11, &mut headers);
        assert_eq!(headers[header::VIA], "1.1 tower-upgrade");
    }
}
