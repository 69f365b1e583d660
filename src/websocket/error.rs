//! What goes wrong in a WebSocket.

use std::{fmt, io};

/// Why a message was not received or sent.
///
/// The peer was told, with a close frame, if it was the peer's mistake.
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
    /// A control frame of this many bytes was to be sent.
    TooLong(usize),
    /// A close frame with this code was to be sent.
    Code(u16),
}

/// What kind of an [`Error`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The peer broke the protocol: it was told so with 1002, or 1007 for text that is no UTF-8.
    Protocol,
    /// A message or a frame is longer than it may be. If it is one that was received, the peer was told so with 1009.
    TooLarge,
    /// The connection broke, or ended without a close frame, or the peer did not answer one in time.
    Io,
    /// Nothing can be sent any more: the WebSocket is closed, or about to be.
    Closed,
    /// The peer did not answer a ping, or did not read.
    Idle,
    /// The client sent more than a [`RateLimit`](super::RateLimit) allows: it was told so with 1008.
    RateLimited,
    /// The code of a close frame that was to be sent is none that [may be sent](super::CloseFrame::code).
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

    /// A close frame was not answered in time.
    pub(super) fn unanswered() -> Self {
        Self {
            repr: Repr::Unanswered,
        }
    }

    /// A control frame has `size` bytes, which are more than it may have.
    pub(super) fn too_long(size: usize) -> Self {
        Self {
            repr: Repr::TooLong(size),
        }
    }

    /// A close frame may not have this code.
    pub(super) fn invalid_code(code: u16) -> Self {
        let repr = Repr::Code(code);
        Self { repr }
    }

    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.repr, Repr::Unanswered)
    }

    /// Whether it is the peer's doing, and not of those who speak here.
    pub(super) fn is_peers(&self) -> bool {
        !matches!(self.repr, Repr::TooLong(_) | Repr::Code(_)) && self.kind() != ErrorKind::Closed
    }

    /// What kind of an error it is.
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

    /// What the peer is to be told, if it can be told anything.
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
            Repr::RateLimited => f.write_str("the client sent more than the rate limit allows"),
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
