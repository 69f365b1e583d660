//! WebSocket sessions through the whole chain, with Node's library `ws` as the backend.

use super::{
    Chain, address_of,
    front::{ALL, Balancer},
    node, node_server,
};
use crate::{
    process::{Script, program},
    support::{soon, text},
};

/// Runs a case of `client.js`, and returns its output.
async fn client(kind: &str, chain: &Chain, case: &str) -> String {
    let client = node("client.js").args([kind, &chain.url(), case]).output();
    let output = soon(client).await.expect("node runs");
    let stdout = text(&output.stdout);
    let stderr = text(&output.stderr);
    let balancer = chain.balancer;
    assert!(
        output.status.success(),
        "{balancer:?} {kind}: {stdout}{stderr}"
    );
    let printed = stdout.strip_suffix(&format!("{case} ok\n"));
    printed.expect("the last line of a passed case").to_owned()
}

async fn expect_lines(server: &mut Script, lines: &[&str]) {
    for line in lines {
        assert_eq!(server.next_line().await.as_deref(), Some(*line));
    }
}

/// The HTTP version of the client, and the balancer. nginx and HAProxy are not configured for extended CONNECT.
const ROUTES: [(&str, Balancer); 4] = [
    ("http1", Balancer::Direct),
    ("http1", Balancer::Nginx),
    ("http1", Balancer::Haproxy),
    ("http2", Balancer::Direct),
];

async fn expect_case(case: &str, backend_log: &[&str]) {
    for (kind, balancer) in ROUTES {
        let mut server = node_server().await;
        let chain = Chain::start(balancer, address_of(&server)).await;
        assert_eq!(client(kind, &chain, case).await, "", "{balancer:?}");
        expect_lines(&mut server, backend_log).await;
        assert_eq!(chain.plain(), 0);
    }
}

#[tokio::test]
async fn websocket_messages_subprotocol_and_client_close_pass() {
    expect_case("echo", &["upgrade /", "closed 4001 client is done"]).await;
}

#[tokio::test]
async fn server_close_code_reaches_the_client() {
    expect_case("serverCloses", &["upgrade /", "closed 4002 server is done"]).await;
}

#[tokio::test]
async fn lost_server_closes_the_client_with_1006() {
    expect_case("serverTerminates", &["upgrade /", "closed 1006 "]).await;
}

#[tokio::test]
async fn lost_client_closes_the_server_with_1006() {
    expect_case("clientTerminates", &["upgrade /", "closed 1006 "]).await;
}

#[tokio::test]
async fn rejection_reaches_the_client_with_its_body() {
    expect_case("refused", &["upgrade /refused"]).await;
}

#[tokio::test]
async fn permessage_deflate_passes_through() {
    for balancer in ALL {
        let mut server = node_server().await;
        let chain = Chain::start(balancer, address_of(&server)).await;
        assert_eq!(client("http1", &chain, "deflate").await, "", "{balancer:?}");
        expect_lines(
            &mut server,
            &["upgrade /deflate", "closed 4001 client is done"],
        )
        .await;
    }
}

/// Only Linux has more than one loopback address.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn x_forwarded_for_lists_the_client_and_the_balancer() {
    for (kind, balancer) in ROUTES {
        let server = node_server().await;
        let chain = Chain::start(balancer, address_of(&server)).await;
        let printed = client(kind, &chain, "forwardedFields").await;
        let host = chain.front.address;
        let addresses = match (balancer, kind) {
            (Balancer::Direct, "http1") => "127.0.0.5",
            // Node's HTTP/2 client does not bind a local address.
            (Balancer::Direct, _) => "127.0.0.1",
            (Balancer::Nginx | Balancer::Haproxy, _) => "127.0.0.5, 127.0.0.1",
        };
        // An HTTP/1.1 request has no scheme, and the proxy is not configured with one.
        let proto = match (balancer, kind) {
            (Balancer::Direct, "http1") => "",
            _ => "x-forwarded-proto: http\n",
        };
        let expected = format!(
            "host: {host}\nx-forwarded-for: {addresses}\nx-forwarded-host: {host}\n{proto}"
        );
        assert_eq!(printed, expected, "{balancer:?} {kind}");
    }
}

#[tokio::test]
async fn python_client_exchanges_messages_with_node() {
    for balancer in ALL {
        let mut server = node_server().await;
        let chain = Chain::start(balancer, address_of(&server)).await;
        let client = program("/usr/bin/python3", "python3-websockets")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/peers/python_websockets/client.py"
            ))
            .args([&chain.url().replacen("http", "ws", 1), "echoes"])
            .output();
        let output = soon(client).await.expect("Python runs");
        assert!(output.status.success(), "{balancer:?}");
        assert_eq!(text(&output.stdout), "echoes\n");
        expect_lines(&mut server, &["upgrade /", "closed 4001 enough"]).await;
    }
}
