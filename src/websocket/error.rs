//! The errors of a WebSocket.

use std::{fmt, io};

/// An error from receiving or sending a message.
///
/// If the peer caused the error, the WebSocket sends a close frame with the matching code.
#[derive(Debug)]
pub struct Error {
    repr: Repr,
}

#[derive(Debug)]
enum Repr {
    Codec(tungstenite::Error),
    Idle,
    RateLimited,
    Unanswered,
    /// The handler tried to send a control frame of this many bytes.
    TooLong(usize),
    /// The handler tried to send a close frame with this code.
    Code(u16),
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The peer violated the protocol, and receives 1002, or 1007 for text that is not UTF-8.
    Protocol,
    /// A message or a frame exceeds its size limit. If the peer sent the message, the peer receives 1009.
    TooLarge,
    /// The connection failed or ended without a close frame, or the peer did not answer a close frame in time.
    Io,
    /// The WebSocket is closed or closing, and sends no more messages.
    Closed,
    /// The peer did not answer a ping, or did not read.
    Idle,
    /// The peer exceeded the [`RateLimit`](super::RateLimit), and receives 1008.
    RateLimited,
    /// The handler tried to send a close frame with a code that [may not be sent](super::CloseFrame::code).
    InvalidCode,
}

impl Error {
    pub(super) fn codec(error: tungstenite::Error) -> Self {
        Self {
            repr: Repr::Codec(error),
        }
    }

    pub(super) fn closed() -> Self {
        Self::codec(tungstenite::Error::AlreadyClosed)
    }

    pub(super) fn idle() -> Self {
        Self { repr: Repr::Idle }
    }

    pub(super) fn rate_limited() -> Self {
        Self {
            repr: Repr::RateLimited,
        }
    }

    /// The peer did not answer a close frame in time.
    pub(super) fn unanswered() -> Self {
        Self {
            repr: Repr::Unanswered,
        }
    }

    /// A control frame of `size` bytes is over the limit (RFC 6455 §5.5).
    pub(super) fn too_long(size: usize) -> Self {
        Self {
            repr: Repr::TooLong(size),
        }
    }

    /// A close frame may not be sent with this code.
    pub(super) fn invalid_code(code: u16) -> Self {
        let repr = Repr::Code(code);
        Self { repr }
    }

    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.repr, Repr::Unanswered)
    }

    /// Returns whether the peer or the connection caused the error, and not the session handler.
    pub(super) fn is_caused_by_peer(&self) -> bool {
        !matches!(self.repr, Repr::TooLong(_) | Repr::Code(_)) && self.kind() != ErrorKind::Closed
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        use tungstenite::error::ProtocolError::{ResetWithoutClosingHandshake, SendAfterClosing};
        match &self.repr {
            Repr::Idle => ErrorKind::Idle,
            Repr::RateLimited => ErrorKind::RateLimited,
            Repr::Unanswered => ErrorKind::Io,
            Repr::TooLong(_) => ErrorKind::TooLarge,
            Repr::Code(_) => ErrorKind::InvalidCode,
            Repr::Codec(error) => match error {
                tungstenite::Error::Io(_)
                | tungstenite::Error::Protocol(ResetWithoutClosingHandshake) => ErrorKind::Io,
                tungstenite::Error::ConnectionClosed
                | tungstenite::Error::AlreadyClosed
                | tungstenite::Error::Protocol(SendAfterClosing) => ErrorKind::Closed,
                tungstenite::Error::Capacity(_) => ErrorKind::TooLarge,
                _ => ErrorKind::Protocol,
            },
        }
    }

    /// Returns the code of the close frame to send to the peer, or `None` to send no frame.
    pub(super) fn close_code(&self) -> Option<u16> {
        match (self.kind(), &self.repr) {
            (_, Repr::Codec(tungstenite::Error::Utf8(_))) => Some(1007),
            (ErrorKind::Protocol, _) => Some(1002),
            (ErrorKind::TooLarge, _) => Some(1009),
            (ErrorKind::RateLimited, _) => Some(1008),
            (ErrorKind::Io | ErrorKind::Closed | ErrorKind::Idle | ErrorKind::InvalidCode, _) => {
                None
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repr {
            Repr::Codec(error) => error.fmt(f),
            Repr::Idle => f.write_str("the peer did not answer a ping, or did not read"),
            Repr::RateLimited => f.write_str("the peer exceeded the rate limit"),
            Repr::Unanswered => f.write_str("the peer did not answer the close frame"),
            Repr::TooLong(size) => write!(f, "a control frame of {size} bytes is too long"),
            Repr::Code(code) => write!(f, "a close frame may not be sent with the code {code}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.repr {
            Repr::Codec(error) => error.source(),
            Repr::Idle
            | Repr::RateLimited
            | Repr::Unanswered
            | Repr::TooLong(_)
            | Repr::Code(_) => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.repr {
            Repr::Codec(tungstenite::Error::Io(error)) => error,
            repr => Self::other(Error { repr }),
        }
    }
}
