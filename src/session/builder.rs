//! The settings of a session registry.

use super::{
    guard::{KeyLimit, key_limit},
    registry::{PeerOf, Sessions},
};
use http::{Extensions, request::Parts};
use std::{fmt, hash::Hash, net::SocketAddr, sync::Arc};

/// A builder for [`Sessions`].
#[must_use = "call `build`"]
pub struct SessionsBuilder {
    max: usize,
    key_limit: Option<Arc<dyn KeyLimit>>,
    peer: PeerOf,
}

impl SessionsBuilder {
    pub(super) fn new() -> Self {
        Self {
            max: usize::MAX,
            key_limit: None,
            peer: Arc::new(|extensions| extensions.get::<SocketAddr>().copied()),
        }
    }

    /// Sets the maximum number of sessions. The default is unlimited.
    ///
    /// Requests over the limit get 503 with `Retry-After` before the handler runs.
    pub fn max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Sets the maximum number of sessions with the same key, such as the client's address or a user name. The default
    /// is unlimited. A second call replaces the limit of the first.
    ///
    /// Requests over the limit get 503 with `Retry-After` before the handler runs. A request for which `key` returns
    /// `None` is *not limited*: read the key from the extension that your server sets, and test for the 503.
    ///
    /// The server inserts the client's address into the extensions of the request. hyper inserts no address;
    /// `axum::serve` inserts a `ConnectInfo` when it serves `into_make_service_with_connect_info`:
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// use std::net::{IpAddr, SocketAddr};
    /// use tower_upgrade::Sessions;
    ///
    /// let by_address = |request: &http::request::Parts| -> Option<IpAddr> {
    ///     request.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
    /// };
    /// let sessions = Sessions::builder().max(10_000).max_per_key(20, by_address).build();
    /// ```
    ///
    /// With hyper-util, insert the address for each connection. The default of [`peer`](Self::peer) reads the same
    /// extension:
    ///
    /// ```
    /// use http::Request;
    /// use hyper::body::Incoming;
    /// use std::net::SocketAddr;
    /// use tower::ServiceExt as _;
    /// # fn for_connection<S>(app: S, peer: SocketAddr) -> impl tower::Service<Request<Incoming>>
    /// # where
    /// #     S: tower::Service<Request<Incoming>>,
    /// # {
    /// let service = app.map_request(move |mut request: Request<Incoming>| {
    ///     request.extensions_mut().insert(peer);
    ///     request
    /// });
    /// # service
    /// # }
    /// ```
    pub fn max_per_key<K, F>(mut self, max: usize, key: F) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    {
        self.key_limit = Some(key_limit(max, key));
        self
    }

    /// Sets the function that reads the client's address from the extensions of a request.
    ///
    /// [`Session::peer`](crate::Session::peer), [`SessionInfo::peer`](crate::SessionInfo::peer),
    /// [`Closed::peer`](crate::Closed::peer) and the span of a session have this address, or `None` if the function
    /// returns `None`. The default reads a [`SocketAddr`] extension, which the application must insert: neither hyper
    /// nor `axum::serve` does.
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// use std::net::SocketAddr;
    /// use tower_upgrade::Sessions;
    ///
    /// let sessions = Sessions::builder()
    ///     .peer(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0))
    ///     .build();
    /// ```
    pub fn peer<F>(mut self, peer: F) -> Self
    where
        F: Fn(&Extensions) -> Option<SocketAddr> + Send + Sync + 'static,
    {
        self.peer = Arc::new(peer);
        self
    }

    /// Builds the registry.
    #[must_use]
    pub fn build(self) -> Sessions {
        Sessions::with(self.max, self.key_limit, self.peer)
    }
}

impl fmt::Debug for SessionsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsBuilder")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
