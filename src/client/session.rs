//! What an upgrade comes to.

use crate::{
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    session::upgraded::Upgraded,
};
use http::response::Parts;
use std::fmt;

/// A connection that has left HTTP, from the client's end.
///
/// It is the caller's alone: nothing watches over it. To end it in order, shut the connection down and read to
/// its end. If it is dropped before that, the connection is dropped: what was not flushed is lost, and on TLS
/// there is no close_notify.
///
/// ```no_run
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// # use tower_upgrade::client::Session;
///
/// # async fn talk(session: Session) -> std::io::Result<()> {
/// let mut io = session.into_io();
/// io.write_all(b"how do you do?").await?;
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

    /// How the connection was asked to leave HTTP.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.kind
    }

    /// The protocol that the server chose, as it wrote it: one of those that were offered. A
    /// [CONNECT](UpgradeKind::Connect) names none.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.protocol.as_ref()
    }

    /// The head of the response: of the 101, or of the 2xx that answered a CONNECT.
    #[must_use]
    pub fn response(&self) -> &Parts {
        &self.response
    }

    /// The connection. The head of the response is dropped.
    #[must_use]
    pub fn into_io(self) -> Upgraded {
        self.io
    }

    /// The connection, beside the rest.
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
