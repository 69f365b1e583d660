//! Finds the failed part of an inner client: the connector, TLS, or the connection.

use super::{Error, ErrorKind};
use crate::error::causes;
use hyper_util::client::legacy;
use std::{error::Error as StdError, io};

pub(super) const TIMED_OUT: &str = "the handshake took too long";

/// The cause of an error of another type.
pub(super) enum Cause {
    /// Our own `Error`, and whether a connector returned it.
    Own(Error, bool),
    Kind(ErrorKind, &'static str),
}

/// Finds the cause of an error of the inner client, or of a connector.
pub(super) fn of(error: &(dyn StdError + 'static), mut is_connector: bool) -> Cause {
    let mut is_hyper = false;
    let mut is_network = false;
    for error in causes(error) {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Cause::Own(own.share(), is_connector);
        }
        if error
            .downcast_ref::<legacy::Error>()
            .is_some_and(legacy::Error::is_connect)
        {
            is_connector = true;
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_parse() {
                return Cause::Kind(ErrorKind::Transport, "the response is not valid HTTP");
            }
            is_hyper = true;
        }
        if error.is::<tower::timeout::error::Elapsed>() || error.is::<tokio::time::error::Elapsed>()
        {
            return Cause::Kind(ErrorKind::Timeout, TIMED_OUT);
        }
        match error.downcast_ref().map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => return Cause::Kind(ErrorKind::Timeout, TIMED_OUT),
            // rustls has one error for an untrusted certificate and for an alert of the server. The alert may arrive
            // after the handshake: in TLS 1.3 the server checks the client's certificate then.
            Some(io::ErrorKind::InvalidData) if is_connector || is_hyper => {
                return Cause::Kind(ErrorKind::Tls, "TLS failed");
            }
            // A custom error of the connector, or a wrapper around another error.
            Some(
                io::ErrorKind::Other | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported,
            )
            | None => {}
            Some(_) => is_network = true,
        }
    }
    let (kind, message) = match (is_connector, is_network || is_hyper) {
        (true, true) => (ErrorKind::Unreachable, "the connection could not be made"),
        (true, false) => (ErrorKind::Connector, "the connector failed"),
        (false, _) => (ErrorKind::Transport, "the connection broke"),
    };
    Cause::Kind(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: impl Into<crate::error::BoxError>, is_connector: bool) -> ErrorKind {
        match of(&*error.into(), is_connector) {
            Cause::Own(error, _) => error.kind(),
            Cause::Kind(kind, _) => kind,
        }
    }

    fn io(kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, "it failed")
    }

    #[test]
    fn connector_errors_have_their_kind() {
        for (error, expected) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unreachable),
            (io::ErrorKind::ConnectionReset, ErrorKind::Unreachable),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Unreachable),
            (io::ErrorKind::PermissionDenied, ErrorKind::Unreachable),
            (io::ErrorKind::TimedOut, ErrorKind::Timeout),
            (io::ErrorKind::InvalidData, ErrorKind::Tls),
            (io::ErrorKind::InvalidInput, ErrorKind::Connector),
            (io::ErrorKind::Other, ErrorKind::Connector),
        ] {
            assert_eq!(kind(io(error), true), expected, "{error}");
            // hyper-rustls wraps the error of a handshake like this.
            assert_eq!(kind(io::Error::other(io(error)), true), expected, "{error}");
        }
        assert_eq!(kind("unsupported scheme", true), ErrorKind::Connector);
    }

    #[test]
    fn errors_of_a_service_are_of_the_transport() {
        for error in [io::ErrorKind::ConnectionRefused, io::ErrorKind::InvalidData] {
            assert_eq!(kind(io(error), false), ErrorKind::Transport, "{error}");
        }
        assert_eq!(kind("it failed", false), ErrorKind::Transport);
    }

    #[tokio::test(start_paused = true)]
    async fn elapsed_error_is_a_timeout() {
        let elapsed = tokio::time::timeout(std::time::Duration::ZERO, std::future::pending::<()>());
        let elapsed = elapsed.await.expect_err("it is over");
        assert_eq!(kind(elapsed, true), ErrorKind::Timeout);
        let elapsed = tower::timeout::error::Elapsed::new();
        assert_eq!(kind(elapsed, true), ErrorKind::Timeout);
    }

    #[test]
    fn client_error_keeps_its_kind() {
        let own = || Error::request("the request has no host");
        assert_eq!(kind(own(), true), ErrorKind::Request);
        assert_eq!(kind(io::Error::other(own()), false), ErrorKind::Request);
    }
}
