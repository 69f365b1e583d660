//! The session that a successful upgrade returns.

use crate::{
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    session::upgraded::Upgraded,
};
use http::response::Parts;
use std::fmt;

/// An upgraded connection on the client side.
///
/// The caller owns the session: no registry or timeout applies to it. For an orderly shutdown, shut down the write side
/// and read until the end. Dropping the session earlier loses unflushed data, and TLS sends no `close_notify`.
///
/// ```no_run
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// # use tower_upgrade::client::Session;
///
/// # async fn talk(session: Session) -> std::io::Result<()> {
/// let mut io = session.into_io();
/// io.write_all(b"hello").await?;
/// io.shutdown().await?;
/// let mut answer = String::new();
/// io.read_to_string(&mut answer).await?;
/// # Ok(())
/// # }
/// ```
pub struct Session {
    kind: UpgradeKind,
    protocol: Option<Protocol>,
    response: Box<Parts>,
    io: Upgraded,
}

impl Session {
    pub(super) fn new(
        kind: UpgradeKind,
        protocol: Option<Protocol>,
        response: Parts,
        io: Upgraded,
    ) -> Self {
        Self {
            kind,
            protocol,
            response: Box::new(response),
            io,
        }
    }

    /// Returns the kind of the upgrade: `Upgrade`, extended CONNECT or CONNECT.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.kind
    }

    /// Returns the offered protocol that the server chose, in the server's spelling, or `None` for a
    /// [CONNECT](UpgradeKind::Connect).
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.protocol.as_ref()
    }

    /// Returns the head of the upgrade response: the 101, or the 2xx to a CONNECT.
    #[must_use]
    pub fn response(&self) -> &Parts {
        &self.response
    }

    /// Returns the connection, and drops the head of the response.
    #[must_use]
    pub fn into_io(self) -> Upgraded {
        self.io
    }

    #[allow(dead_code, reason = "only some protocols of this crate use this")]
    pub(crate) fn into_parts(self) -> (Box<Parts>, Upgraded) {
        (self.response, self.io)
    }

    /// Returns the connection mutably. The head of the response stays available.
    #[must_use]
    pub fn io_mut(&mut self) -> &mut Upgraded {
        &mut self.io
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("kind", &self.kind)
            .field("protocol", &self.protocol)
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}
