//! What is sent and received.

use bytes::Bytes;
use std::{fmt, ops::Deref, str::Utf8Error};
use tungstenite::protocol::frame;

/// A message, or a control frame (RFC 6455 §5.5 and §5.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(Utf8Bytes),
    /// Bytes.
    Binary(Bytes),
    /// A ping, of up to 125 bytes. One that was received has been answered.
    Ping(Bytes),
    /// A pong, of up to 125 bytes. To send one unasked is a heartbeat that wants no answer.
    Pong(Bytes),
    /// The end, with a reason if the peer gave one. One that was received has been answered; nothing can be
    /// sent after it. What a peer sent with a code that may not be sent is received with 1002, as it was answered.
    Close(Option<CloseFrame>),
}

/// Why a WebSocket is closed (RFC 6455 §7.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code, such as 1000 (normal), 1001 (going away), 1008 (policy), or one from 3000 to 4999 of
    /// one's own.
    ///
    /// What may be sent are those that are registered, which are 1000 to 1003 and 1007 to 1014, and 3000 to 4999.
    /// The others mean nothing, or stand for a close frame that has no code or never came, as 1005 and 1006 do: a
    /// peer takes them for an error (RFC 6455 §7.4). Here to send one is an error of kind
    /// [`InvalidCode`](super::ErrorKind::InvalidCode). For no code at all there is `Message::Close(None)`.
    pub code: u16,
    /// For people to read, up to 123 bytes.
    pub reason: Utf8Bytes,
}

/// Bytes that are UTF-8: text that is cheap to clone, and to make of [`Bytes`] and turn into them.
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
    /// The length of its payload, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.as_str().len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(frame) => frame.as_ref().map_or(0, |frame| 2 + frame.reason.len()),
        }
    }

    /// A message of text.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// A message of bytes.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Its text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn from_codec(message: tungstenite::Message) -> Self {
        match message {
            tungstenite::Message::Text(text) => Self::Text(Utf8Bytes(text)),
            tungstenite::Message::Binary(bytes) => Self::Binary(bytes),
            tungstenite::Message::Ping(bytes) => Self::Ping(bytes),
            tungstenite::Message::Pong(bytes) => Self::Pong(bytes),
            tungstenite::Message::Close(close) => Self::Close(close.map(|close| CloseFrame {
                code: close.code.into(),
                reason: Utf8Bytes(close.reason),
            })),
            tungstenite::Message::Frame(_) => unreachable!("a codec reads messages"),
        }
    }

    /// The same in memory of its own, of which it has no more than it needs.
    pub(super) fn detached(self) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.as_str().into()),
            Self::Binary(bytes) => Self::Binary(Bytes::copy_from_slice(&bytes)),
            Self::Ping(bytes) => Self::Ping(Bytes::copy_from_slice(&bytes)),
            Self::Pong(bytes) => Self::Pong(Bytes::copy_from_slice(&bytes)),
            Self::Close(frame) => {
                Self::Close(frame.map(|frame| CloseFrame::new(frame.code, frame.reason.as_str())))
            }
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
    /// A reason to close.
    pub fn new(code: u16, reason: impl Into<Utf8Bytes>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// Whether it may be sent (RFC 6455 §7.4, and the registry of close codes).
    pub(super) fn has_valid_code(&self) -> bool {
        matches!(self.code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    pub(super) fn into_codec(self) -> frame::CloseFrame {
        frame::CloseFrame {
            code: self.code.into(),
            reason: self.reason.0,
        }
    }
}

impl Utf8Bytes {
    /// Text that is there for as long as the program is: it is not copied.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(tungstenite::Utf8Bytes::from_static(text))
    }

    /// The text.
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

/// Without a copy.
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
