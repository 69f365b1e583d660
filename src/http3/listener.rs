//! Accepts QUIC connections, within limits.

use crate::time::within;
use quinn::{Connection, Endpoint, Incoming};
use std::{fmt, future::poll_fn, pin::pin, task::Poll, time::Duration};
use tokio::task::JoinSet;

/// Accepts QUIC connections: a slow handshake does not delay others, and pending handshakes are limited.
///
/// | pending handshakes | a new client |
/// |---|---|
/// | fewer than 256 | is accepted |
/// | 256 or more | must prove its address first, with a packet for the round trip (RFC 9000 §8.1.2): attackers with forged addresses are not served |
/// | 1,024 or more | is refused |
///
/// A handshake that takes more than 10 seconds is given up.
pub struct Listener {
    endpoint: Endpoint,
    handshakes: JoinSet<Option<Connection>>,
}

const VALIDATE_ABOVE: usize = 256;
const MAX_HANDSHAKES: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

impl Listener {
    /// Accepts the connections of `endpoint`.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            handshakes: JoinSet::new(),
        }
    }

    /// Returns the next connection that has completed its handshake, or `None` once the endpoint is closed.
    ///
    /// Failed handshakes are dropped. The connection accepts requests in 0-RTT, if TLS is configured for it, once the
    /// handshake is complete: an attacker cannot replay them.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&mut self) -> Option<Connection> {
        loop {
            match self.next().await {
                Next::Connection(connection) => return Some(connection),
                Next::Incoming(incoming) => self.handshake(*incoming),
                Next::Closed => return None,
            }
        }
    }

    async fn next(&mut self) -> Next {
        let Self {
            endpoint,
            handshakes,
        } = self;
        let mut incoming = pin!(endpoint.accept());
        poll_fn(|cx| {
            while let Poll::Ready(Some(ended)) = handshakes.poll_join_next(cx) {
                if let Ok(Some(connection)) = ended {
                    return Poll::Ready(Next::Connection(connection));
                }
            }
            incoming.as_mut().poll(cx).map(|incoming| match incoming {
                Some(incoming) => Next::Incoming(Box::new(incoming)),
                None => Next::Closed,
            })
        })
        .await
    }

    /// Returns the endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn handshake(&mut self, incoming: Incoming) {
        let pending = self.handshakes.len();
        if pending >= MAX_HANDSHAKES {
            incoming.refuse();
        } else if pending >= VALIDATE_ABOVE && incoming.may_retry() {
            // The client comes back with a token. Fails if it has one, which `may_retry` excludes.
            let _ = incoming.retry();
        } else if let Ok(connecting) = incoming.accept() {
            self.handshakes.spawn(async move {
                let connection = within(HANDSHAKE_TIMEOUT, connecting).await;
                connection.and_then(Result::ok)
            });
        }
    }
}

enum Next {
    Connection(Connection),
    Incoming(Box<Incoming>),
    Closed,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("pending", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}
