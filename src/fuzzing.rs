//! Internals for the targets in `fuzz/`, which exist only under `--cfg fuzzing` and are not part of the public
//! API.

use crate::negotiate::{self, Choice, Preference, connect, http1, protocol::Protocol};
#[cfg(feature = "tunnel")]
use crate::tunnel::{Policy, host::Host};
use http::{HeaderMap, Uri, Version, uri::Authority};
#[cfg(feature = "tunnel")]
use std::net::IpAddr;

/// Returns `true` if a head asks for an upgrade.
#[must_use]
pub fn is_upgrade(version: Version, headers: &HeaderMap) -> bool {
    http1::is_upgrade(version, headers)
}

/// Returns the protocols that a head offers, in the client's order.
pub fn offered(headers: &HeaderMap) -> impl Iterator<Item = Protocol> {
    http1::offered(headers).map(Protocol::from)
}

/// Returns the index of the protocol chosen from `supported`, and the offered protocol that it matches.
#[must_use]
pub fn choose(
    headers: &HeaderMap,
    supported: &[Protocol],
    preference: Preference,
) -> Option<(usize, Protocol)> {
    let offered = || http1::offered(headers);
    match negotiate::choose(offered, supported.iter(), preference, |_| true) {
        Choice::Chosen { index, member } => Some((index, member.into())),
        Choice::Declined | Choice::Unsupported => None,
    }
}

/// Returns the target of a CONNECT, and its port.
///
/// # Errors
///
/// Returns a message if the target is invalid.
pub fn target(uri: &Uri) -> Result<(&Authority, u16), &'static str> {
    connect::target(uri)
}

/// Returns `true` if a proxy with this policy connects to an address.
#[cfg(feature = "tunnel")]
#[must_use]
pub fn may_connect(policy: &Policy, address: IpAddr) -> bool {
    policy.allows(address)
}

/// Returns `true` if a proxy with this policy accepts this target of a CONNECT, before it resolves the name.
#[cfg(feature = "tunnel")]
#[must_use]
pub fn may_ask_for(policy: &Policy, target: &Authority, port: u16) -> bool {
    Host::of(target).is_some_and(|host| policy.check(&host, port).is_ok())
}

/// Reads the messages of a WebSocket peer whose bytes arrive in these parts, of at most 64 KiB each.
///
/// Returns the messages, and the close code of the error that ended them. A part may end anywhere, also within a header.
#[cfg(feature = "websocket")]
#[must_use]
pub fn receive<'a>(
    is_server: bool,
    max_message_size: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<crate::websocket::Message>, Option<u16>) {
    crate::websocket::fuzzing::receive(is_server, max_message_size, parts)
}

/// Decodes the datagrams in a stream of capsules that arrives in these parts. Datagrams of more than `max` bytes are an
/// error.
///
/// Returns the datagrams, and the message of the error that ended them.
#[cfg(feature = "datagram")]
#[must_use]
pub fn datagrams<'a>(
    max: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Vec<u8>>, Option<String>) {
    crate::datagram::fuzzing::datagrams(max, parts)
}

/// Decodes a QPACK field section of at most this size. Returns the field lines, and the error that ended them.
#[cfg(feature = "http3")]
#[must_use]
pub fn decode_section(
    section: &[u8],
    max_size: usize,
) -> (Vec<(Vec<u8>, Vec<u8>)>, Option<&'static str>) {
    crate::http3::qpack::fuzzing::decode(section, max_size)
}

/// Encodes a QPACK field section of lines with a name, a value, and `true` if the value is sensitive.
#[cfg(feature = "http3")]
pub fn encode_section<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8], bool)>) -> Vec<u8> {
    crate::http3::qpack::fuzzing::encode(lines)
}

/// Reads the data of a tunnel over HTTP/3 whose bytes arrive in these parts, at most `max` bytes at a time.
///
/// Returns the data, and the code of the error that ended it.
#[cfg(feature = "http3")]
#[must_use]
pub fn http3_tunnel<'a>(
    max: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Option<u64>) {
    crate::http3::fuzzing::tunnel(max, parts)
}

/// Reads the frames of a stream of HTTP/3 whose bytes arrive in these parts: the payload of the first frame, not of the
/// second, and so on.
///
/// Returns the type, the length and the payload of each frame, and the code of the error that ended them.
#[cfg(feature = "http3")]
#[must_use]
pub fn http3_frames<'a>(
    max: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<(u64, u64, Vec<u8>)>, Option<u64>) {
    crate::http3::fuzzing::frames(max, parts)
}

/// Decodes the head of a request over HTTP/3 of at most this size. Returns its method, target, fields and `:protocol`.
///
/// # Errors
///
/// Returns the code of the error, and `true` if it closes the connection, or `None` if the head is too large.
#[cfg(feature = "http3")]
pub fn http3_request(
    section: &[u8],
    max_size: usize,
) -> Result<(http::Method, Uri, HeaderMap, Option<String>), Option<(u64, bool)>> {
    crate::http3::fuzzing::request(section, max_size)
}

/// Returns the host and the port of the UDP target in a path, with the template of RFC 9298.
#[cfg(feature = "datagram")]
#[must_use]
pub fn udp_target(path: &str) -> Option<Authority> {
    crate::datagram::fuzzing::target(path)
}

/// Reads the messages of a WebSocket client as [`receive`], with compression.
#[cfg(feature = "deflate")]
#[must_use]
pub fn receive_compressed<'a>(
    context_takeover: bool,
    max_message_size: usize,
    parts: impl Iterator<Item = &'a [u8]>,
) -> (Vec<crate::websocket::Message>, Option<u16>) {
    crate::websocket::fuzzing::receive_compressed(context_takeover, max_message_size, parts)
}

/// Returns the payloads of compressed messages. Those that do not become shorter are `None`.
#[cfg(feature = "deflate")]
#[must_use]
pub fn compress<'a>(
    level: u8,
    window_bits: u8,
    context_takeover: bool,
    messages: impl Iterator<Item = &'a [u8]>,
) -> Vec<Option<Vec<u8>>> {
    crate::websocket::fuzzing::compress(level, window_bits, context_takeover, messages)
}
