//! Sessions: upgraded connections and the handlers that run on them.

pub(crate) mod accepted;
mod builder;
mod close;
pub(crate) mod detach;
mod drain;
pub(crate) mod farewell;
pub(crate) mod guard;
mod handler;
pub(crate) mod held;
mod identity;
mod info;
pub(crate) mod pending_upgrade;
pub(crate) mod quiet;
mod registry;
pub(crate) mod settings;
pub(crate) mod span;
mod spread;
pub(crate) mod state;
pub(crate) mod task;
pub(crate) mod upgraded;
mod watch;

pub use self::{
    builder::SessionsBuilder,
    close::{CloseReason, Closed},
    drain::{DrainOptions, DrainReport},
    identity::Identity,
    info::SessionInfo,
    registry::Sessions,
    state::SessionId,
};

pub(crate) use self::handler::{SessionFuture, SessionHandler};
use self::state::State;
use crate::{
    io::box_io::BoxIo,
    negotiate::{kind::UpgradeKind, protocol::Protocol},
    session::upgraded::Upgraded,
};
use http::{Extensions, request::Parts};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

/// An upgraded connection and its request, as passed to the handler.
///
/// A session starts in a separate task once the server has sent the upgrade response. The session ends when the
/// handler's future completes; then the written bytes are flushed, and an orderly shutdown closes the connection.
pub struct Session {
    state: Arc<State>,
    extensions: Extensions,
    request: Option<Box<Parts>>,
    io: Upgraded,
}

impl Session {
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

    /// Returns the chosen protocol as the client wrote it, or `None` for a [CONNECT](UpgradeKind::Connect), which names
    /// no protocol.
    #[must_use]
    pub fn protocol(&self) -> Option<&Protocol> {
        self.state.protocol.as_ref()
    }

    /// Returns the client's address, if the server inserted it: see [`SessionsBuilder::peer`].
    ///
    /// Returns `None` if the layer has no [`Sessions`].
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.state.peer
    }

    /// Returns the identity that the handler set with [`Accept::identity`](crate::Accept::identity), or that a layer
    /// inserted into the extensions of the request.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.state.identity()
    }

    /// Returns a future that completes when the session receives its stop signal: from [`Sessions::drain`],
    /// [`Sessions::close`] or [`Sessions::close_of`], or at the end of its [lifetime](crate::UpgradeLayer::lifetime).
    ///
    /// A handler that has not ended by the deadline is aborted.
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
    /// Dropping the future loses nothing: a future from a later call also completes.
    pub fn stop(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let state = Arc::clone(&self.state);
        async move { state.stopping().await }
    }

    /// Returns the request's extensions, as set by the layers around the handler and by the handler in
    /// [`accept`](crate::ProtocolHandler::accept).
    ///
    /// An extension that shares the buffer of the request's head keeps that buffer, of at least 8 KiB with hyper,
    /// allocated while the session holds the extension. This crate replaces the extensions known to share the buffer
    /// with copies: `hyper::ext::Protocol`, and with the feature `axum` axum's `OriginalUri`. Without that feature, a
    /// session of a layer on the routes of an axum `Router` uses less memory if the handler drops the session or
    /// removes `OriginalUri`. The same applies to your extensions that contain a header value or a URI: store a copy of
    /// the text instead.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns a mutable reference to the request's extensions, for example to remove one.
    #[must_use]
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Returns the head of the request, if the handler kept it with
    /// [`Accept::keep_request`](crate::Accept::keep_request).
    ///
    /// The head has no extensions: [`extensions`](Self::extensions) returns them.
    #[must_use]
    pub fn request(&self) -> Option<&Parts> {
        self.request.as_deref()
    }

    /// Returns the connection, and drops the rest of the session, including the extensions.
    ///
    /// In a WebSocket handler, the `WebSocket` owns the connection: operations on the returned `Upgraded` fail with
    /// [`NotConnected`](std::io::ErrorKind::NotConnected).
    #[must_use]
    pub fn into_io(self) -> Upgraded {
        self.io
    }

    /// Returns a mutable reference to the connection.
    ///
    /// The rest of the session stays alive, including the [extensions](Self::extensions). A handler that exchanges data
    /// with the peer outside of the byte stream records it with [`Upgraded::record_read`] and
    /// [`Upgraded::record_written`].
    #[must_use]
    pub fn io_mut(&mut self) -> &mut Upgraded {
        &mut self.io
    }
}

/// For the protocols that this crate implements.
#[allow(dead_code, reason = "only some protocols of this crate use this")]
impl Session {
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Takes the connection, and replaces it with an `Upgraded` on which all operations fail.
    pub(crate) fn take_io(&mut self) -> Upgraded {
        let gone = Upgraded::from_box_io(BoxIo::gone());
        std::mem::replace(&mut self.io, gone)
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        self.state.settings().shutdown_timeout()
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
