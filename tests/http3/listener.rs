//! Handshakes.

use crate::{raw::Client, server, support::soon};
use quinn::Endpoint;
use std::collections::HashSet;
use tokio::net::UdpSocket;

/// Clients that begin a handshake and send nothing more, from forged addresses as far as the server can tell, do not
/// keep others out.
#[tokio::test]
async fn unfinished_handshakes_do_not_keep_others_out() {
    let server = server().await;
    // The first packets of real clients, each from another address.
    let spy = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let spied = spy.local_addr().expect("bound");
    let client = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let mut clients = Vec::new();
    let mut sockets = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..300 {
        let connecting = client.connect_with(server.client_config(), spied, "localhost");
        clients.push(connecting.expect("a configuration"));
        let mut initial = [0; 2048];
        // Skip the repeated packets of earlier clients, which the server would not answer again.
        let length = loop {
            let length = soon(spy.recv(&mut initial)).await.expect("a packet");
            // The Destination Connection ID (RFC 9000 §17.2).
            let id = initial[6..6 + usize::from(initial[5])].to_vec();
            if seen.insert(id) {
                break length;
            }
        };
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let sent = socket.send_to(&initial[..length], server.address);
        sent.await.expect("sent");
        sockets.push(socket);
    }
    // The later ones get a Retry packet (RFC 9000 §17.2.5).
    let mut retried = 0;
    for socket in &sockets {
        let mut answer = [0; 2048];
        let length = soon(socket.recv(&mut answer)).await.expect("an answer");
        retried += usize::from(length > 0 && answer[0] & 0xf0 == 0xf0);
    }
    assert!(retried > 0, "no client had to prove its address");
    let client = Client::connect(&server).await;
    client.expect_alive().await;
}
