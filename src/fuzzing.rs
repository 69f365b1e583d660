//! What the targets in `fuzz/` look at beside the public API. It is there under `--cfg fuzzing` only, and is
//! part of no version.

#[cfg(feature = "tunnel")]
use crate::tunnel::{Policy, host::Host};
use crate::{
    Preference, Protocol,
    negotiate::{self, Choice, connect, http1},
};
use http::{HeaderMap, Uri, Version, uri::Authority};
#[cfg(feature = "tunnel")]
use std::net::IpAddr;

/// Whether a head asks for an upgrade.
#[must_use]
pub fn is_upgrade(version: Version, headers: &HeaderMap) -> bool {
    http1::is_upgrade(version, headers)
}

/// What it offers, in order.
pub fn offered(headers: &HeaderMap) -> impl Iterator<Item = Protocol> {
    http1::offered(headers).map(Protocol::from)
}

/// The index of the protocol that is chosen of `supported`, and the offer that it was chosen for.
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

/// The target of a CONNECT.
///
/// # Errors
///
/// What is wrong with it.
pub fn target(uri: &Uri) -> Result<(&Authority, Option<u16>), &'static str> {
    let target = connect::target(uri)?;
    Ok((target, connect::port(target)))
}

/// Whether a proxy with this policy connects to an address.
#[cfg(feature = "tunnel")]
#[must_use]
pub fn may_connect(policy: &Policy, address: IpAddr) -> bool {
    policy.allows(address)
}

/// Whether it takes this target of a CONNECT, as far as the client names it.
#[cfg(feature = "tunnel")]
#[must_use]
pub fn may_ask_for(policy: &Policy, target: &Authority, port: u16) -> bool {
    Host::of(target).is_some_and(|host| policy.check(&host, port).is_ok())
}
