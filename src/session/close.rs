//! Close reasons, and the report of an ended session.

use crate::{
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    session::{Identity, SessionId},
};
use std::{borrow::Cow, error::Error, fmt, net::SocketAddr, sync::Arc, time::Duration};

/// The reason why a session ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler completed without an error and before any stop signal.
    Finished,
    /// The handler returned this error.
    Failed(Arc<dyn Error + Send + Sync>),
    /// The handler panicked with this message, or a value owned by the handler panicked when dropped.
    Panicked(Cow<'static, str>),
    /// No bytes moved in either direction for the [`UpgradeLayer::idle_timeout`](crate::UpgradeLayer::idle_timeout), the
    /// peer of a WebSocket with `keep_alive` did not answer a ping, or a `ConnectUdp` relayed no datagram for its idle
    /// timeout.
    Idle,
    /// The session reached its [`UpgradeLayer::lifetime`](crate::UpgradeLayer::lifetime).
    Lifetime,
    /// The session received its stop signal from [`Sessions::drain`](crate::Sessions::drain),
    /// [`Sessions::close`](crate::Sessions::close) or [`Sessions::close_of`](crate::Sessions::close_of), and the
    /// handler completed without an error before the deadline.
    Drained,
    /// The handler did not end before the deadline of the stop signal and was dropped, or the runtime shut down while
    /// the session was open.
    Aborted,
    /// The session did not start although the outermost layer had returned the upgrade response: the client
    /// disconnected, the server did not hand over the connection, or the
    /// [`UpgradeLayer::handshake_timeout`](crate::UpgradeLayer::handshake_timeout) was exceeded.
    NotUpgraded(Arc<dyn Error + Send + Sync>),
}

impl CloseReason {
    /// Returns the name of the reason: `finished`, `failed`, `panicked`, `idle`, `lifetime`, `drained`, `aborted` or
    /// `not-upgraded`.
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
            Self::NotUpgraded(_) => "not-upgraded",
        }
    }

    /// Returns the error of the handler or of the upgrade, if the reason has one.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        match self {
            Self::Failed(error) | Self::NotUpgraded(error) => Some(&**error),
            _ => None,
        }
    }
}

impl fmt::Display for CloseReason {
    /// Writes the name, and the error or panic message if the reason has one: `failed: connection reset`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::Failed(error) | Self::NotUpgraded(error) => write!(f, ": {error}"),
            Self::Panicked(message) => write!(f, ": {message}"),
            _ => Ok(()),
        }
    }
}

/// The report of an ended session, passed to [`UpgradeLayer::on_close`](crate::UpgradeLayer::on_close).
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
    /// Returns the id of the session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the kind of the upgrade request.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.kind
    }

    /// Returns the chosen protocol, or `None` for a [CONNECT](UpgradeKind::Connect), which names no protocol.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.protocol.as_ref()
    }

    /// Returns the client's address, if the server inserted it: see
    /// [`SessionsBuilder::peer`](crate::SessionsBuilder::peer).
    ///
    /// Returns `None` if the layer has no [`Sessions`](crate::Sessions).
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the identity of the session, if it has one: see [`Identity`].
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Returns the reason why the session ended.
    #[must_use]
    pub fn reason(&self) -> &CloseReason {
        &self.reason
    }

    /// Returns the time from the start of the session to its end, or zero if the session did not start.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Returns the number of bytes that the handler read while the connection belonged to the session.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Returns the number of bytes that the handler wrote while the connection belonged to the session.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }
}
