//! Upgrade requests on HTTP/1.1 (RFC 9110 §7.8).

use super::token;
use crate::negotiate::protocol::Member;
use http::{HeaderMap, Version, header};

/// Returns `true` if a request head asks for an upgrade.
///
/// The version must be HTTP/1.1, `Connection` must list `upgrade`, and `Upgrade` must offer at least one protocol. A
/// malformed `Upgrade` offers no protocol.
pub(crate) fn is_upgrade(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && headers.contains_key(header::UPGRADE)
        && connection_has_upgrade(headers)
        && offers_well_formed(headers)
}

pub(crate) fn connection_has_upgrade(headers: &HeaderMap) -> bool {
    connection_has(headers, "upgrade")
}

/// Returns `true` if `Connection` lists `name`.
pub(crate) fn connection_has(headers: &HeaderMap, name: &str) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| token::members(line.as_bytes()))
        .any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
}

fn offers_well_formed(headers: &HeaderMap) -> bool {
    let mut members = members(headers).peekable();
    members.peek().is_some() && members.all(|member| Member::parse(member).is_some())
}

/// Returns the offered protocols, in the client's order.
pub(crate) fn offered(headers: &HeaderMap) -> impl Iterator<Item = Member<'_>> {
    members(headers).filter_map(Member::parse)
}

pub(super) fn members(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .flat_map(|line| token::members(line.as_bytes()))
}

#[cfg(test)]
mod tests;
