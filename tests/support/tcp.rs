//! TCP without HTTP.

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Returns both sides of a connection. The second has a receive buffer of 256 KiB, so that writes to it soon
/// block.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(256 * 1024).expect("a socket");
    let (ours, theirs) = tokio::join!(listener.accept(), socket.connect(address));
    let (ours, theirs) = (ours.expect("loopback").0, theirs.expect("loopback"));
    ours.set_nodelay(true).expect("a socket");
    theirs.set_nodelay(true).expect("a socket");
    (ours, theirs)
}
