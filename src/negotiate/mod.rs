//! Negotiation: pure functions of the request head, without IO.

pub(crate) mod answer;
pub(crate) mod connect;
pub(crate) mod extended_connect;
#[cfg(feature = "tunnel")]
pub(crate) mod host;
pub(crate) mod http1;
#[cfg(any(feature = "tunnel", all(feature = "client", feature = "websocket")))]
pub(crate) mod join;
pub(crate) mod kind;
pub(crate) mod protocol;
pub(crate) mod token;
pub(crate) mod upgrade_response;
#[cfg(any(feature = "tunnel", feature = "websocket"))]
pub(crate) mod websocket_key;

use crate::negotiate::{
    kind::UpgradeKind,
    protocol::{Member, Protocol},
};
use http::{Extensions, HeaderMap, Method, Version, header, request::Parts, uri::Authority};

/// Returns the kind of upgrade that a request asks for, or `None` for a plain request.
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

/// Returns the requested host, with an optional port.
pub(crate) fn authority(parts: &Parts) -> Option<Authority> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let authority = match (parts.uri.authority(), hosts.next(), hosts.next()) {
        (Some(authority), ..) => Some(authority.clone()),
        (None, Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        (None, ..) => None,
    };
    authority.filter(connect::is_host_and_port)
}

/// Returns the offered protocols, in the client's order.
pub(crate) fn offered(kind: UpgradeKind, parts: &Parts) -> impl Iterator<Item = Member<'_>> {
    let (list, one) = match kind {
        UpgradeKind::Upgrade => (Some(http1::offered(&parts.headers)), None),
        UpgradeKind::Connect => (None, None),
        UpgradeKind::ExtendedConnect => (None, extended_connect::offered(&parts.extensions)),
    };
    list.into_iter().flatten().chain(one)
}

/// The order of preference among protocols that are both offered and supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preference {
    /// The order in which the client lists the protocols, by descending preference (RFC 9110 §7.8).
    #[default]
    Client,
    /// The order in which the handlers were registered.
    Server,
}

/// The treatment of upgrade requests that match no handler: see
/// [`UpgradeLayer::unsupported`](crate::UpgradeLayer::unsupported).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// The inner service gets the request, and may ignore the offer (RFC 9110 §7.8).
    Pass,
    /// The layer rejects the request.
    ///
    /// | request | status |
    /// |---|---|
    /// | `Upgrade` on HTTP/1.1 | 426 with the list of supported protocols (RFC 9110 §15.5.22) |
    /// | CONNECT | 501 (RFC 9110 §15.6.2) |
    /// | extended CONNECT | 501 (RFC 9220 §3) |
    Refuse,
}

/// The outcome of [`choose`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// The handler at `index` takes the offered `member`.
    Chosen { index: usize, member: Member<'a> },
    /// Offered protocols are supported, but `matches` returned `false` for each.
    Declined,
    /// None of the offered protocols is supported.
    Unsupported,
}

/// Chooses one of the `supported` protocols for an offer.
///
/// `matches` gets the index of a protocol that is offered and supported. It is called in the order of preference, at
/// most once for each protocol, until it returns `true`.
pub(crate) fn choose<'a, 'p, O>(
    offered: impl Fn() -> O,
    supported: impl Iterator<Item = &'p Protocol> + Clone,
    preference: Preference,
    matches: impl Fn(usize) -> bool,
) -> Choice<'a>
where
    O: Iterator<Item = Member<'a>>,
{
    // A client may offer the same protocol many times: call `matches` only once for it.
    let mut declined = Vec::new();
    let mut take = |index: usize, protocol: &Protocol, member: Member<'a>| {
        if !protocol.takes(member) || declined.contains(&index) {
            return None;
        }
        if matches(index) {
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
