//! Connections to be joined, and who is at their other end.

use crate::support::AnyIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
};
use tower_upgrade::{Parts, Upgraded, tunnel::Relay};

/// What a relay is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Tcp,
    Unix,
    /// TCP of which nobody can tell that it is.
    Hidden,
}

pub(crate) type Peer = Box<dyn AnyIo>;

pub(crate) async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    // The kernel is not to take all of what a test sends.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(256 * 1024).expect("a socket");
    let (ours, theirs) = tokio::join!(listener.accept(), socket.connect(address));
    let (ours, theirs) = (ours.expect("loopback").0, theirs.expect("loopback"));
    ours.set_nodelay(true).expect("a socket");
    theirs.set_nodelay(true).expect("a socket");
    (ours, theirs)
}

/// A relay, and the peers at its two ends. `early` has been read already of what the first sends.
pub(crate) async fn join(a: Wire, b: Wire, early: &[u8]) -> (Relay, Peer, Peer) {
    match a {
        Wire::Tcp => {
            let (ours, theirs) = tcp().await;
            join_to(with_early(ours, early), theirs, b).await
        }
        Wire::Unix => {
            let (ours, theirs) = UnixStream::pair().expect("sockets");
            join_to(with_early(ours, early), theirs, b).await
        }
        Wire::Hidden => {
            let (ours, theirs) = tcp().await;
            let ours: Peer = Box::new(ours);
            join_to(with_early(ours, early), theirs, b).await
        }
    }
}

fn with_early<T>(io: T, early: &[u8]) -> Upgraded
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let read_buf = early.to_vec().into();
    Upgraded::from_parts(Parts { io, read_buf })
}

async fn join_to(a: Upgraded, first: impl AnyIo + 'static, b: Wire) -> (Relay, Peer, Peer) {
    let first: Peer = Box::new(first);
    match b {
        Wire::Tcp => {
            let (ours, second) = tcp().await;
            (Relay::new(a, ours), first, Box::new(second))
        }
        Wire::Unix => {
            let (ours, second) = UnixStream::pair().expect("sockets");
            (Relay::new(a, ours), first, Box::new(second))
        }
        Wire::Hidden => {
            let (ours, second) = tcp().await;
            let ours: Peer = Box::new(ours);
            (Relay::new(a, ours), first, Box::new(second))
        }
    }
}
