//! The layer.

use super::Upgrade;
use crate::time;
use std::time::Duration;
use tower_layer::Layer;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a client of HTTP one that asks for upgrades: see [the module](super).
///
/// It is not the [`UpgradeLayer`](crate::UpgradeLayer) of servers: this one goes around a client.
#[derive(Clone, Debug)]
pub struct UpgradeLayer {
    handshake_timeout: Duration,
}

impl UpgradeLayer {
    /// A layer with the default timeout.
    #[must_use]
    pub fn new() -> Self {
        Self {
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }

    /// How long it may take from the call to the session, a connection that is made for it included.
    /// Defaults to 30 seconds; `None` is no limit.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.handshake_timeout = time::limit(timeout.into());
        self
    }
}

impl Default for UpgradeLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for UpgradeLayer {
    type Service = Upgrade<S>;

    fn layer(&self, inner: S) -> Upgrade<S> {
        Upgrade::new(inner, self.handshake_timeout)
    }
}
