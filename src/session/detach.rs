//! Extensions of a request that share the server's read buffer.

use http::Extensions;
#[cfg(feature = "axum")]
use http::Uri;
use hyper::ext::Protocol;

/// Replaces extensions that are slices of the buffer that the head of the request was read into with copies.
///
/// Otherwise a session that keeps the extensions keeps that buffer. Extensions cannot be iterated, so this knows types.
pub(crate) fn detach(extensions: &mut Extensions) {
    if let Some(protocol) = extensions.get_mut::<Protocol>() {
        *protocol = Protocol::from(protocol.as_str());
    }
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(uri)) = extensions.get_mut() {
        if let Ok(copy) = Uri::try_from(uri.to_string()) {
            *uri = copy;
        }
    }
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use super::*;
    use axum::extract::OriginalUri;
    use bytes::Bytes;

    #[test]
    fn original_uri_does_not_share_the_buffer_of_the_head() {
        for uri in [
            "/chat?room=1",
            "http://test:80/chat",
            "test:443",
            "*",
            "http://test",
        ] {
            let head = Bytes::from(format!("GET {uri} HTTP/1.1"));
            let shared = Uri::from_maybe_shared(head.slice(4..4 + uri.len())).expect("a URI");
            let mut extensions = Extensions::new();
            extensions.insert(OriginalUri(shared.clone()));
            detach(&mut extensions);
            let OriginalUri(copy) = extensions.get().expect("it is still there");
            assert_eq!(*copy, shared);
            drop(shared);
            assert!(head.is_unique(), "{uri}");
        }
    }
}
