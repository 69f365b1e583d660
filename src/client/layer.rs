//! The upgrade layer of the client.

use super::Upgrade;
use crate::time;
use std::time::Duration;
use tower_layer::Layer;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Wraps an HTTP client in a service that requests upgrades. See [the module](super).
///
/// This layer is for clients; the [`UpgradeLayer`](crate::UpgradeLayer) in the crate root is for servers.
#[derive(Clone, Debug)]
pub struct UpgradeLayer {
    handshake_timeout: Duration,
}

impl UpgradeLayer {
    /// Creates a layer with the default timeout.
    #[must_use]
    pub fn new() -> Self {
        Self {
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }

    /// Sets the time limit from the call to the session, including the time to connect.
    /// The default is 30 seconds; `None` disables the limit.
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
