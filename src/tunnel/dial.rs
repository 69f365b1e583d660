//! To a target: its addresses, and a connection to one that is allowed.

use super::{Policy, failure::Failure, host::Host, policy::Denied, race::race};
use crate::{
    client,
    error::{BoxError, BoxFuture},
};
use hyper_util::client::legacy::connect::dns::Name;
use std::{io, net::SocketAddr, str::FromStr as _};
use tokio::net::TcpStream;
use tower_service::Service;

/// How many addresses are written into the log: whoever answers for a name could say thousands.
const MAX_TOLD: usize = 8;

/// A resolver without its type: all that it says of a name.
pub(super) trait Resolve: Send + Sync {
    fn resolve(&self, name: Name) -> BoxFuture<Result<Vec<SocketAddr>, BoxError>>;
}

impl<R> Resolve for R
where
    R: Service<Name, Response: Iterator<Item = SocketAddr>> + Clone + Send + Sync + 'static,
    R::Future: Send,
    R::Error: Into<BoxError>,
{
    fn resolve(&self, name: Name) -> BoxFuture<Result<Vec<SocketAddr>, BoxError>> {
        let mut resolver = self.clone();
        Box::pin(async move {
            client::ready(&mut resolver).await.map_err(Into::into)?;
            let found = resolver.call(name).await.map_err(Into::into)?;
            Ok(found.collect())
        })
    }
}

/// Connects to a host. A name is resolved once, and what is connected to is what was checked: there is no
/// second answer that could be another one.
pub(super) async fn dial(
    host: Host<'_>,
    port: u16,
    policy: &Policy,
    resolver: &dyn Resolve,
) -> Result<TcpStream, Failure> {
    let (name, found) = match host {
        Host::Address(address) => (None, vec![SocketAddr::new(address, port)]),
        Host::Name(name) => (Some(name), resolve(name, port, resolver).await?),
    };
    let is_allowed = |address: &SocketAddr| policy.allows(address.ip());
    let allowed: Vec<_> = found.iter().copied().filter(is_allowed).collect();
    match race(&allowed, connect).await {
        Some(connected) => connected,
        None => {
            let name = name.map_or_else(String::new, |name| format!("{name} is at "));
            let some = &found[..found.len().min(MAX_TOLD)];
            let denied = format!("{name}{some:?}");
            Err(Failure::denied(Denied::Address, denied))
        }
    }
}

async fn resolve(
    name: &str,
    port: u16,
    resolver: &dyn Resolve,
) -> Result<Vec<SocketAddr>, Failure> {
    let unresolved = |error| Failure::unresolved(name, error);
    let to_resolve = Name::from_str(name).map_err(|error| unresolved(error.into()))?;
    let mut found = resolver.resolve(to_resolve).await.map_err(unresolved)?;
    if found.is_empty() {
        return Err(Failure::no_address(name));
    }
    for address in &mut found {
        address.set_port(port);
    }
    Ok(found)
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let connected: io::Result<_> = async {
        let io = TcpStream::connect(address).await?;
        // What one end writes at once is not held back for the other's acknowledgement.
        io.set_nodelay(true)?;
        Ok(io)
    }
    .await;
    connected.map_err(|error| Failure::unreachable(address, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn small_writes_are_not_held_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let io = connect(address).await.expect("loopback");
        assert!(io.nodelay().expect("a socket"));
    }
}
