//! The request target that a client sends.

use http::{
    HeaderValue, Request, Uri, header,
    uri::{Authority, InvalidUriParts, PathAndQuery, Scheme},
};

/// Sets `Host` to the authority of the URI, unless the request has a `Host` (RFC 9112 §3.2). Returns whether the
/// request has one now.
pub(crate) fn set_host<B>(request: &mut Request<B>) -> bool {
    let host = request.uri().authority().map(Authority::as_str);
    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
    let headers = request.headers_mut();
    match host {
        Some(host) => {
            headers.entry(header::HOST).or_insert(host);
            true
        }
        None => headers.contains_key(header::HOST),
    }
}

/// Returns the target of an HTTP/2 or HTTP/3 request, which has a scheme, an authority and a path (RFC 9113 §8.3.1). A
/// missing scheme is `scheme`, and a missing path is `/`.
pub(crate) fn http2(
    uri: Uri,
    scheme: Scheme,
    authority: Option<Authority>,
) -> Result<Uri, InvalidUriParts> {
    let mut uri = uri.into_parts();
    uri.authority = authority;
    uri.scheme.get_or_insert(scheme);
    uri.path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    Uri::from_parts(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_set_only_if_it_is_missing() {
        for (uri, host, expected) in [
            ("http://test:1/a", None, Some("test:1")),
            ("http://test/a", Some("other"), Some("other")),
            ("test:443", None, Some("test:443")),
            ("/a", Some("other"), Some("other")),
            ("/a", None, None),
        ] {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let mut request = request.body(()).expect(uri);
            assert_eq!(set_host(&mut request), expected.is_some(), "{uri}");
            let found = request.headers().get(header::HOST);
            assert_eq!(
                found.map(HeaderValue::as_bytes),
                expected.map(str::as_bytes)
            );
        }
    }

    #[test]
    fn http2_target_has_scheme_authority_and_path() {
        let target = |uri: &str| {
            http2(
                uri.parse().expect(uri),
                Scheme::HTTP,
                Some("host:1".parse().expect("host")),
            )
        };
        assert_eq!(target("/a?b").expect("complete"), "http://host:1/a?b");
        assert_eq!(
            target("https://test/a").expect("complete"),
            "https://host:1/a"
        );
        assert_eq!(target("test:443").expect("complete"), "http://host:1/");
        let none = http2("/a".parse().expect("a path"), Scheme::HTTP, None);
        assert!(none.is_err(), "{none:?}");
    }
}
