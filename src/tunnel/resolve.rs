//! Resolvers of host names.

use crate::{error::BoxError, service};
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use std::{net::SocketAddr, sync::Arc};

/// Resolves host names for a [`ConnectProxy`](super::ConnectProxy), or for a `ConnectUdp` of the module `datagram`.
///
/// A function or closure that takes the host as a `String` is a resolver:
///
/// ```
/// use tokio::net::lookup_host;
/// use tower_upgrade::tunnel::{ConnectProxy, Policy};
///
/// let proxy = ConnectProxy::new(Policy::new()).resolver(|host: String| lookup_host((host, 0)));
/// ```
///
/// For a resolver with state, implement the trait:
///
/// ```
/// use std::{collections::HashMap, net::{IpAddr, SocketAddr}};
/// use tower_upgrade::{BoxError, tunnel::Resolve};
///
/// struct Hosts(HashMap<String, IpAddr>);
///
/// impl Resolve for Hosts {
///     async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, BoxError> {
///         let address = self.0.get(host).ok_or("unknown host")?;
///         Ok(vec![SocketAddr::new(*address, 0)])
///     }
/// }
/// ```
///
/// # Resolvers of hyper-util
///
/// hyper-util's resolvers are services that take a `Name`. Call one in a closure:
///
/// ```
/// use hyper_util::client::legacy::connect::dns::GaiResolver;
/// use tower::ServiceExt as _;
/// use tower_upgrade::{BoxError, tunnel::{ConnectProxy, Policy}};
///
/// let resolver = GaiResolver::new();
/// let proxy = ConnectProxy::new(Policy::new()).resolver(move |host: String| {
///     let resolver = resolver.clone();
///     async move { Ok::<_, BoxError>(resolver.oneshot(host.parse()?).await?) }
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a resolver",
    label = "not a `Resolve`",
    note = "a closure is a resolver if it takes a `String` and returns a future of the addresses: \
            `|host: String| tokio::net::lookup_host((host, 0))`"
)]
pub trait Resolve: Send + Sync + 'static {
    /// Returns the addresses of `host`, in order of preference. The ports of the addresses are ignored.
    ///
    /// `host` is a name in the client's spelling, and never an IP address.
    ///
    /// # Errors
    ///
    /// On an error, as on an empty list, the proxy answers 502. The error appears only in the log.
    ///
    /// # Cancel safety
    ///
    /// The proxy drops the future when its [`connect_timeout`](super::ConnectProxy::connect_timeout) is exceeded, or
    /// when the request is cancelled.
    fn resolve(&self, host: &str)
    -> impl Future<Output = Result<Vec<SocketAddr>, BoxError>> + Send;
}

impl<F, Fut, I, E> Resolve for F
where
    F: Fn(String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<I, E>> + Send,
    I: IntoIterator<Item = SocketAddr>,
    E: Into<BoxError>,
{
    async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, BoxError> {
        let found = self(host.to_owned()).await.map_err(Into::into)?;
        Ok(found.into_iter().collect())
    }
}

impl<R: Resolve> Resolve for Arc<R> {
    async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, BoxError> {
        R::resolve(self, host).await
    }
}

/// The system's resolver, `getaddrinfo`.
///
/// Uses hyper-util's resolver instead of tokio's `lookup_host`: dropping a call also removes it from the queue of the
/// blocking pool.
pub(crate) struct System(GaiResolver);

impl System {
    pub(crate) fn new() -> Self {
        Self(GaiResolver::new())
    }
}

impl Resolve for System {
    async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, BoxError> {
        let mut resolver = self.0.clone();
        Ok(service::call(&mut resolver, host.parse()?).await?.collect())
    }
}

/// An object-safe [`Resolve`].
pub(crate) trait AnyResolver: Send + Sync {
    fn resolve_boxed<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, BoxError>>;
}

impl<R: Resolve> AnyResolver for R {
    fn resolve_boxed<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, BoxError>> {
        Box::pin(self.resolve(host))
    }
}
