//! Names of protocols.

use crate::negotiate::token::is_token;
use std::{
    convert::Infallible,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

/// The name of a protocol and an optional version: `name` or `name/version`, as in `Upgrade` (RFC 9110 §7.8).
///
/// Both are tokens (RFC 9110 §5.6.2). Comparisons ignore the case of names, but not that of versions: `WebSocket`
/// equals `websocket`, and `chat/1` differs from `chat/1.0` and from `chat`. [`as_str`](Self::as_str) and `Display`
/// keep the original spelling. Cloning does not allocate.
///
/// ```
/// use tower_upgrade::Protocol;
///
/// let protocol = Protocol::try_from("Chat/2")?;
/// assert_eq!(protocol.name(), "Chat");
/// assert_eq!(protocol.version(), Some("2"));
/// assert_eq!(protocol, "chat/2");
/// # Ok::<(), tower_upgrade::InvalidProtocol>(())
/// ```
#[derive(Clone)]
pub struct Protocol {
    text: Arc<str>,
}

impl Protocol {
    /// Returns the name without the version.
    #[must_use]
    pub fn name(&self) -> &str {
        self.member().name
    }

    /// Returns the version, or `None` if the protocol does not have one.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.member().version
    }

    /// Returns `name` or `name/version`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether the protocol is WebSocket, whose name has no version (RFC 6455 §11.2).
    pub(crate) fn is_websocket(&self) -> bool {
        self.name().eq_ignore_ascii_case("websocket")
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Returns whether a handler for this protocol matches the offered `member`. A protocol without a version matches
    /// every version.
    pub(crate) fn takes(&self, member: Member<'_>) -> bool {
        let own = self.member();
        own.name.eq_ignore_ascii_case(member.name)
            && (own.version.is_none() || own.version == member.version)
    }

    /// Returns the offered `member` as a protocol, without an allocation if both are spelled alike.
    pub(crate) fn as_offered(&self, member: Member<'_>) -> Self {
        if *self.text == *member.text {
            self.clone()
        } else {
            member.into()
        }
    }

    fn member(&self) -> Member<'_> {
        Member::split(&self.text)
    }
}

/// A borrowed `name["/"version]`: one protocol of an `Upgrade` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    pub(crate) text: &'a str,
    pub(crate) name: &'a str,
    version: Option<&'a str>,
}

impl<'a> Member<'a> {
    /// Parses a token, or two tokens separated by a slash.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let member = Self::split(std::str::from_utf8(bytes).ok()?);
        let is_valid = is_token(member.name.as_bytes())
            && member
                .version
                .is_none_or(|version| is_token(version.as_bytes()));
        is_valid.then_some(member)
    }

    fn split(text: &'a str) -> Self {
        match text.split_once('/') {
            Some((name, version)) => Self {
                text,
                name,
                version: Some(version),
            },
            None => Self {
                text,
                name: text,
                version: None,
            },
        }
    }

    fn is(&self, other: &Member<'_>) -> bool {
        self.name.eq_ignore_ascii_case(other.name) && self.version == other.version
    }
}

impl From<Member<'_>> for Protocol {
    fn from(member: Member<'_>) -> Self {
        Self {
            text: member.text.into(),
        }
    }
}

impl FromStr for Protocol {
    type Err = InvalidProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Member::parse(text.as_bytes())
            .map(Self::from)
            .ok_or_else(|| InvalidProtocol { text: text.into() })
    }
}

impl TryFrom<&str> for Protocol {
    type Error = InvalidProtocol;

    fn try_from(text: &str) -> Result<Self, InvalidProtocol> {
        text.parse()
    }
}

impl TryFrom<&String> for Protocol {
    type Error = InvalidProtocol;

    fn try_from(text: &String) -> Result<Self, InvalidProtocol> {
        text.parse()
    }
}

impl TryFrom<String> for Protocol {
    type Error = InvalidProtocol;

    fn try_from(text: String) -> Result<Self, InvalidProtocol> {
        text.parse()
    }
}

impl From<&Self> for Protocol {
    fn from(protocol: &Self) -> Self {
        protocol.clone()
    }
}

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Protocol {
    fn eq(&self, other: &Self) -> bool {
        self.member().is(&other.member())
    }
}

impl Eq for Protocol {}

impl Hash for Protocol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let member = self.member();
        for byte in member.name.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        member.version.hash(state);
    }
}

impl PartialEq<str> for Protocol {
    fn eq(&self, other: &str) -> bool {
        self.member().is(&Member::split(other))
    }
}

impl PartialEq<&str> for Protocol {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// The error for a string that is not a valid [`Protocol`].
///
/// A valid string is a token (RFC 9110 §5.6.2), or two tokens separated by one slash. The error message quotes the
/// invalid string.
#[derive(Clone, Debug)]
pub struct InvalidProtocol {
    text: Box<str>,
}

impl fmt::Display for InvalidProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a protocol: expected `name` or `name/version`, both tokens",
            self.text
        )
    }
}

impl std::error::Error for InvalidProtocol {}

impl From<Infallible> for InvalidProtocol {
    /// Converts the error of `TryInto<Protocol>` for a `Protocol` itself, which cannot occur.
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_versions_exactly() {
        let protocol: Protocol = "Chat/a".parse().unwrap();
        assert_eq!(protocol, "chat/a");
        assert_ne!(protocol, "chat/A");
        assert_ne!(protocol, "chat");
        assert_eq!(protocol, "CHAT/a".parse::<Protocol>().unwrap());
    }

    #[test]
    fn parse_error_quotes_invalid_text() {
        for text in ["", "/", "a/", "/1", "a/b/c", "a b", "a,b", "é"] {
            let error = text.parse::<Protocol>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn conversions_agree_with_parsing() {
        let chat: Protocol = "Chat/2".parse().unwrap();
        assert_eq!(chat.as_ref(), "Chat/2");
        assert_eq!(Protocol::from(&chat).as_str(), "Chat/2");
        let text = "Chat/2".to_owned();
        assert_eq!(Protocol::try_from(&text).unwrap().as_str(), "Chat/2");
        assert_eq!(Protocol::try_from(text).unwrap().as_str(), "Chat/2");
        for text in ["", "a b"] {
            let parsed = text.parse::<Protocol>().unwrap_err().to_string();
            let owned = text.to_owned();
            assert_eq!(Protocol::try_from(text).unwrap_err().to_string(), parsed);
            assert_eq!(Protocol::try_from(&owned).unwrap_err().to_string(), parsed);
            assert_eq!(Protocol::try_from(owned).unwrap_err().to_string(), parsed);
        }
    }
}
