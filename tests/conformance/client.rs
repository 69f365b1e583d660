//! K: the client side, against servers that misbehave.

mod early;
mod request;
mod response;

use crate::support::{Peer, text};
use tokio::net::{TcpListener, TcpStream};
use tower_upgrade::client::Request;

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const CONNECTED: &str = "HTTP/1.1 200 OK\r\n\r\n";

fn tunnel() -> Request {
    Request::connect("example.com:443".parse().expect("a target"))
}

/// All sent bytes have been read.
async fn assert_silent(peer: &mut Peer<TcpStream>) {
    // The peer runs in this thread, and has run until it waits.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(text(peer.unread()), "");
    let mut byte = [0];
    let read = peer.io.try_read(&mut byte);
    let error = read.expect_err("bytes came");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

/// The server side of an HTTP/2 connection, before the client has sent its preface.
async fn http2() -> (Peer<TcpStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let client = TcpStream::connect(address).await.expect("loopback");
    let (server, _) = listener.accept().await.expect("loopback");
    (Peer::new(server), client)
}
