//! The way in for servers other than hyper.

use crate::{BoxError, Upgraded, handler::BoxFuture};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The upgrade of a request that a server other than hyper received, or a test made.
///
/// Put it into the extensions of the request, where hyper puts its own. If the request is accepted
/// the future is awaited once the response is on its way: let it wait until the head of the switch
/// was sent, and give the connection. If the request is refused the future is dropped, and the
/// connection stays the server's. After the refusal of a CONNECT on HTTP/1 it must close it (RFC 9931).
///
/// The kind of upgrade is read from the request: an `Upgrade` of version HTTP/1.1, or the method CONNECT.
/// An extended CONNECT, of version HTTP/2 or HTTP/3, has its `:protocol` in the extensions as
/// [`hyper::ext::Protocol`].
///
/// ```
/// use http::Request;
/// use tower_upgrade::{Parts, PendingUpgrade, Upgraded};
///
/// # fn serve(io: tokio::io::DuplexStream, head_sent: tokio::sync::oneshot::Receiver<()>) {
/// let mut request = Request::get("/")
///     .header("connection", "upgrade")
///     .header("upgrade", "echo")
///     .body(())
///     .expect("a valid request");
/// request.extensions_mut().insert(PendingUpgrade::new(async move {
///     head_sent.await?;
///     Ok(Upgraded::from_parts(Parts { io, read_buf: "".into() }))
/// }));
/// # }
/// ```
#[derive(Clone)]
pub struct PendingUpgrade {
    upgrade: Arc<Mutex<Option<BoxFuture<Result<Upgraded, BoxError>>>>>,
}

impl PendingUpgrade {
    /// Creates a pending upgrade that resolves to the output of `upgrade`. Only one of its clones is
    /// ever used.
    pub fn new<F>(upgrade: F) -> Self
    where
        F: Future<Output = Result<Upgraded, BoxError>> + Send + 'static,
    {
        Self {
            upgrade: Arc::new(Mutex::new(Some(Box::pin(upgrade)))),
        }
    }

    pub(crate) fn take(self) -> Option<BoxFuture<Result<Upgraded, BoxError>>> {
        self.upgrade
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl fmt::Debug for PendingUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingUpgrade").finish_non_exhaustive()
    }
}
