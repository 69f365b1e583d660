//! Pure functions from a request head to what should become of it. No IO here.

#[cfg(feature = "client")]
pub(crate) mod answer;
pub(crate) mod connect;
mod extended_connect;
pub(crate) mod http1;
pub(crate) mod switch;
pub(crate) mod token;
#[cfg(any(feature = "tunnel", feature = "websocket"))]
pub(crate) mod websocket_key;

use crate::{
    UpgradeKind,
    protocol::{Member, Protocol},
};
use http::{Extensions, HeaderMap, Method, Version, header, request::Parts, uri::Authority};

/// How a request asks to leave HTTP, if it does.
pub(crate) fn kind(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Option<UpgradeKind> {
    if extended_connect::is_extended_connect(version, extensions) {
        Some(UpgradeKind::ExtendedConnect)
    } else if *method == Method::CONNECT {
        Some(UpgradeKind::Connect)
    } else if http1::is_upgrade(version, headers) {
        Some(UpgradeKind::Upgrade)
    } else {
        None
    }
}

/// The host, and the port if there is one, that a request is for, if they are valid.
pub(crate) fn authority(parts: &Parts) -> Option<Authority> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let authority = match (parts.uri.authority(), hosts.next(), hosts.next()) {
        (Some(authority), ..) => Some(authority.clone()),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        (None, ..) => None,
    };
    authority.filter(connect::is_host_and_port)
}

/// Checks the `Host` of a request for a proxy, which passes the request on (RFC 9112 §3.2, RFC 9113 §8.3.1). hyper does
/// not check it.
///
/// # Errors
///
/// The message for the client.
#[cfg(feature = "tunnel")]
pub(crate) fn check_host(parts: &Parts) -> Result<(), &'static str> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err("the request has more than one Host"),
        (None, None) if parts.version == Version::HTTP_11 => return Err("the request has no Host"),
        (None, None) => return Ok(()),
        (Some(host), None) => host,
    };
    let host = Authority::try_from(host.as_bytes()).ok();
    let Some(host) = host.filter(connect::is_host_and_port) else {
        return Err("the request has no valid Host");
    };
    match parts.uri.authority() {
        Some(authority) if parts.version >= Version::HTTP_2 && *authority != host => {
            Err("Host and :authority differ")
        }
        _ => Ok(()),
    }
}

/// The protocols that a request offers, in the client's order.
pub(crate) fn offered(kind: UpgradeKind, parts: &Parts) -> impl Iterator<Item = Member<'_>> {
    let (list, one) = match kind {
        UpgradeKind::Upgrade => (Some(http1::offered(&parts.headers)), None),
        UpgradeKind::Connect => (None, None),
        UpgradeKind::ExtendedConnect => (None, extended_connect::offered(&parts.extensions)),
    };
    list.into_iter().flatten().chain(one)
}

/// Whose order decides where a client offers more than one protocol that is supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preference {
    /// The order in which the client lists them, its most wanted first (RFC 9110 §7.8).
    #[default]
    Client,
    /// The order in which the handlers were registered.
    Server,
}

/// What becomes of an upgrade request for which there is no handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// It goes to the inner service, which may ignore an offer (RFC 9110 §7.8).
    Pass,
    /// It is refused: an offer of HTTP/1.1 with 426 and a list of what is supported (RFC 9110
    /// §15.5.22), a CONNECT and an extended CONNECT with 501 (RFC 9110 §15.6.2, RFC 9220 §3).
    Refuse,
}

/// What [`choose`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// The handler at `index` takes `member` of the offer.
    Chosen { index: usize, member: Member<'a> },
    /// Something offered is supported, and its handler does not want this request.
    Declined,
    /// Nothing offered is supported.
    Unsupported,
}

/// Picks one of the `supported` protocols for an offer.
///
/// `wants` is asked about a protocol by its index, once, in the order of preference, until one is wanted.
pub(crate) fn choose<'a, 'p, O>(
    offered: impl Fn() -> O,
    supported: impl Iterator<Item = &'p Protocol> + Clone,
    preference: Preference,
    wants: impl Fn(usize) -> bool,
) -> Choice<'a>
where
    O: Iterator<Item = Member<'a>>,
{
    // A client may offer a protocol any number of times.
    let mut declined = Vec::new();
    let mut take = |index: usize, protocol: &Protocol, member: Member<'a>| {
        if !protocol.takes(member) || declined.contains(&index) {
            return None;
        }
        if wants(index) {
            return Some(Choice::Chosen { index, member });
        }
        declined.push(index);
        None
    };
    let protocols = supported.enumerate();
    let chosen = match preference {
        Preference::Client => offered().find_map(|member| {
            protocols
                .clone()
                .find_map(|(index, protocol)| take(index, protocol, member))
        }),
        Preference::Server => protocols.clone().find_map(|(index, protocol)| {
            offered().find_map(|member| take(index, protocol, member))
        }),
    };
    match chosen {
        Some(choice) => choice,
        None if declined.is_empty() => Choice::Unsupported,
        None => Choice::Declined,
    }
}
