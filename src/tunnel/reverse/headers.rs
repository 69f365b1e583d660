//! Selects the fields of a head that the proxy forwards (RFC 9110 §7.6.1). No IO here.

use crate::negotiate::{join, kind::UpgradeKind, token};
use http::{
    HeaderMap, HeaderValue, StatusCode, Version,
    header::{self, HeaderName},
};

/// Hop-by-hop fields, even if `Connection` does not name them.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields between a client and a proxy.
const PROXY_AUTH: [HeaderName; 2] = [header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION];

/// WebSocket lists that HTTP/1.1 allows to span several lines. Many servers read only the first line.
const WEBSOCKET_LISTS: [HeaderName; 2] = [
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

/// End-to-end fields whose removal would change the meaning of a request.
const END_TO_END: [HeaderName; 6] = [
    header::HOST,
    header::AUTHORIZATION,
    header::COOKIE,
    header::ORIGIN,
    header::CONTENT_TYPE,
    header::FORWARDED,
];

/// Returns the fields of a request to forward. `kind` is `None` for a plain request.
///
/// # Errors
///
/// If `Connection` names an end-to-end field, which a sender must not do. Without that field the request would have
/// another meaning: another host, or no credentials.
pub(super) fn of_request(
    kind: Option<UpgradeKind>,
    headers: &HeaderMap,
) -> Result<HeaderMap, &'static str> {
    let options: Vec<_> = options(headers).collect();
    if options.iter().any(is_end_to_end) {
        return Err("`Connection` names an end-to-end field");
    }
    let takes_trailers = kind.is_none() && takes_trailers(headers);
    let mut headers = headers.clone();
    remove_false_length(&mut headers);
    remove_hop_by_hop(kind, &options, &mut headers);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // The server has answered the expectation when the body was read.
    headers.remove(header::EXPECT);
    // HTTP/2 allows several `Cookie` lines, HTTP/1.1 only one (RFC 9113 §8.2.3).
    join::lines(&mut headers, &header::COOKIE, "; ");
    for name in &WEBSOCKET_LISTS {
        join::lines(&mut headers, name, ", ");
    }
    Ok(headers)
}

/// Returns `true` if a client takes trailers (RFC 9110 §10.1.4), which the proxy passes on.
fn takes_trailers(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::TE).iter();
    lines
        .flat_map(|line| token::members(line.as_bytes()))
        .any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

/// Returns the fields of a response to forward to a client of `version`. `kind` is `None` for the response to a plain
/// request.
pub(super) fn of_response(
    kind: Option<UpgradeKind>,
    version: Version,
    status: StatusCode,
    mut headers: HeaderMap,
) -> HeaderMap {
    let options: Vec<_> = options(&headers).collect();
    // A 426 lists the protocols that the client should request (RFC 9110 §15.5.22). HTTP/2 has no `Upgrade` field.
    let keeps_upgrade = status == StatusCode::UPGRADE_REQUIRED && version == Version::HTTP_11;
    let upgrade: Vec<_> = match keeps_upgrade {
        true => headers.get_all(header::UPGRADE).iter().cloned().collect(),
        false => Vec::new(),
    };
    remove_false_length(&mut headers);
    remove_hop_by_hop(kind, &options, &mut headers);
    if !upgrade.is_empty() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    for line in upgrade {
        headers.append(header::UPGRADE, line);
    }
    headers
}

/// Returns `true` if the only transfer coding is `chunked`, which hyper decodes. Without the field `Transfer-Encoding`,
/// the recipient would take a body with another coding for the content.
pub(super) fn is_decoded(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut codings = lines.flat_map(|line| token::members(line.as_bytes()));
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Removes a `Content-Length` that `Transfer-Encoding` overrides (RFC 9112 §6.3).
fn remove_false_length(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
}

fn remove_hop_by_hop(kind: Option<UpgradeKind>, options: &[HeaderName], headers: &mut HeaderMap) {
    for name in options.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    // hyper sends only the trailers that `Trailer` names over HTTP/1.1. An upgrade has none.
    if kind.is_some() {
        headers.remove(header::TRAILER);
    }
    if kind != Some(UpgradeKind::Connect) {
        PROXY_AUTH
            .iter()
            .for_each(|name| drop(headers.remove(name)));
    }
}

/// Returns the fields that `Connection` names.
fn options(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| token::members(line.as_bytes()))
        // Skip options that are not valid field names.
        .filter_map(|option| HeaderName::from_bytes(option).ok())
}

fn is_end_to_end(name: &HeaderName) -> bool {
    END_TO_END.contains(name)
        || name.as_str().starts_with("sec-")
        || name.as_str().starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: Option<UpgradeKind> = Some(UpgradeKind::Upgrade);

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
    fn hop_by_hop_fields_are_removed() {
        let hops = headers(HOPS);
        let kept = of_request(UPGRADE, &hops).expect("a valid request");
        assert_eq!(names(&kept), ["x-hops", "x-kept"]);
        let (version, status) = (Version::HTTP_11, StatusCode::FORBIDDEN);
        let kept = of_response(UPGRADE, version, status, hops);
        assert_eq!(names(&kept), ["x-hops", "x-kept"]);
    }

    #[test]
    fn plain_messages_keep_trailer_and_te_trailers() {
        let hops = headers(HOPS);
        let kept = of_request(None, &hops).expect("a valid request");
        assert_eq!(names(&kept), ["te", "trailer", "x-hops", "x-kept"]);
        let kept = of_response(None, Version::HTTP_11, StatusCode::OK, hops);
        assert_eq!(names(&kept), ["trailer", "x-hops", "x-kept"]);
        for (te, kept) in [
            ("trailers", true),
            ("gzip;q=0.5, Trailers", true),
            ("gzip", false),
            ("trailersx", false),
        ] {
            let lines = headers(&[("connection", "te"), ("te", te)]);
            let headers = of_request(None, &lines).expect("a valid request");
            let te = headers.get(header::TE).map(HeaderValue::as_bytes);
            assert_eq!(te, kept.then_some(&b"trailers"[..]));
        }
    }

    #[test]
    fn proxy_authentication_of_a_connect_is_forwarded() {
        let kept = of_request(Some(UpgradeKind::Connect), &headers(HOPS)).expect("a valid request");
        assert_eq!(kept["proxy-authorization"], "Basic secret");
        let (version, status) = (Version::HTTP_2, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        let kept = of_response(Some(UpgradeKind::Connect), version, status, headers(HOPS));
        assert_eq!(kept["proxy-authenticate"], "Basic");
    }

    #[test]
    fn connection_that_names_an_end_to_end_field_is_an_error() {
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
            assert!(of_request(UPGRADE, &named).is_err(), "{name}");
        }
        // Fields that frame the body are never forwarded.
        let framing = headers(&[("connection", "content-length, transfer-encoding")]);
        assert!(of_request(UPGRADE, &framing).is_ok());
    }

    #[test]
    fn upgrade_of_a_426_is_kept_for_http1_clients() {
        let lines = [
            ("connection", "Upgrade, x-hop"),
            ("upgrade", "a"),
            ("upgrade", "b"),
        ];
        let of = |version, status| of_response(UPGRADE, version, status, headers(&lines));
        let kept = of(Version::HTTP_11, StatusCode::UPGRADE_REQUIRED);
        assert_eq!(kept["connection"], "upgrade");
        assert_eq!(kept.get_all("upgrade").iter().count(), 2);
        assert!(of(Version::HTTP_11, StatusCode::FORBIDDEN).is_empty());
        assert!(of(Version::HTTP_2, StatusCode::UPGRADE_REQUIRED).is_empty());
    }

    #[test]
    fn length_beside_transfer_encoding_is_removed() {
        let of = |lines| {
            let (version, status) = (Version::HTTP_11, StatusCode::FORBIDDEN);
            of_response(UPGRADE, version, status, headers(lines))
        };
        assert_eq!(of(&[("content-length", "5")])["content-length"], "5");
        assert!(of(&[("content-length", "5"), ("transfer-encoding", "chunked")]).is_empty());
    }

    #[test]
    fn websocket_lists_are_joined() {
        let lines = headers(&[
            ("sec-websocket-protocol", "a"),
            ("sec-websocket-extensions", "x; y=1"),
            ("sec-websocket-protocol", "b, c"),
            ("sec-websocket-extensions", "z"),
        ]);
        let kept = of_request(UPGRADE, &lines).expect("a valid request");
        let values = |name| kept.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values("sec-websocket-protocol"), ["a, b, c"]);
        assert_eq!(values("sec-websocket-extensions"), ["x; y=1, z"]);
    }

    #[test]
    fn cookies_are_joined() {
        let lines = headers(&[
            ("cookie", "a=1; b=2"),
            ("x", "1"),
            ("cookie", "c=3"),
            ("cookie", ""),
        ]);
        let kept = of_request(UPGRADE, &lines).expect("a valid request");
        let cookies: Vec<_> = kept.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }
}
