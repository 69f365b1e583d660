//! Upgrades of requests from servers other than hyper.

use crate::{
    error::{BoxError, BoxFuture},
    session::upgraded::Upgraded,
};
use http::Extensions;
use hyper::upgrade::OnUpgrade;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The upgrade of a request from a server other than hyper, or from a test.
///
/// A `PendingUpgrade` wraps a future that resolves to the upgraded connection. The server inserts the `PendingUpgrade`
/// into the extensions of the request, as hyper does with its `OnUpgrade`.
///
/// | the request is | use of the future |
/// |---|---|
/// | accepted | The session awaits the future after the outermost layer has returned the upgrade response. The future should wait until the head of that response has been sent, and then resolve to the connection. |
/// | rejected | The layer drops the future, and the connection remains the server's. After the rejection of a CONNECT on HTTP/1, the server must close the connection (RFC 9931). |
///
/// The request determines the kind of the upgrade:
///
/// | kind | request |
/// |---|---|
/// | [`Upgrade`](crate::UpgradeKind::Upgrade) | version HTTP/1.1, with `Connection: upgrade` and `Upgrade` |
/// | [`Connect`](crate::UpgradeKind::Connect) | method CONNECT |
/// | [`ExtendedConnect`](crate::UpgradeKind::ExtendedConnect) | version HTTP/2 or HTTP/3, with `:protocol` in the extensions as [`hyper::ext::Protocol`] |
///
/// ```
/// use http::Request;
/// use tower_upgrade::{PendingUpgrade, Upgraded, UpgradedParts};
///
/// # fn serve(io: tokio::io::DuplexStream, head_sent: tokio::sync::oneshot::Receiver<()>) {
/// let mut request = Request::get("/")
///     .header("connection", "upgrade")
///     .header("upgrade", "echo")
///     .body(())
///     .expect("a valid request");
/// request.extensions_mut().insert(PendingUpgrade::new(async move {
///     head_sent.await?;
///     Ok(Upgraded::from_parts(UpgradedParts::new(io, "")))
/// }));
/// # }
/// ```
#[derive(Clone)]
pub struct PendingUpgrade {
    upgrade: Arc<Mutex<Option<BoxFuture<Result<Upgraded, BoxError>>>>>,
}

impl PendingUpgrade {
    /// Creates a pending upgrade from a future that resolves to the upgraded connection.
    ///
    /// Clones share the future: it is used once.
    pub fn new<F>(upgrade: F) -> Self
    where
        F: Future<Output = Result<Upgraded, BoxError>> + Send + 'static,
    {
        Self {
            upgrade: Arc::new(Mutex::new(Some(Box::pin(upgrade)))),
        }
    }

    fn take(self) -> Option<BoxFuture<Result<Upgraded, BoxError>>> {
        self.upgrade
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A pending upgrade in the extensions of a request or a response.
pub(crate) enum Handover {
    Hyper(OnUpgrade),
    /// From another server or client.
    Other(BoxFuture<Result<Upgraded, BoxError>>),
}

impl Handover {
    /// Returns `true` if [`take`](Self::take) would return `Some`.
    pub(crate) fn is_in(extensions: &Extensions) -> bool {
        extensions.get::<OnUpgrade>().is_some() || extensions.get::<PendingUpgrade>().is_some()
    }

    /// Removes the pending upgrade from the extensions. A [`PendingUpgrade`] takes precedence over hyper's `OnUpgrade`.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        let hyper = extensions.remove::<OnUpgrade>().map(Self::Hyper);
        let other = extensions
            .remove::<PendingUpgrade>()
            .and_then(PendingUpgrade::take);
        other.map(Self::Other).or(hyper)
    }

    /// Waits for the connection.
    #[cfg(any(feature = "client", feature = "testing"))]
    pub(crate) async fn io(self) -> Result<Upgraded, BoxError> {
        match self {
            Self::Hyper(hyper) => {
                let io = crate::io::box_io::BoxIo::from(hyper.await?);
                Ok(Upgraded::from_box_io(io))
            }
            Self::Other(other) => other.await,
        }
    }
}

impl fmt::Debug for PendingUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingUpgrade").finish_non_exhaustive()
    }
}
