//! Ends of one direction through the whole chain: who passes them on, and who ends both.

use super::{
    Chain, address_of,
    front::{ALL, Who},
};
use crate::{
    example::program,
    support::{Peer, text},
    upcat::Script,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// Node's server without any library: what it does with a session depends on the path.
async fn server() -> Script {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/upcat/server.js");
    Script::start(program("node", "nodejs").args([script, "http1"])).await
}

async fn open(chain: &Chain, path: &str) -> Peer<TcpStream> {
    let mut client = chain.front.connect().await;
    let request = crate::support::offer("echo", &[]);
    client.send(request.replacen('/', path, 1)).await;
    client.head().await.assert_switched("echo");
    assert_eq!(client.exactly(7).await, b"early, ");
    client
}

#[tokio::test]
async fn a_client_that_has_said_all_hears_the_answer_unless_nginx_is_in_front() {
    for who in ALL {
        let server = server().await;
        let chain = Chain::start(who, address_of(&server)).await;
        let mut client = open(&chain, "/after").await;
        client.send("hello").await;
        client.finish().await;
        let rest = text(&client.rest().await.expect("an orderly end"));
        match who {
            Who::Nobody | Who::Haproxy => {
                assert_eq!(rest, "heard 5 bytes, and the end", "{who:?}");
            }
            Who::Nginx => assert_eq!(rest, ""),
        }
    }
}

/// With the end of a server nginx and HAProxy end both directions, with what may be under way.
#[tokio::test]
async fn a_server_that_has_said_all_hears_the_rest_if_nobody_is_in_front() {
    for who in ALL {
        let mut server = server().await;
        let chain = Chain::start(who, address_of(&server)).await;
        let mut client = open(&chain, "/before").await;
        assert_eq!(client.exactly(17).await, b"no more from here");
        client.expect_end().await;
        let heard = match who {
            Who::Nobody => {
                client.send("hello").await;
                client.finish().await;
                "heard 5 bytes"
            }
            Who::Nginx | Who::Haproxy => {
                // They may have gone already.
                let _ = client.io.shutdown().await;
                "heard 0 bytes"
            }
        };
        assert_eq!(server.says().await.as_deref(), Some(heard), "{who:?}");
    }
}
