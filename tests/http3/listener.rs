//! Handshakes.

use crate::{raw::Client, server, support::soon};
use std::net::UdpSocket;

/// Clients that begin a handshake and send nothing more, from forged addresses as far as the server can tell, do not
/// keep others out.
#[tokio::test]
async fn unfinished_handshakes_do_not_keep_others_out() {
    let server = server().await;
    // The first packet of a real client, which is then sent from many ports.
    let spy = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let client =
        quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let config = server.client_config();
    let connecting = client
        .connect_with(config, spy.local_addr().expect("bound"), "localhost")
        .expect("a configuration");
    let mut initial = vec![0; 65_536];
    spy.set_nonblocking(true).expect("a socket");
    let spy = tokio::net::UdpSocket::from_std(spy).expect("a socket");
    let length = soon(spy.recv(&mut initial)).await.expect("a packet");
    drop(connecting);
    let initial = &initial[..length];
    let mut sockets = Vec::new();
    for _ in 0..300 {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("a socket");
        socket.send_to(initial, server.address).await.expect("sent");
        sockets.push(socket);
    }
    // The later ones get a Retry packet (RFC 9000 §17.2.5).
    let mut retried = 0;
    for socket in &sockets {
        let mut answer = [0; 2048];
        let length = soon(socket.recv(&mut answer)).await.expect("an answer");
        let is_long = answer[0] & 0x80 != 0;
        retried += usize::from(is_long && answer[0] & 0x30 == 0x30 && length < 500);
    }
    assert!(retried > 0, "no client had to prove its address");
    let client = Client::connect(&server).await;
    client.expect_alive().await;
}
