//! Extended CONNECT on HTTP/2 and HTTP/3 (RFC 8441, RFC 9220).

use crate::protocol::Member;
use http::{Extensions, Version};

/// Whether a request has a `:protocol`.
///
/// The method does not matter: middleware around a router that matches only GET may have changed it.
pub(crate) fn is_extended_connect(version: Version, extensions: &Extensions) -> bool {
    version > Version::HTTP_11 && extensions.get::<hyper::ext::Protocol>().is_some()
}

/// Returns the protocol in `:protocol`, if it is valid. An invalid one matches no handler.
pub(crate) fn offered(extensions: &Extensions) -> Option<Member<'_>> {
    let protocol = extensions.get::<hyper::ext::Protocol>()?;
    Member::parse(protocol.as_str().as_bytes())
}
