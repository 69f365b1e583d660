//! Copies the extensions of a request that share the server's read buffer.

use http::Extensions;
#[cfg(feature = "axum")]
use http::Uri;
use hyper::ext::Protocol;

/// Replaces extensions that share the read buffer of the request head with copies.
///
/// A session that keeps the extensions would otherwise keep the buffer allocated. `Extensions` cannot be iterated, so
/// the types are listed here.
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
    fn detached_original_uri_does_not_share_head_buffer() {
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
            let OriginalUri(copy) = extensions.get().expect("an `OriginalUri`");
            assert_eq!(*copy, shared);
            drop(shared);
            assert!(head.is_unique(), "{uri}");
        }
    }
}
