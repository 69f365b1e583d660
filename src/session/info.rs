//! A session in the list of a registry.

use super::{
    identity::Identity,
    state::{SessionId, State},
};
use crate::negotiate::{kind::UpgradeKind, protocol::Protocol};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A session in the [list](crate::Sessions::list). Its methods return the values at the time of the call.
#[derive(Clone)]
pub struct SessionInfo {
    state: Arc<State>,
}

impl SessionInfo {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Sends the session its stop signal.
    pub(super) fn stop_by(&self, deadline: Instant) {
        self.state.stop_by(deadline);
    }

    /// Returns the id of the session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.state.id
    }

    /// Returns the kind of the upgrade request.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.state.kind
    }

    /// Returns the chosen protocol, or `None` for a [CONNECT](UpgradeKind::Connect), which names no protocol.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.state.protocol.as_ref()
    }

    /// Returns the client's address, if the server inserted it: see [`SessionsBuilder::peer`](crate::SessionsBuilder::peer).
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.state.peer
    }

    /// Returns the identity of the session, if it has one: see [`Identity`].
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.state.identity()
    }

    /// Returns the time since the handler accepted.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.state.accepted().elapsed()
    }

    /// Returns the number of bytes that the handler has read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.state.bytes_read()
    }

    /// Returns the number of bytes that the handler has written.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.state.bytes_written()
    }
}

impl fmt::Debug for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInfo")
            .field("id", &self.id())
            .field("kind", &self.kind())
            .field("protocol", &self.protocol())
            .field("peer", &self.peer())
            .field("age", &self.age())
            .field("bytes_read", &self.bytes_read())
            .field("bytes_written", &self.bytes_written())
            .finish()
    }
}
