//! The conversation after the switch.

pub(crate) mod task;

use crate::{Protocol, Upgraded, commit::Accepted, handler::Speaking, request::UpgradeKind};
use http::{Extensions, request::Parts};
use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    thread,
};

/// A session: the conversation after the switch, as its handler gets it.
///
/// It starts when the switch has been sent, in a task of its own. It ends when the handler's future
/// does; then what was written is flushed and the connection is shut down in order.
pub struct Session {
    kind: UpgradeKind,
    protocol: Option<Protocol>,
    extensions: Extensions,
    request: Option<Box<Parts>>,
    io: Upgraded,
}

impl Session {
    /// Starts what was accepted: the handler's part of the session, which may panic on the spot.
    ///
    /// It takes the box, so that the box is gone while the session lives.
    fn start(accepted: Box<Accepted>, io: Upgraded) -> thread::Result<Speaking> {
        let accepted = *accepted;
        let session = Self {
            kind: accepted.kind,
            protocol: accepted.protocol,
            extensions: accepted.extensions,
            request: accepted.request,
            io,
        };
        panic::catch_unwind(AssertUnwindSafe(|| (accepted.speak)(session)))
    }

    /// How the request asked to leave HTTP.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.kind
    }

    /// The protocol that was chosen, as the client wrote it. A [CONNECT](UpgradeKind::Connect) names
    /// none.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.protocol.as_ref()
    }

    /// The request's extensions: what the layers around the handler, and the handler itself in
    /// [`accept`](crate::ProtocolHandler::accept), left there.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The request's extensions, to take something out.
    #[must_use]
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// The head of the request, if the handler kept it with
    /// [`Accept::keep_request`](crate::Accept::keep_request).
    ///
    /// Its extensions are not in it: they are [`extensions`](Self::extensions).
    #[must_use]
    pub fn request(&self) -> Option<&Parts> {
        self.request.as_deref()
    }

    /// The connection. The rest is dropped at once, with what layers left in the extensions.
    #[must_use]
    pub fn into_io(self) -> Upgraded {
        self.io
    }

    /// The connection, beside the rest.
    ///
    /// The rest stays alive with it. Under axum the extensions have the request's URI, which holds on
    /// to the buffer that the head was read into, measured at 10 KiB: a session that idles does
    /// better with [`into_io`](Self::into_io).
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
            .finish_non_exhaustive()
    }
}
