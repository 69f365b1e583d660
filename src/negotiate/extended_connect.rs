//! Extended CONNECT of HTTP/2 and HTTP/3 (RFC 8441, RFC 9220).

use crate::protocol::Member;
use http::{Extensions, Version};

/// Whether a request has a `:protocol`.
///
/// The method is not asked for: a layer around a router that knows only GET may have changed it.
pub(crate) fn is_extended_connect(version: Version, extensions: &Extensions) -> bool {
    version > Version::HTTP_11 && extensions.get::<hyper::ext::Protocol>().is_some()
}

/// The one protocol that the request is for. A `:protocol` that is none is for nothing.
pub(crate) fn offered(extensions: &Extensions) -> Option<Member<'_>> {
    let protocol = extensions.get::<hyper::ext::Protocol>()?;
    Member::parse(protocol.as_str().as_bytes())
}
