//! Time limits: what a layer sets, what holds for one request, and the waiting itself.

use std::time::Duration;

const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_LIMIT: u64 = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Limits of one layer. What is not set is the outer layer's, or the default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) accept_timeout: Option<Duration>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) shutdown_timeout: Option<Duration>,
    pub(crate) body_limit: Option<u64>,
    pub(crate) body_timeout: Option<Duration>,
}

impl Settings {
    /// These settings, and `outer` where they say nothing.
    pub(crate) fn or(self, outer: Self) -> Self {
        Self {
            accept_timeout: self.accept_timeout.or(outer.accept_timeout),
            handshake_timeout: self.handshake_timeout.or(outer.handshake_timeout),
            shutdown_timeout: self.shutdown_timeout.or(outer.shutdown_timeout),
            body_limit: self.body_limit.or(outer.body_limit),
            body_timeout: self.body_timeout.or(outer.body_timeout),
        }
    }

    pub(crate) fn accept_timeout(&self) -> Duration {
        self.accept_timeout.unwrap_or(ACCEPT_TIMEOUT)
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT)
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        self.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT)
    }

    pub(crate) fn body_limit(&self) -> u64 {
        self.body_limit.unwrap_or(BODY_LIMIT)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        self.body_timeout.unwrap_or(BODY_TIMEOUT)
    }
}

/// A limit as a user gives it: `None` is no limit.
pub(crate) fn limit(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or(Duration::MAX)
}

/// Waits for `future`, no longer than `limit`. `None`: it took longer, and was dropped.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    if limit == Duration::MAX {
        return Some(future.await);
    }
    tokio::time::timeout(limit, future).await.ok()
}
