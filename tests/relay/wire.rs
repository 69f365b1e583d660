//! Connections for the relay, and their peers.

use crate::support::{AnyIo, tcp};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tower_upgrade::{Upgraded, UpgradedParts, tunnel::Relay};

/// The kinds of connections that a relay receives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Tcp,
    Unix,
    /// TCP behind a type that hides the socket.
    Hidden,
}

pub(crate) type Peer = Box<dyn AnyIo>;

/// Returns a relay and its two peers. The relay sends `early` to the second peer first.
pub(crate) async fn join(a: Wire, b: Wire, early: &[u8]) -> (Relay, Peer, Peer) {
    match a {
        Wire::Tcp => {
            let (ours, theirs) = tcp::pair().await;
            join_to(with_early(ours, early), theirs, b).await
        }
        Wire::Unix => {
            let (ours, theirs) = UnixStream::pair().expect("sockets");
            join_to(with_early(ours, early), theirs, b).await
        }
        Wire::Hidden => {
            let (ours, theirs) = tcp::pair().await;
            let ours: Peer = Box::new(ours);
            join_to(with_early(ours, early), theirs, b).await
        }
    }
}

fn with_early<T>(io: T, early: &[u8]) -> Upgraded
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Upgraded::from_parts(UpgradedParts::new(io, early.to_vec()))
}

async fn join_to(a: Upgraded, first: impl AnyIo + 'static, b: Wire) -> (Relay, Peer, Peer) {
    let first: Peer = Box::new(first);
    match b {
        Wire::Tcp => {
            let (ours, second) = tcp::pair().await;
            (Relay::new(a, ours), first, Box::new(second))
        }
        Wire::Unix => {
            let (ours, second) = UnixStream::pair().expect("sockets");
            (Relay::new(a, ours), first, Box::new(second))
        }
        Wire::Hidden => {
            let (ours, second) = tcp::pair().await;
            let ours: Peer = Box::new(ours);
            (Relay::new(a, ours), first, Box::new(second))
        }
    }
}
