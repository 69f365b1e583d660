//! Sessions of WebSocket through the whole chain, with the library `ws` of Node behind.

use super::{
    Chain, address_of,
    front::{ALL, Who},
    node, node_server,
};
use crate::{
    example::program,
    support::{soon, text},
    upcat::Script,
};

/// Runs a case of `client.js`, and returns what it has said.
async fn client(kind: &str, chain: &Chain, case: &str) -> String {
    let client = node("client.js").args([kind, &chain.url(), case]).output();
    let output = soon(client).await.expect("node runs");
    let said = text(&output.stdout);
    let complaints = text(&output.stderr);
    let who = chain.who;
    assert!(
        output.status.success(),
        "{who:?} {kind}: {said}{complaints}"
    );
    let said = said.strip_suffix(&format!("{case} ok\n"));
    said.expect("it has come to its end").to_owned()
}

async fn expect(server: &mut Script, lines: &[&str]) {
    for line in lines {
        assert_eq!(server.says().await.as_deref(), Some(*line));
    }
}

/// Each way to come to the server: which version of HTTP, and who is in front. nginx and HAProxy do without
/// extended CONNECT here.
const WAYS: [(&str, Who); 4] = [
    ("http1", Who::Nobody),
    ("http1", Who::Nginx),
    ("http1", Who::Haproxy),
    ("http2", Who::Nobody),
];

async fn passes(case: &str, seen_behind: &[&str]) {
    for (kind, who) in WAYS {
        let mut server = node_server().await;
        let chain = Chain::start(who, address_of(&server)).await;
        assert_eq!(client(kind, &chain, case).await, "", "{who:?}");
        expect(&mut server, seen_behind).await;
        assert_eq!(chain.plain(), 0);
    }
}

#[tokio::test]
async fn messages_pass_both_ways_and_so_do_the_subprotocol_and_how_the_client_closes() {
    passes("echoes", &["upgrade /", "closed 4001 enough of this"]).await;
}

#[tokio::test]
async fn how_the_server_closes_is_seen_by_the_client() {
    passes("isClosed", &["upgrade /", "closed 4002 enough of you"]).await;
}

#[tokio::test]
async fn a_server_that_vanishes_is_gone_for_the_client() {
    passes("isBrokenOff", &["upgrade /", "closed 1006 "]).await;
}

#[tokio::test]
async fn a_client_that_vanishes_is_gone_for_the_server() {
    passes("breaksOff", &["upgrade /", "closed 1006 "]).await;
}

#[tokio::test]
async fn the_refusal_of_the_server_reaches_the_client_with_its_body() {
    passes("isRefused", &["upgrade /refused"]).await;
}

#[tokio::test]
async fn an_extension_is_between_the_ends() {
    for who in ALL {
        let mut server = node_server().await;
        let chain = Chain::start(who, address_of(&server)).await;
        assert_eq!(client("http1", &chain, "deflates").await, "", "{who:?}");
        expect(
            &mut server,
            &["upgrade /deflate", "closed 4001 enough of this"],
        )
        .await;
    }
}

/// Others than Linux have one address of loopback.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_server_is_told_of_the_client_and_of_each_proxy_but_the_last() {
    for (kind, who) in WAYS {
        let server = node_server().await;
        let chain = Chain::start(who, address_of(&server)).await;
        let said = client(kind, &chain, "isSeen").await;
        let host = chain.front.address;
        let addresses = match (who, kind) {
            (Who::Nobody, "http1") => "127.0.0.5",
            // Its client does not choose its address.
            (Who::Nobody, _) => "127.0.0.1",
            (Who::Nginx | Who::Haproxy, _) => "127.0.0.5, 127.0.0.1",
        };
        // Of a request that names no scheme nobody knows it, unless it is told.
        let proto = match (who, kind) {
            (Who::Nobody, "http1") => "",
            _ => "x-forwarded-proto: http\n",
        };
        let expected = format!(
            "host: {host}\nx-forwarded-for: {addresses}\nx-forwarded-host: {host}\n{proto}"
        );
        assert_eq!(said, expected, "{who:?} {kind}");
    }
}

#[tokio::test]
async fn the_websockets_of_python_speaks_with_that_of_node() {
    for who in ALL {
        let mut server = node_server().await;
        let chain = Chain::start(who, address_of(&server)).await;
        let client = program("/usr/bin/python3", "python3-websockets")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/peers/websocket/client.py"
            ))
            .args([&chain.url().replacen("http", "ws", 1), "echoes"])
            .output();
        let output = soon(client).await.expect("Python runs");
        assert!(output.status.success(), "{who:?}");
        assert_eq!(text(&output.stdout), "echoes\n");
        expect(&mut server, &["upgrade /", "closed 4001 enough"]).await;
    }
}
