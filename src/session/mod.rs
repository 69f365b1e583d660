//! The conversation after the switch.

pub(crate) mod accepted;
mod close;
pub(crate) mod detach;
mod drain;
pub(crate) mod guard;
pub(crate) mod held;
mod identity;
pub(crate) mod pending_upgrade;
mod registry;
pub(crate) mod settings;
pub(crate) mod span;
mod speak;
mod spread;
pub(crate) mod state;
pub(crate) mod task;
pub(crate) mod upgraded;
mod watch;

pub use self::{
    close::{CloseReason, Closed},
    drain::{DrainOptions, DrainReport},
    identity::Identity,
    registry::{SessionInfo, Sessions, SessionsBuilder},
    state::SessionId,
};

pub(crate) use self::speak::{Speak, Speaking};
use self::state::State;
#[cfg(feature = "websocket")]
pub(crate) use self::watch::after;
use crate::{
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    session::upgraded::Upgraded,
};
use http::{Extensions, request::Parts};
use std::{fmt, net::SocketAddr, sync::Arc};

/// A session: the conversation after the switch, as its handler gets it.
///
/// It starts when the switch has been sent, in a task of its own. It ends when the handler's future
/// does; then what was written is flushed and the connection is shut down in order.
pub struct Session {
    state: Arc<State>,
    extensions: Extensions,
    request: Option<Box<Parts>>,
    io: Upgraded,
    #[cfg(feature = "websocket")]
    settings: Arc<crate::session::settings::Settings>,
}

impl Session {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.state.id
    }

    /// How the request asked to leave HTTP.
    #[must_use]
    pub fn kind(&self) -> UpgradeKind {
        self.state.kind
    }

    /// The protocol that was chosen, as the client wrote it. A [CONNECT](UpgradeKind::Connect) names
    /// none.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.state.protocol.as_ref()
    }

    /// The client's address, where the server left it: see [`SessionsBuilder::peer`]. Without
    /// [`Sessions`] nobody looked for it.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.state.peer
    }

    /// Returns the identity that the handler set with [`Accept::identity`](crate::Accept::identity), or that a layer put
    /// into the extensions of the request.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.state.identity()
    }

    /// Completes when the session is to stop: when [`Sessions::drain`] or [`Sessions::close`] say so, and
    /// when it has reached its [lifetime](crate::UpgradeLayer::lifetime). A handler that does not end
    /// then is dropped in the end.
    ///
    /// ```
    /// use tokio::io::AsyncWriteExt as _;
    /// use tower_upgrade::{Session, copy, handler_fn};
    ///
    /// let echo = handler_fn(|session: Session| async move {
    ///     let stop = session.stop();
    ///     let (mut reader, mut writer) = tokio::io::split(session.into_io());
    ///     tokio::select! {
    ///         copied = copy(&mut reader, &mut writer) => drop(copied?),
    ///         () = stop => writer.write_all(b"bye").await?,
    ///     }
    ///     Ok(())
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, one that is made later completes just the same.
    pub fn stop(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let state = Arc::clone(&self.state);
        async move { state.stopping().await }
    }

    /// The request's extensions: what the layers around the handler, and the handler itself in
    /// [`accept`](crate::ProtocolHandler::accept), left there.
    ///
    /// An extension that shares the buffer of the request's head keeps that buffer, of at least 8 KiB with hyper, as long as
    /// the session has it. Where this crate knows one it has put a copy in its place: `hyper::ext::Protocol`, and with the
    /// feature `axum` axum's `OriginalUri`. Without that feature, a session of a layer on the routes of an axum `Router` costs
    /// less if its handler drops the session, or removes `OriginalUri`. So does one with an extension of your own that has a
    /// header value or a URI: copy the text instead.
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
    ///
    /// That of a session which comes with a WebSocket is in the WebSocket: here everything fails with
    /// [`NotConnected`](std::io::ErrorKind::NotConnected).
    #[must_use]
    pub fn into_io(self) -> Upgraded {
        self.io
    }

    /// The connection, beside the rest.
    ///
    /// The rest stays alive with it, and so do the [extensions](Self::extensions).
    #[must_use]
    pub fn io_mut(&mut self) -> &mut Upgraded {
        &mut self.io
    }
}

#[cfg(any(feature = "tunnel", feature = "websocket"))]
impl Session {
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }
}

/// For what speaks on behalf of a handler.
#[cfg(feature = "websocket")]
impl Session {
    /// Leaves an IO behind on which everything fails.
    pub(crate) fn take_io(&mut self) -> Upgraded {
        let gone = Upgraded::from_box_io(crate::io::box_io::BoxIo::gone());
        std::mem::replace(&mut self.io, gone)
    }

    pub(crate) fn shutdown_timeout(&self) -> std::time::Duration {
        self.settings.shutdown_timeout()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("kind", &self.kind())
            .field("protocol", &self.protocol())
            .finish_non_exhaustive()
    }
}
