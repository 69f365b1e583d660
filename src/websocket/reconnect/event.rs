//! The events of a `Reconnecting`, and the causes of a failure.

use super::{backoff::Demand, retry_after::retry_after};
use crate::{
    client,
    error::BoxError,
    websocket::{CloseFrame, Error, ErrorKind, Message},
};
use http::{StatusCode, response};
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// An event of a [`Reconnecting`](super::Reconnecting).
///
/// `Connected` comes first on each connection, then its messages, then `Disconnected`. A failed attempt is a
/// `Disconnected` without a `Connected`.
#[derive(Debug)]
pub enum Event {
    /// The WebSocket is open. Resume here: the server has no state of the previous connection. Holds the head of the
    /// upgrade response.
    Connected(response::Parts),
    /// A message, a ping or a pong, as [`WebSocket::recv`](crate::websocket::WebSocket::recv) returns it. A close frame
    /// is in the [`Cause`] instead.
    Message(Message),
    /// An attempt has failed, or the connection is lost.
    Disconnected(Disconnected),
}

/// A failed attempt, or the loss of the connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct Disconnected {
    /// The cause of the failure.
    pub cause: Cause,
    /// The number of failures in a row, this one included.
    pub failures: u32,
    /// The wait before the next attempt, or `None` if no attempt follows: the cause is permanent, or a limit of the
    /// [`Backoff`](super::Backoff) is reached.
    pub retry_in: Option<Duration>,
}

/// The state of a [`Reconnecting`](super::Reconnecting).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An attempt is under way, or begins with the next call that receives.
    Connecting {
        /// The number of the attempt since the last stable connection, from 1 on.
        attempt: u32,
    },
    /// The WebSocket is open.
    Connected,
    /// The next attempt waits.
    Waiting {
        /// The rest of the wait.
        remaining: Duration,
    },
    /// No attempt follows.
    Ended,
}

/// The cause of a failed attempt or of a lost connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The handshake failed.
    Handshake(client::Error),
    /// The server sent a close frame, with its code and reason, if any.
    Closed(Option<CloseFrame>),
    /// The connection broke, the server did not answer a ping, or the server violated the protocol or a limit.
    Failed(Error),
    /// The application has called [`Reconnecting::reconnect`](super::Reconnecting::reconnect) with this error.
    Abandoned(BoxError),
}

impl Cause {
    /// Returns whether another attempt may help, as the [table](super#another-attempt) says.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Handshake(error) => {
                let status = error.response().map(http::Response::status);
                may_help(error.kind(), status)
            }
            Self::Closed(frame) => {
                let code = frame.as_ref().map(|frame| frame.code);
                matches!(code, Some(1001 | 1011..=1014))
            }
            Self::Failed(error) => matches!(error.kind(), ErrorKind::Io | ErrorKind::Idle),
            Self::Abandoned(_) => true,
        }
    }

    /// Returns the code of the server's close frame, if any.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::Closed(Some(frame)) => Some(frame.code),
            _ => None,
        }
    }

    /// Returns the status of the server or of a proxy that refused the handshake, if any.
    ///
    /// The [kind](client::Error::kind) of the error tells the two apart.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Handshake(error) => error.response().map(http::Response::status),
            _ => None,
        }
    }

    pub(super) fn demand(&self) -> Demand {
        match self {
            Self::Handshake(error) => error
                .response()
                .and_then(|response| retry_after(response.headers(), SystemTime::now()))
                .map_or(Demand::None, Demand::RetryAfter),
            Self::Closed(Some(frame)) if frame.code == 1012 => Demand::Restart,
            Self::Closed(Some(frame)) if frame.code == 1013 => Demand::Overload,
            _ => Demand::None,
        }
    }
}

/// Returns whether another handshake may help after a failed one.
fn may_help(kind: client::ErrorKind, status: Option<StatusCode>) -> bool {
    use client::ErrorKind as Kind;

    match (kind, status) {
        (Kind::Unreachable | Kind::Transport | Kind::Timeout, _) => true,
        // Behind a proxy, a server that restarts is a 502, 503 or 504 of the proxy.
        (Kind::Refused | Kind::ProxyRefused, Some(status)) => match status.as_u16() {
            408 | 425 | 429 => true,
            501 | 505 => false,
            _ => status.is_server_error(),
        },
        _ => false,
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(error) => write!(f, "the handshake failed: {error}"),
            Self::Closed(None) => f.write_str("the server closed without a code"),
            Self::Closed(Some(frame)) if frame.reason.is_empty() => {
                write!(f, "the server closed with {}", frame.code)
            }
            Self::Closed(Some(frame)) => {
                let reason = frame.reason.escape_debug();
                write!(f, "the server closed with {}: {reason}", frame.code)
            }
            Self::Failed(error) => error.fmt(f),
            Self::Abandoned(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Handshake(error) => Some(error),
            Self::Closed(_) => None,
            Self::Failed(error) => error.source(),
            Self::Abandoned(error) => error.source(),
        }
    }
}

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.retry_in {
            Some(wait) => write!(f, "{}; next attempt in {wait:.1?}", self.cause),
            None => write!(f, "{}; no attempt follows", self.cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::ErrorKind as Kind;
    use std::io;

    #[test]
    fn k8_kind_of_the_error_decides() {
        for (kind, expected) in [
            (Kind::Unreachable, true),
            (Kind::Transport, true),
            (Kind::Timeout, true),
            (Kind::Request, false),
            (Kind::Unsupported, false),
            (Kind::Tls, false),
            (Kind::Connector, false),
            (Kind::Protocol, false),
        ] {
            assert_eq!(may_help(kind, None), expected, "{kind:?}");
            // Such as a refusal that an inner layer has kept: the kind rules.
            let status = Some(StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(may_help(kind, status), expected, "{kind:?}");
        }
    }

    #[test]
    fn k8_status_of_a_refusal_decides() {
        for kind in [Kind::Refused, Kind::ProxyRefused] {
            for (status, expected) in [
                (200, false),
                (302, false),
                (400, false),
                (401, false),
                (403, false),
                (404, false),
                (407, false),
                (408, true),
                (425, true),
                (426, false),
                (429, true),
                (500, true),
                (501, false),
                (502, true),
                (503, true),
                (504, true),
                (505, false),
                (520, true),
            ] {
                let status = StatusCode::from_u16(status).expect("a status");
                assert_eq!(may_help(kind, Some(status)), expected, "{kind:?} {status}");
            }
        }
    }

    #[test]
    fn close_code_decides() {
        for code in [1001, 1011, 1012, 1013, 1014] {
            let cause = Cause::Closed(Some(CloseFrame::new(code, "")));
            assert!(cause.is_temporary(), "{cause}");
        }
        let permanent = [1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 4999];
        for code in permanent {
            let cause = Cause::Closed(Some(CloseFrame::new(code, "")));
            assert!(!cause.is_temporary(), "{cause}");
        }
        assert!(!Cause::Closed(None).is_temporary());
    }

    #[test]
    fn error_of_the_connection_decides() {
        for (error, expected) in [
            (Error::no_close_frame(), true),
            (Error::io(io::ErrorKind::ConnectionReset.into()), true),
            (Error::idle(), true),
            (Error::protocol("a reserved bit"), false),
            (Error::not_utf8(), false),
            (Error::too_large(2, 1), false),
            (Error::rate_limited(), false),
        ] {
            let cause = Cause::Failed(error);
            assert_eq!(cause.is_temporary(), expected, "{cause}");
        }
        assert!(Cause::Abandoned("no history".into()).is_temporary());
    }
}
