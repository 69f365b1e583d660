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
    /// The connection failed.
    Io(io::Error),
    /// The connection ended without a close frame.
    NoCloseFrame,
    Closed,
    /// The peer violated the protocol.
    Protocol(&'static str),
    NotUtf8,
    /// A message of the peer has at least this size.
    TooLarge {
        size: usize,
        max: usize,
    },
    Idle,
    RateLimited,
    TooSlow,
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
    /// The peer read [broadcasts](super::Broadcast) too slowly, and receives the code of
    /// [`SlowConsumer::Close`](super::SlowConsumer::Close).
    TooSlow,
    /// The handler tried to send a close frame with a code that [may not be sent](super::CloseFrame::code).
    InvalidCode,
}

impl Error {
    pub(super) fn io(error: io::Error) -> Self {
        Self {
            repr: Repr::Io(error),
        }
    }

    pub(super) fn no_close_frame() -> Self {
        Self {
            repr: Repr::NoCloseFrame,
        }
    }

    pub(super) fn closed() -> Self {
        Self { repr: Repr::Closed }
    }

    pub(super) fn protocol(message: &'static str) -> Self {
        Self {
            repr: Repr::Protocol(message),
        }
    }

    /// A text or the reason of a close frame is not UTF-8.
    pub(super) fn not_utf8() -> Self {
        Self {
            repr: Repr::NotUtf8,
        }
    }

    /// A message of `size` bytes or more is over the limit of `max` bytes.
    pub(super) fn too_large(size: usize, max: usize) -> Self {
        let repr = Repr::TooLarge { size, max };
        Self { repr }
    }

    pub(super) fn idle() -> Self {
        Self { repr: Repr::Idle }
    }

    pub(super) fn rate_limited() -> Self {
        Self {
            repr: Repr::RateLimited,
        }
    }

    pub(super) fn too_slow() -> Self {
        let repr = Repr::TooSlow;
        Self { repr }
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

    /// Copies an error of the connection, which a failed `send` returns and which ends the connection too.
    #[cfg(feature = "client")]
    pub(super) fn copy_of_connection(&self) -> Option<Self> {
        match &self.repr {
            Repr::Io(error) => Some(Self::io(io::Error::new(error.kind(), error.to_string()))),
            Repr::Idle => Some(Self::idle()),
            _ => None,
        }
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
        match &self.repr {
            Repr::Io(_) | Repr::NoCloseFrame | Repr::Unanswered => ErrorKind::Io,
            Repr::Closed => ErrorKind::Closed,
            Repr::Protocol(_) | Repr::NotUtf8 => ErrorKind::Protocol,
            Repr::TooLarge { .. } | Repr::TooLong(_) => ErrorKind::TooLarge,
            Repr::Idle => ErrorKind::Idle,
            Repr::RateLimited => ErrorKind::RateLimited,
            Repr::TooSlow => ErrorKind::TooSlow,
            Repr::Code(_) => ErrorKind::InvalidCode,
        }
    }

    /// Returns the code of the close frame to send to the peer, or `None` to send no frame.
    pub(super) fn close_code(&self) -> Option<u16> {
        match (self.kind(), &self.repr) {
            (_, Repr::NotUtf8) => Some(1007),
            (ErrorKind::Protocol, _) => Some(1002),
            (ErrorKind::TooLarge, _) => Some(1009),
            (ErrorKind::RateLimited, _) => Some(1008),
            (
                ErrorKind::Io
                | ErrorKind::Closed
                | ErrorKind::Idle
                | ErrorKind::TooSlow
                | ErrorKind::InvalidCode,
                _,
            ) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repr {
            Repr::Io(error) => write!(f, "the connection failed: {error}"),
            Repr::NoCloseFrame => f.write_str("the connection ended without a close frame"),
            Repr::Closed => f.write_str("the WebSocket is closed"),
            Repr::Protocol(message) => write!(f, "the peer violated the protocol: {message}"),
            Repr::NotUtf8 => f.write_str("the peer sent text that is not UTF-8"),
            Repr::TooLarge { size, max } => {
                write!(
                    f,
                    "a message of {size} bytes or more is over the limit of {max} bytes"
                )
            }
            Repr::Idle => f.write_str("the peer did not answer a ping, or did not read"),
            Repr::RateLimited => f.write_str("the peer exceeded the rate limit"),
            Repr::TooSlow => f.write_str("the peer read broadcasts too slowly"),
            Repr::Unanswered => f.write_str("the peer did not answer the close frame"),
            Repr::TooLong(size) => write!(f, "a control frame of {size} bytes is too long"),
            Repr::Code(code) => write!(f, "a close frame may not be sent with the code {code}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.repr {
            Repr::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.repr {
            Repr::Io(error) => error,
            repr => Self::other(Error { repr }),
        }
    }
}
