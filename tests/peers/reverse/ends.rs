//! Ends of one direction through the whole chain: who passes them on, and who ends both.

use super::{
    Chain, address_of,
    front::{ALL, Who},
};
use crate::{
    example::program,
    support::{Peer, soon, text},
    upcat::Script,
};
use tokio::net::TcpStream;

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

/// nginx ends a session with the first end that it sees.
fn passes_ends_on(who: Who) -> bool {
    who != Who::Nginx
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
        match passes_ends_on(who) {
            true => assert_eq!(rest, "heard 5 bytes, and the end", "{who:?}"),
            false => assert_eq!(rest, "", "{who:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_has_said_all_hears_the_rest_unless_nginx_is_in_front() {
    for who in ALL {
        let mut server = server().await;
        let chain = Chain::start(who, address_of(&server)).await;
        let mut client = open(&chain, "/before").await;
        assert_eq!(client.exactly(17).await, b"no more from here");
        if passes_ends_on(who) {
            client.send("hello").await;
            client.finish().await;
        }
        client.expect_end().await;
        let heard = match passes_ends_on(who) {
            true => "heard 5 bytes",
            false => "heard 0 bytes",
        };
        assert_eq!(soon(server.says()).await.as_deref(), Some(heard), "{who:?}");
    }
}
