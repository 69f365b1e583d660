//! Extended CONNECT on HTTP/2 and HTTP/3 (RFC 8441, RFC 9220).

use crate::negotiate::protocol::Member;
#[cfg(feature = "client")]
use crate::negotiate::protocol::Protocol;
use http::{Extensions, Version};

/// Returns `true` if a request has a `:protocol`.
///
/// The method does not matter: middleware around a router that matches only GET may have changed it.
pub(crate) fn is_extended_connect(version: Version, extensions: &Extensions) -> bool {
    version > Version::HTTP_11 && extensions.get::<hyper::ext::Protocol>().is_some()
}

/// Returns the protocol in `:protocol`, if it is valid. An invalid `:protocol` matches no handler.
pub(crate) fn offered(extensions: &Extensions) -> Option<Member<'_>> {
    let protocol = extensions.get::<hyper::ext::Protocol>()?;
    Member::parse(protocol.as_str().as_bytes())
}

/// Returns the `:protocol` that requests `protocol`.
///
/// `Upgrade` compares names without case (RFC 9110 §7.8), and servers compare `:protocol` with the bytes `websocket`
/// (RFC 8441 §5). Other names have no registered spelling and are sent unchanged.
#[cfg(feature = "client")]
pub(crate) fn protocol(protocol: &Protocol) -> hyper::ext::Protocol {
    const WEBSOCKET: &str = "websocket";
    match protocol.name().eq_ignore_ascii_case(WEBSOCKET) {
        true => match protocol.version() {
            Some(version) => format!("{WEBSOCKET}/{version}").as_str().into(),
            None => hyper::ext::Protocol::from_static(WEBSOCKET),
        },
        false => protocol.as_str().into(),
    }
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;

    #[test]
    fn e7_websocket_is_written_in_lower_case() {
        for (name, sent) in [
            ("websocket", "websocket"),
            ("WebSocket", "websocket"),
            ("WEBSOCKET/13", "websocket/13"),
            ("WebSockets", "WebSockets"),
            ("Chat/2", "Chat/2"),
        ] {
            let name: Protocol = name.parse().expect("a protocol");
            assert_eq!(protocol(&name).as_str(), sent);
        }
    }
}
