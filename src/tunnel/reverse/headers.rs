//! Which fields of a head are passed on, and which end here (RFC 9110 §7.6.1). No IO here.

use crate::{UpgradeKind, negotiate::token};
use http::{
    HeaderMap, HeaderValue, StatusCode, Version,
    header::{self, HeaderName},
};

/// What is between two neighbours, whatever `Connection` says of it.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What is between a client and a proxy.
const OF_PROXIES: [HeaderName; 2] = [header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION];

/// Without these a request means something else to the backend than it did to the client.
const MEANT_FOR_THE_END: [HeaderName; 6] = [
    header::HOST,
    header::AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    header::CONTENT_TYPE,
    header::FORWARDED,
];

/// The fields of a request that are passed on.
///
/// # Errors
///
/// If `Connection` names a field that is meant for the backend. No sender may do that, and without the field
/// it would be another request: one for somebody else, or of nobody.
pub(super) fn of_request(
    kind: UpgradeKind,
    headers: &HeaderMap,
) -> Result<HeaderMap, &'static str> {
    let options: Vec<_> = options(headers).collect();
    if options.iter().any(is_meant_for_the_end) {
        return Err("`Connection` names a field that is not the connection's");
    }
    let mut headers = headers.clone();
    remove_hop_by_hop(kind, &options, &mut headers);
    // The body is read to its end, and framed anew.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::EXPECT);
    join_lines(&mut headers);
    Ok(headers)
}

/// The fields of a response that are passed on to a client of `version`.
pub(super) fn of_response(
    kind: UpgradeKind,
    version: Version,
    status: StatusCode,
    mut headers: HeaderMap,
) -> HeaderMap {
    let options: Vec<_> = options(&headers).collect();
    // What it lists is for the client to ask for, where there is an `Upgrade` (RFC 9110 §15.5.22).
    let is_for_the_next = status == StatusCode::UPGRADE_REQUIRED && version == Version::HTTP_11;
    let upgrade: Vec<_> = match is_for_the_next {
        true => headers.get_all(header::UPGRADE).iter().cloned().collect(),
        false => Vec::new(),
    };
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // It is not this that says how long the body is (RFC 9112 §6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(kind, &options, &mut headers);
    if !upgrade.is_empty() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    for line in upgrade {
        headers.append(header::UPGRADE, line);
    }
    headers
}

fn remove_hop_by_hop(kind: UpgradeKind, options: &[HeaderName], headers: &mut HeaderMap) {
    for name in options.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if kind != UpgradeKind::Connect {
        OF_PROXIES
            .iter()
            .for_each(|name| drop(headers.remove(name)));
    }
}

/// The fields that `Connection` names.
fn options(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| token::members(line.as_bytes()))
        // What is no name names nothing.
        .filter_map(|option| HeaderName::from_bytes(option).ok())
}

fn is_meant_for_the_end(name: &HeaderName) -> bool {
    MEANT_FOR_THE_END.contains(name)
        || name.as_str().starts_with("sec-")
        || name.as_str().starts_with("x-forwarded-")
}

/// Joins field lines that many backends expect in one: HTTP/2 splits cookies where HTTP/1.1 may not (RFC 9113 §8.2.3), and
/// many WebSocket servers read the first line of subprotocols and extensions only.
fn join_lines(headers: &mut HeaderMap) {
    for (name, separator) in [
        (header::COOKIE, "; "),
        (header::SEC_WEBSOCKET_PROTOCOL, ", "),
        (header::SEC_WEBSOCKET_EXTENSIONS, ", "),
    ] {
        let lines: Vec<_> = headers
            .get_all(&name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if lines.len() > 1 {
            // An empty line adds no member.
            let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
            let joined = HeaderValue::from_bytes(&lines.join(separator.as_bytes()));
            headers.insert(
                name,
                joined.expect("field values and a separator are a field value"),
            );
        }
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

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    const HOPS: &[(&str, &str)] = &[
        ("connection", "Upgrade, x-Hop, a b"),
        ("connection", "x-other,,close"),
        ("x-hop", "1"),
        ("x-hop", "2"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("te", "trailers"),
        ("trailer", "x-late"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("upgrade", "chat"),
        ("proxy-authorization", "Basic secret"),
        ("proxy-authenticate", "Basic"),
        ("x-kept", "1"),
        ("x-hops", "1"),
    ];

    #[test]
    fn what_is_of_the_connection_ends_here() {
        let hops = headers(HOPS);
        let kept = of_request(UpgradeKind::Upgrade, &hops).expect("a fair request");
        assert_eq!(names(&kept), ["x-hops", "x-kept"]);
        let (version, status) = (Version::HTTP_11, StatusCode::FORBIDDEN);
        let kept = of_response(UpgradeKind::Upgrade, version, status, hops);
        assert_eq!(names(&kept), ["x-hops", "x-kept"]);
    }

    #[test]
    fn a_proxy_is_asked_for_with_credentials() {
        let kept = of_request(UpgradeKind::Connect, &headers(HOPS)).expect("a fair request");
        assert_eq!(kept["proxy-authorization"], "Basic secret");
        let (version, status) = (Version::HTTP_2, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        let kept = of_response(UpgradeKind::Connect, version, status, headers(HOPS));
        assert_eq!(kept["proxy-authenticate"], "Basic");
    }

    #[test]
    fn what_is_meant_for_the_end_cannot_be_named() {
        for name in [
            "Host",
            "cookie",
            "Sec-WebSocket-Key",
            "authorization",
            "origin",
            "content-type",
            "forwarded",
            "X-Forwarded-Anything",
        ] {
            let mut named = headers(&[("connection", "upgrade")]);
            let line = format!("x, {name}");
            named.append(header::CONNECTION, line.parse().expect("a value"));
            assert!(of_request(UpgradeKind::Upgrade, &named).is_err(), "{name}");
        }
        // What frames the body is not passed on anyway.
        let framing = headers(&[("connection", "content-length, transfer-encoding")]);
        assert!(of_request(UpgradeKind::Upgrade, &framing).is_ok());
    }

    #[test]
    fn a_426_says_what_to_ask_for_where_there_is_an_upgrade() {
        let lines = [
            ("connection", "Upgrade, x-hop"),
            ("upgrade", "a"),
            ("upgrade", "b"),
        ];
        let of =
            |version, status| of_response(UpgradeKind::Upgrade, version, status, headers(&lines));
        let kept = of(Version::HTTP_11, StatusCode::UPGRADE_REQUIRED);
        assert_eq!(kept["connection"], "upgrade");
        assert_eq!(kept.get_all("upgrade").iter().count(), 2);
        assert!(of(Version::HTTP_11, StatusCode::FORBIDDEN).is_empty());
        assert!(of(Version::HTTP_2, StatusCode::UPGRADE_REQUIRED).is_empty());
    }

    #[test]
    fn a_length_that_does_not_count_is_not_passed_on() {
        let of = |lines| {
            let (version, status) = (Version::HTTP_11, StatusCode::FORBIDDEN);
            of_response(UpgradeKind::Upgrade, version, status, headers(lines))
        };
        assert_eq!(of(&[("content-length", "5")])["content-length"], "5");
        assert!(of(&[("content-length", "5"), ("transfer-encoding", "chunked")]).is_empty());
    }

    #[test]
    fn cookies_are_one_line() {
        let lines = headers(&[
            ("cookie", "a=1; b=2"),
            ("x", "1"),
            ("cookie", "c=3"),
            ("cookie", ""),
        ]);
        let kept = of_request(UpgradeKind::Upgrade, &lines).expect("a fair request");
        let cookies: Vec<_> = kept.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn w8_subprotocols_are_one_line() {
        let name = "sec-websocket-protocol";
        let lines = headers(&[(name, "a"), (name, ""), (name, "b, c")]);
        let kept = of_request(UpgradeKind::Upgrade, &lines).expect("a fair request");
        let subprotocols: Vec<_> = kept.get_all(name).iter().collect();
        assert_eq!(subprotocols, ["a, b, c"]);
    }
}
