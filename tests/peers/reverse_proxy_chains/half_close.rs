//! Half-closes through the whole chain: nginx, and for servers also HAProxy, close both directions.

use super::{
    Chain, address_of,
    front::{ALL, Balancer},
};
use crate::{
    process::{Script, program},
    support::{Peer, text},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// Starts Node's built-in server. The path of a request selects the action of the session.
async fn server() -> Script {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/upcat/server.js");
    Script::start(program("node", "nodejs").args([script, "http1"])).await
}

async fn open(chain: &Chain, path: &str) -> Peer<TcpStream> {
    let mut client = chain.front.connect().await;
    let request = crate::support::offer("echo", &[]);
    client.send(request.replacen('/', path, 1)).await;
    client.head().await.assert_upgraded("echo");
    assert_eq!(client.exactly(7).await, b"early, ");
    client
}

#[tokio::test]
async fn client_half_close_keeps_the_response_except_behind_nginx() {
    for balancer in ALL {
        let server = server().await;
        let chain = Chain::start(balancer, address_of(&server)).await;
        let mut client = open(&chain, "/after").await;
        client.send("hello").await;
        client.finish().await;
        let rest = text(&client.rest().await.expect("an orderly end"));
        match balancer {
            Balancer::Direct | Balancer::Haproxy => {
                assert_eq!(rest, "read 5 bytes, and the end", "{balancer:?}");
            }
            Balancer::Nginx => assert_eq!(rest, ""),
        }
    }
}

/// When a server closes its side, nginx and HAProxy close both directions and may lose bytes in flight.
#[tokio::test]
async fn server_half_close_keeps_client_writes_without_balancer() {
    for balancer in ALL {
        let mut server = server().await;
        let chain = Chain::start(balancer, address_of(&server)).await;
        let mut client = open(&chain, "/before").await;
        assert_eq!(client.exactly(17).await, b"no more from here");
        client.expect_end().await;
        let line = match balancer {
            Balancer::Direct => {
                client.send("hello").await;
                client.finish().await;
                "read 5 bytes"
            }
            Balancer::Nginx | Balancer::Haproxy => {
                // The balancer may have closed the connection.
                let _ = client.io.shutdown().await;
                "read 0 bytes"
            }
        };
        assert_eq!(
            server.next_line().await.as_deref(),
            Some(line),
            "{balancer:?}"
        );
    }
}
