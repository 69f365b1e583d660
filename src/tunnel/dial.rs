//! Resolves a target and connects to one of its allowed addresses.

use super::{
    Policy, failure::Failure, happy_eyeballs::connect_any, host::Host, policy::Denied,
    resolve::AnyResolver,
};
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

/// The maximum number of addresses in a log message: a DNS server could return thousands.
const MAX_LOGGED: usize = 8;

/// Connects to a host.
pub(super) async fn dial(
    host: Host<'_>,
    port: u16,
    policy: &Policy,
    resolver: &dyn AnyResolver,
) -> Result<TcpStream, Failure> {
    let allowed = allowed(host, port, policy, resolver).await?;
    let connected = connect_any(&allowed, connect).await;
    // Does not panic: `allowed` returns at least one address.
    connected.expect("at least one address")
}

/// Returns the allowed addresses of a host, at least one.
///
/// The name is resolved once, and only addresses from that answer are checked and connected to: a second lookup
/// could return different addresses.
pub(crate) async fn allowed(
    host: Host<'_>,
    port: u16,
    policy: &Policy,
    resolver: &dyn AnyResolver,
) -> Result<Vec<SocketAddr>, Failure> {
    let (name, found) = match host {
        Host::Address(address) => (None, vec![SocketAddr::new(address, port)]),
        Host::Name(name) => (Some(name), resolve(name, port, resolver).await?),
    };
    let is_allowed = |address: &SocketAddr| policy.allows(address.ip());
    let allowed: Vec<_> = found.iter().copied().filter(is_allowed).collect();
    if allowed.is_empty() {
        let name = name.map_or_else(String::new, |name| format!("{name} resolves to "));
        let some = &found[..found.len().min(MAX_LOGGED)];
        let denied = format!("{name}{some:?}");
        return Err(Failure::denied(Denied::Address, denied));
    }
    Ok(allowed)
}

async fn resolve(
    name: &str,
    port: u16,
    resolver: &dyn AnyResolver,
) -> Result<Vec<SocketAddr>, Failure> {
    let found = resolver.resolve_boxed(name).await;
    let mut found = found.map_err(|error| Failure::unresolved(name, error))?;
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
        // Without `TCP_NODELAY`, small writes would wait for the peer's acknowledgement.
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
    async fn dialed_socket_has_tcp_nodelay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let io = connect(address).await.expect("loopback");
        assert!(io.nodelay().expect("a socket"));
    }
}
