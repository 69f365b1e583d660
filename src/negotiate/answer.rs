//! The server's response to an upgrade request, as a client reads it.

use super::{http1, upgrade_response};
use crate::negotiate::{
    kind::UpgradeKind,
    protocol::{Member, Protocol},
};
use http::{HeaderMap, StatusCode, Version};
use std::borrow::Cow;

/// A valid response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An upgrade response with the chosen protocol; `None` for CONNECT.
    Upgraded(Option<Protocol>),
    Refused,
}

/// Reads the head of the final response to a request that offered `offered`.
///
/// # Errors
///
/// Returns the rule that the upgrade response violates (RFC 9110 §7.8 and §15.2.2).
pub(crate) fn answer(
    kind: UpgradeKind,
    offered: &[Protocol],
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<Answer, Cow<'static, str>> {
    if upgrade_response::is_upgrade(kind, status) {
        let protocol = match kind {
            UpgradeKind::Upgrade => Some(chosen(offered, version, headers)?),
            UpgradeKind::Connect => None,
            UpgradeKind::ExtendedConnect => offered.first().cloned(),
        };
        Ok(Answer::Upgraded(protocol))
    } else if status == StatusCode::SWITCHING_PROTOCOLS {
        Err("a 101 to a CONNECT".into())
    } else {
        Ok(Answer::Refused)
    }
}

/// Returns the protocol chosen in a 101.
fn chosen(
    offered: &[Protocol],
    version: Version,
    headers: &HeaderMap,
) -> Result<Protocol, Cow<'static, str>> {
    if version != Version::HTTP_11 {
        return Err("a 101 with a version other than HTTP/1.1".into());
    }
    if !http1::connection_has_upgrade(headers) {
        return Err("a 101 without `Connection: upgrade`".into());
    }
    let mut members = http1::members(headers);
    let chosen = match (members.next(), members.next()) {
        (Some(chosen), None) => Member::parse(chosen),
        (Some(_), Some(_)) => return Err("a 101 with more than one protocol".into()),
        (None, _) => return Err("a 101 without `Upgrade`".into()),
    };
    let chosen = chosen.map(Protocol::from);
    let chosen = chosen.ok_or("a 101 with an invalid `Upgrade`")?;
    match offered.contains(&chosen) {
        true => Ok(chosen),
        false => Err(format!("a 101 to {chosen}, which was not offered").into()),
    }
}
