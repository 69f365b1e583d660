//! Messages and close frames.

use bytes::Bytes;
use std::{fmt, ops::Deref, str::Utf8Error};

/// A message, or a control frame (RFC 6455 §5.5 and §5.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping of up to 125 bytes. A received ping is answered automatically.
    Ping(Bytes),
    /// A pong of up to 125 bytes. An unsolicited pong is a heartbeat that requests no answer.
    Pong(Bytes),
    /// A close frame, with its code and reason, if any. A received close frame is answered automatically. No message
    /// can be sent after a close frame was sent or received. If the peer's code is invalid, the code here and in the
    /// answer is 1002.
    Close(Option<CloseFrame>),
}

/// The code and reason of a close frame (RFC 6455 §7.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code, such as 1000 (normal), 1001 (going away), 1008 (policy), or an application-defined code from
    /// 3000 to 4999.
    ///
    /// Valid codes are 1000 to 1003 and 1007 to 1014, which are registered, and 3000 to 4999. All other codes are
    /// undefined or reserved: 1005, for example, stands for a close frame without a code, and 1006 for a missing close
    /// frame. A peer treats a frame with such a code as an error (RFC 6455 §7.4). Sending an invalid code fails with
    /// kind [`InvalidCode`](super::ErrorKind::InvalidCode). To send a close frame without a code, use
    /// `Message::Close(None)`.
    pub code: u16,
    /// A human-readable reason of up to 123 bytes.
    pub reason: Utf8Bytes,
}

/// UTF-8 text in [`Bytes`]: cheap to clone, and converted from and to [`Bytes`] without a copy.
///
/// ```
/// use bytes::Bytes;
/// use tower_upgrade::websocket::{Message, Utf8Bytes};
///
/// let text = Utf8Bytes::try_from(Bytes::from_static(b"hello"))?;
/// assert_eq!(Message::text(text.clone()), Message::from("hello"));
/// assert_eq!(Bytes::from(text), "hello");
/// assert!(Utf8Bytes::try_from(Bytes::from_static(b"\xff")).is_err());
/// # Ok::<_, std::str::Utf8Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Utf8Bytes(tungstenite::Utf8Bytes);

impl Message {
    /// Returns the length of the payload, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.as_str().len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(frame) => frame.as_ref().map_or(0, |frame| 2 + frame.reason.len()),
        }
    }

    /// Creates a text message.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// Creates a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Returns the text of a text message, and `None` for any other message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<Utf8Bytes> for Message {
    fn from(text: Utf8Bytes) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

impl CloseFrame {
    /// Creates a close frame.
    pub fn new(code: u16, reason: impl Into<Utf8Bytes>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// Returns whether the code may be sent (RFC 6455 §7.4 and the IANA registry of close codes).
    pub(super) fn has_valid_code(&self) -> bool {
        matches!(self.code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl Utf8Bytes {
    /// Creates a `Utf8Bytes` from a static string, without a copy.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(tungstenite::Utf8Bytes::from_static(text))
    }

    /// Returns the text as a `&str`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Utf8Bytes {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Utf8Bytes {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Utf8Bytes {
    fn as_ref(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Validates the bytes, without a copy.
impl TryFrom<Bytes> for Utf8Bytes {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        bytes.try_into().map(Self)
    }
}

impl From<Utf8Bytes> for Bytes {
    fn from(text: Utf8Bytes) -> Self {
        text.0.into()
    }
}

impl PartialEq<str> for Utf8Bytes {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Utf8Bytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
