//! The kinds of upgrade requests.

use std::fmt;

/// The kind of an upgrade request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpgradeKind {
    /// `Upgrade` on HTTP/1.1 (RFC 9110 §7.8), answered with 101.
    Upgrade,
    /// CONNECT on any version of HTTP (RFC 9110 §9.3.6), answered with 200.
    ///
    /// The request names a host and a port, and no protocol.
    Connect,
    /// Extended CONNECT on HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220), answered with 200.
    ///
    /// The request names one protocol in `:protocol`.
    ExtendedConnect,
}

impl UpgradeKind {
    /// Returns `upgrade`, `connect` or `extended-connect`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Connect => "connect",
            Self::ExtendedConnect => "extended-connect",
        }
    }
}

impl fmt::Display for UpgradeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
