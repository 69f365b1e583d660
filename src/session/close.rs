//! How a session ends, and what is said about it.

use crate::{
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    session::{Identity, SessionId},
};
use std::{borrow::Cow, error::Error, fmt, net::SocketAddr, sync::Arc, time::Duration};

/// Why a session ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// Its handler was done.
    Finished,
    /// Its handler ended with this error.
    Failed(Arc<dyn Error + Send + Sync>),
    /// Its handler panicked, or what the handler owned did when it was dropped, with this message.
    Panicked(Cow<'static, str>),
    /// No byte went either way for as long as
    /// [`UpgradeLayer::idle_timeout`](crate::UpgradeLayer::idle_timeout), or the peer of a WebSocket with
    /// `keep_alive` did not answer a ping.
    Idle,
    /// It was open for as long as [`UpgradeLayer::lifetime`](crate::UpgradeLayer::lifetime).
    Lifetime,
    /// It was told to stop, by [`Sessions::drain`](crate::Sessions::drain) or
    /// [`Sessions::close`](crate::Sessions::close), and its handler was done in time.
    Drained,
    /// It was told to stop, and its handler was not done in time: it was dropped. So it is when the
    /// runtime shuts down.
    Aborted,
    /// The connection never switched, though the outermost layer had let the switch out: the client left, the
    /// server does not hand its connections over, or it took longer than
    /// [`UpgradeLayer::handshake_timeout`](crate::UpgradeLayer::handshake_timeout).
    NeverSwitched(Arc<dyn Error + Send + Sync>),
}

impl CloseReason {
    /// `finished`, `failed`, `panicked`, `idle`, `lifetime`, `drained`, `aborted` or
    /// `never-switched`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Drained => "drained",
            Self::Aborted => "aborted",
            Self::NeverSwitched(_) => "never-switched",
        }
    }

    /// What the handler, or the switch, failed with.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        match self {
            Self::Failed(error) | Self::NeverSwitched(error) => Some(&**error),
            _ => None,
        }
    }
}

impl fmt::Display for CloseReason {
    /// The name, and what is known beside it: `failed: connection reset`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::Failed(error) | Self::NeverSwitched(error) => write!(f, ": {error}"),
            Self::Panicked(message) => write!(f, ": {message}"),
            _ => Ok(()),
        }
    }
}

/// A session that has ended: see [`UpgradeLayer::on_close`](crate::UpgradeLayer::on_close).
#[derive(Clone, Debug)]
pub struct Closed {
    pub(crate) id: SessionId,
    pub(crate) kind: UpgradeKind,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) identity: Option<Identity>,
    pub(crate) reason: CloseReason,
    pub(crate) duration: Duration,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

impl Closed {
    /// The session's number.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// How the request asked to leave HTTP.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.kind
    }

    /// The protocol that was chosen. A [CONNECT](UpgradeKind::Connect) names none.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.protocol.as_ref()
    }

    /// The client's address, where the server left it: see [`SessionsBuilder::peer`](crate::SessionsBuilder::peer).
    /// Without [`Sessions`](crate::Sessions) nobody looked for it.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the identity of the session, if it has one: see [`Identity`].
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Why it ended.
    #[must_use]
    pub fn reason(&self) -> &CloseReason {
        &self.reason
    }

    /// How long it was open, from its switch on. Zero if it never switched.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// How many bytes its handler read, as long as the connection was the session's.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// How many bytes its handler wrote, as long as the connection was the session's.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }
}
