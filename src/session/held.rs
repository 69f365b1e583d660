//! A pending upgrade, whose connection is shut down even if the upgrade is not used.

use crate::{
    error::{BoxError, BoxFuture},
    io::{box_io::BoxIo, linger},
    panic,
    session::{pending_upgrade::Handover, upgraded::Upgraded},
    trace,
};
use http::{Version, request::Parts};
use hyper::upgrade::OnUpgrade;
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use sync_wrapper::SyncWrapper;

/// A future that resolves to the upgraded connection.
///
/// If an HTTP/1 upgrade is dropped unused, a task closes its connection with an orderly shutdown.
pub(crate) struct HeldUpgrade {
    upgrade: Option<AnyUpgrade>,
    shutdown_timeout: Duration,
}

impl HeldUpgrade {
    pub(crate) fn none() -> Self {
        Self {
            upgrade: None,
            shutdown_timeout: Duration::ZERO,
        }
    }

    pub(crate) fn new(upgrade: AnyUpgrade, shutdown_timeout: Duration) -> Self {
        Self {
            upgrade: Some(upgrade),
            shutdown_timeout,
        }
    }
}

pub(crate) enum AnyUpgrade {
    /// An HTTP/1 upgrade of hyper: the whole connection.
    Connection(OnUpgrade),
    /// An HTTP/2 upgrade of hyper: one stream. A response other than the upgrade response ends the stream.
    Stream(OnUpgrade),
    Other(SyncWrapper<BoxFuture<Result<Upgraded, BoxError>>>),
}

impl AnyUpgrade {
    /// Takes the upgrade out of a request, if its server can hand over the connection.
    pub(crate) fn take(request: &mut Parts) -> Option<Self> {
        Some(match Handover::take(&mut request.extensions)? {
            Handover::Other(other) => Self::Other(SyncWrapper::new(other)),
            Handover::Hyper(hyper) if request.version <= Version::HTTP_11 => {
                Self::Connection(hyper)
            }
            Handover::Hyper(hyper) => Self::Stream(hyper),
        })
    }
}

impl Future for HeldUpgrade {
    type Output = Result<BoxIo, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let io = match &mut self.upgrade {
            Some(AnyUpgrade::Connection(upgrade) | AnyUpgrade::Stream(upgrade)) => {
                ready!(poll_hyper(upgrade, cx))
            }
            Some(AnyUpgrade::Other(upgrade)) => {
                let io = ready!(upgrade.get_mut().as_mut().poll(cx));
                io.map(Upgraded::into_box_io)
            }
            None => Err("the upgrade was already used".into()),
        };
        self.upgrade = None;
        Poll::Ready(io)
    }
}

impl Drop for HeldUpgrade {
    /// Spawns a task that waits for the connection and shuts it down.
    ///
    /// After a rejected upgrade request, hyper drops the connection instead of shutting it down: the client can lose
    /// the response to a reset, and receives no `close_notify` on TLS. hyper keeps only the latest upgrade of a
    /// connection, so at most one task waits for each connection.
    fn drop(&mut self) {
        let Some(AnyUpgrade::Connection(upgrade)) = self.upgrade.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let timeout = self.shutdown_timeout;
        runtime.spawn(async move {
            let mut upgrade = upgrade;
            if let Ok(io) = poll_fn(|cx| poll_hyper(&mut upgrade, cx)).await {
                linger::close(io, &[], timeout).await;
            }
        });
    }
}

fn poll_hyper(upgrade: &mut OnUpgrade, cx: &mut Context<'_>) -> Poll<Result<BoxIo, BoxError>> {
    // `OnUpgrade` panics if one of its clones has already resolved. Inner layers hold no clone, but a layer around the
    // outermost `UpgradeLayer` may have sent a clone of the request.
    match panic::catch(|| Pin::new(upgrade).poll(cx)) {
        Ok(upgraded) => upgraded.map(|upgraded| match upgraded {
            Ok(io) => Ok(BoxIo::from(io)),
            Err(error) => {
                if error.is_user() {
                    trace::upgrade_failed(&error);
                }
                Err(error.into())
            }
        }),
        Err(_) => Poll::Ready(Err("a clone of the request already used the upgrade".into())),
    }
}
