//! Failures to reach a target, and their rejections.

use super::policy::Denied;
use crate::{error::BoxError, message::rejection::Rejection};
use http::{HeaderValue, StatusCode, uri::Authority};
use std::{fmt, time::Duration};

/// A failure to reach a target.
///
/// The `Display` text is for the log only: it can contain addresses of the internal network, which clients must not
/// receive.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    details: String,
    source: Option<BoxError>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Denied(Denied),
    Unresolved,
    #[cfg(feature = "datagram")]
    ResolvingTimedOut,
    Unreachable,
    TimedOut,
}

impl Failure {
    fn new(kind: Kind, details: String) -> Self {
        Self {
            kind,
            details,
            source: None,
        }
    }

    fn with_source(mut self, source: BoxError) -> Self {
        self.source = Some(source);
        self
    }

    pub(crate) fn denied(denied: Denied, target: impl fmt::Display) -> Self {
        Self::new(Kind::Denied(denied), target.to_string())
    }

    /// The resolver failed.
    pub(crate) fn unresolved(name: &str, error: BoxError) -> Self {
        Self::new(Kind::Unresolved, name.to_owned()).with_source(error)
    }

    /// The resolver returned no addresses.
    pub(crate) fn no_address(name: &str) -> Self {
        Self::new(Kind::Unresolved, format!("{name} has no address"))
    }

    pub(crate) fn unreachable(target: impl fmt::Display, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::TimedOut => Kind::TimedOut,
            _ => Kind::Unreachable,
        };
        Self::new(kind, target.to_string()).with_source(error.into())
    }

    #[cfg(feature = "datagram")]
    pub(crate) fn resolving_timed_out(target: &Authority, limit: Duration) -> Self {
        Self {
            kind: Kind::ResolvingTimedOut,
            ..Self::timed_out(target, limit)
        }
    }

    pub(crate) fn timed_out(target: &Authority, limit: Duration) -> Self {
        Self::new(
            Kind::TimedOut,
            format!("{target}: timed out after {limit:?}"),
        )
    }
}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        // The values of Proxy-Status have the types of RFC 9209 §2.3, and no details: those could contain addresses.
        let (status, message, proxy_status) = match failure.kind {
            Kind::Denied(Denied::Port) => (
                StatusCode::FORBIDDEN,
                "this port is not allowed",
                "tower-upgrade; error=http_request_denied",
            ),
            Kind::Denied(Denied::Host) => (
                StatusCode::FORBIDDEN,
                "this host is not allowed",
                "tower-upgrade; error=http_request_denied",
            ),
            Kind::Denied(Denied::Address) => (
                StatusCode::FORBIDDEN,
                "the address of this host is not allowed",
                "tower-upgrade; error=destination_ip_prohibited",
            ),
            Kind::Unresolved => (
                StatusCode::BAD_GATEWAY,
                "the host cannot be resolved",
                "tower-upgrade; error=dns_error",
            ),
            #[cfg(feature = "datagram")]
            Kind::ResolvingTimedOut => (
                StatusCode::GATEWAY_TIMEOUT,
                "the host cannot be resolved in time",
                "tower-upgrade; error=dns_timeout",
            ),
            Kind::Unreachable => (
                StatusCode::BAD_GATEWAY,
                "the host cannot be reached",
                "tower-upgrade; error=destination_unavailable",
            ),
            Kind::TimedOut => (
                StatusCode::GATEWAY_TIMEOUT,
                "the host cannot be reached in time",
                "tower-upgrade; error=connection_timeout",
            ),
        };
        Self::new(status, message)
            .header("proxy-status", HeaderValue::from_static(proxy_status))
            .with_source(failure)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Without a shorter limit, the connection attempt ends at the timeout of the operating system.
    #[test]
    fn c6_timeout_of_the_system_is_a_504() {
        for (kind, status) in [
            (io::ErrorKind::TimedOut, StatusCode::GATEWAY_TIMEOUT),
            (io::ErrorKind::ConnectionRefused, StatusCode::BAD_GATEWAY),
            (io::ErrorKind::NetworkUnreachable, StatusCode::BAD_GATEWAY),
            (io::ErrorKind::PermissionDenied, StatusCode::BAD_GATEWAY),
        ] {
            let failure = Failure::unreachable("192.0.2.1:443", kind.into());
            assert_eq!(Rejection::from(failure).status(), status, "{kind}");
        }
    }
}
