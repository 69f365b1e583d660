//! The errors of HTTP/3 connections and streams.

use super::code;
use crate::error::BoxError;
use quinn::{ConnectionError, ReadError, VarInt, WriteError};
use std::{error, fmt, io};

/// An error of an HTTP/3 connection, or of one of its streams.
#[derive(Clone, Debug)]
pub struct Error(Cause);

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The peer cancelled the stream: it reset its side, or refuses to receive more. The connection continues.
    Cancelled,
    /// The connection was closed or has timed out, or the peer accepts no further requests. [`source`](error::Error::source) is quinn's error.
    Connection,
    /// The peer violated HTTP/3. A violation that concerns the whole connection has closed it.
    Protocol,
    /// Requests or sessions were still open at the deadline of the shutdown, which has closed the connection.
    Timeout,
}

#[derive(Clone, Debug)]
enum Cause {
    Cancelled(VarInt),
    Connection(ConnectionError),
    /// The peer violated HTTP/3. If `is_fatal`, the violation must close the connection with `code`.
    Violation {
        code: VarInt,
        reason: &'static str,
        is_fatal: bool,
    },
    Closed,
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "for clients"))]
    GoingAway,
    Timeout,
}

impl Error {
    /// A violation that closes the connection.
    pub(crate) fn fatal(code: VarInt, reason: &'static str) -> Self {
        Self(Cause::Violation {
            code,
            reason,
            is_fatal: true,
        })
    }

    /// A malformed message, which resets its stream (RFC 9114 §4.1.2).
    pub(crate) fn malformed(reason: &'static str) -> Self {
        Self(Cause::Violation {
            code: code::MESSAGE_ERROR,
            reason,
            is_fatal: false,
        })
    }

    /// The stream ended before the end of its message.
    pub(crate) fn incomplete() -> Self {
        Self(Cause::Violation {
            code: code::REQUEST_INCOMPLETE,
            reason: "the stream ended within a request head",
            is_fatal: false,
        })
    }

    /// The peer has announced that it accepts no further requests.
    #[cfg(feature = "client")]
    pub(crate) fn going_away() -> Self {
        Self(Cause::GoingAway)
    }

    pub(crate) fn timeout() -> Self {
        Self(Cause::Timeout)
    }

    // Not `From`, which would make the errors of quinn a part of the public API.
    pub(crate) fn connection(error: ConnectionError) -> Self {
        Self(Cause::Connection(error))
    }

    pub(crate) fn read(error: ReadError) -> Self {
        Self(match error {
            ReadError::Reset(code) => Cause::Cancelled(code),
            ReadError::ConnectionLost(error) => Cause::Connection(error),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Cause::Closed,
        })
    }

    pub(crate) fn write(error: WriteError) -> Self {
        Self(match error {
            WriteError::Stopped(code) => Cause::Cancelled(code),
            WriteError::ConnectionLost(error) => Cause::Connection(error),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Cause::Closed,
        })
    }

    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.0 {
            Cause::Cancelled(_) | Cause::Closed => ErrorKind::Cancelled,
            Cause::Connection(_) | Cause::GoingAway => ErrorKind::Connection,
            Cause::Violation { .. } => ErrorKind::Protocol,
            Cause::Timeout => ErrorKind::Timeout,
        }
    }

    /// Returns the error code (RFC 9114 §8.1) that the peer sent with a [cancelled](ErrorKind::Cancelled) stream, or
    /// that this side sent after a [violation](ErrorKind::Protocol).
    #[must_use]
    pub fn code(&self) -> Option<u64> {
        match self.0 {
            Cause::Cancelled(code) | Cause::Violation { code, .. } => Some(code.into_inner()),
            Cause::Connection(_) | Cause::Closed | Cause::GoingAway | Cause::Timeout => None,
        }
    }

    /// Returns the code and the reason if this error must close the connection.
    pub(crate) fn as_fatal(&self) -> Option<(VarInt, &'static str)> {
        match self.0 {
            Cause::Violation {
                code,
                reason,
                is_fatal: true,
            } => Some((code, reason)),
            _ => None,
        }
    }

    /// Returns `true` if only the stream has failed, and the connection goes on.
    pub(crate) fn is_of_stream(&self) -> bool {
        matches!(self.0, Cause::Cancelled(_) | Cause::Closed)
    }

    /// Returns the code with which the stream is reset because of this error.
    pub(crate) fn reset_code(&self) -> VarInt {
        match self.0 {
            Cause::Violation { code, .. } => code,
            _ => code::REQUEST_CANCELLED,
        }
    }

    /// Returns `true` if the connection was closed without an error, by either side.
    pub(crate) fn is_orderly_close(&self) -> bool {
        match &self.0 {
            Cause::Connection(ConnectionError::LocallyClosed) => true,
            // libcurl closes with a frame of QUIC's transport.
            Cause::Connection(ConnectionError::ConnectionClosed(close)) => {
                close.error_code == quinn::TransportErrorCode::NO_ERROR
            }
            Cause::Connection(ConnectionError::ApplicationClosed(close)) => {
                // Some clients close with the code 0.
                close.error_code == code::NO_ERROR || close.error_code == VarInt::from_u32(0)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Cancelled(code) => {
                let code = code.into_inner();
                write!(f, "the peer cancelled the stream (code {code:#x})")
            }
            Cause::Connection(_) => f.write_str("the connection was closed"),
            Cause::Violation { code, reason, .. } => {
                let code = code.into_inner();
                write!(f, "{reason} (code {code:#x})")
            }
            Cause::GoingAway => f.write_str("the peer accepts no further requests"),
            Cause::Closed => f.write_str("the stream was closed"),
            Cause::Timeout => f.write_str("requests were open at the deadline of the shutdown"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.0 {
            Cause::Connection(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error.0 {
            Cause::Cancelled(_) => io::ErrorKind::ConnectionReset,
            Cause::Connection(ConnectionError::TimedOut) => io::ErrorKind::TimedOut,
            Cause::Connection(_) => io::ErrorKind::ConnectionAborted,
            Cause::Violation { .. } => io::ErrorKind::InvalidData,
            Cause::Closed | Cause::GoingAway => io::ErrorKind::NotConnected,
            Cause::Timeout => io::ErrorKind::TimedOut,
        };
        Self::new(kind, BoxError::from(error))
    }
}
