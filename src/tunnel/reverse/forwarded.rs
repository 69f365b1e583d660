//! The `Forwarded` (RFC 7239), `X-Forwarded-*` and `Via` fields. No IO here.

use crate::negotiate::token;
use http::{
    HeaderMap, HeaderValue, Version,
    header::{self, HeaderName},
    uri::Authority,
};
use std::{borrow::Cow, net::IpAddr};

/// The treatment of the fields in which proxies describe a client to a backend, for
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

/// The description of a client for a backend.
pub(super) struct Client<'a> {
    pub(super) address: Option<IpAddr>,
    /// The host of the request. `None` for a CONNECT, whose target is the host.
    pub(super) host: Option<&'a Authority>,
    pub(super) scheme: Option<&'a str>,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Client<'_> {
    /// Writes the `Forwarded` field.
    pub(super) fn forwarded(&self, forwarding: Forwarding, headers: &mut HeaderMap) {
        if forwarding != Forwarding::Append {
            headers.remove(header::FORWARDED);
        }
        if forwarding != Forwarding::Remove {
            append(headers, header::FORWARDED, &self.element());
        }
    }

    /// Writes the `X-Forwarded-For`, `-Host` and `-Proto` fields.
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
        // These fields describe the request of the first client, so an existing value is more accurate than ours.
        for (name, value) in [
            (X_FORWARDED_HOST, self.host.map(Authority::as_str)),
            (X_FORWARDED_PROTO, self.scheme),
        ] {
            if let (Some(value), false) = (value, headers.contains_key(&name)) {
                append(headers, name, value);
            }
        }
    }

    /// Returns one element of the `Forwarded` list (RFC 7239 §4).
    fn element(&self) -> String {
        let address = match self.address {
            // IPv6 addresses are in brackets (RFC 7239 §6).
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

/// Appends this proxy and the received HTTP version to `Via` (RFC 9110 §7.6.3).
pub(super) fn via(version: Version, headers: &mut HeaderMap) {
    let received = match version {
        Version::HTTP_11 => "1.1 tower-upgrade",
        Version::HTTP_2 => "2 tower-upgrade",
        Version::HTTP_3 => "3 tower-upgrade",
        _ => "1.0 tower-upgrade",
    };
    append(headers, header::VIA, received);
}

/// The identifier of a client without a known address (RFC 7239 §6.2). Without it, a backend would take the previous
/// address of the list for the address of this client.
const UNKNOWN: &str = "unknown";

/// Quotes a value that is not a token (RFC 9110 §5.6.4).
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

/// Appends a member to a list, and joins the list to one line: some servers read only one line.
fn append(headers: &mut HeaderMap, name: HeaderName, member: &str) {
    let lines = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
    let list: Vec<_> = lines
        // A sender must not generate empty members (RFC 9110 §5.6.1.1).
        .filter(|line| !line.is_empty())
        .chain([member.as_bytes()])
        .collect();
    let list = HeaderValue::from_bytes(&list.join(&b", "[..]));
    headers.insert(
        name,
        list.expect("field values, addresses and hosts are a field value"),
    );
}

/// Removes all `X-Forwarded-*` fields, also those that this proxy does not write. Many backends treat `_` as `-`.
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
    fn element_quotes_values_that_are_not_tokens() {
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
    fn empty_line_is_dropped_when_a_member_is_appended() {
        let mut headers = HeaderMap::new();
        headers.append(header::VIA, HeaderValue::from_static(""));
        via(Version::HTTP_11, &mut headers);
        assert_eq!(headers[header::VIA], "1.1 tower-upgrade");
    }
}
