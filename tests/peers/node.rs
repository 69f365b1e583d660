//! Node's built-in HTTP/2 client, which is nghttp2's: see `extended_connect.js`.

use crate::{
    example::{Example, program},
    support::soon,
};
use std::process::ExitStatus;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A case of the script, as a process.
struct Case {
    process: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Case {
    fn start(name: &str, server: &Example) -> Self {
        let mut node: Command = program("node", "nodejs");
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/peers/extended_connect.js"
        );
        let mut process = node
            .args([script, &server.url, name])
            .spawn()
            .expect("node starts");
        let stdout = process.stdout.take().expect("it is piped");
        Self {
            process,
            stdout: BufReader::new(stdout).lines(),
        }
    }

    async fn says(&mut self) -> Option<String> {
        soon(self.stdout.next_line()).await.expect("its output")
    }

    /// What it found is on stderr.
    async fn expect_ok(mut self, name: &str) {
        let said = self.says().await;
        let status: ExitStatus = soon(self.process.wait()).await.expect("it ends");
        assert!(status.success(), "{name}: {status}");
        assert_eq!(said, Some(format!("{name} ok")));
    }
}

/// HTTP/2 with prior knowledge, and chosen by ALPN.
const WAYS: [&[&str]; 2] = [&[], &["--tls"]];

async fn passes(name: &str) {
    for args in WAYS {
        let server = Example::start("echo", args).await;
        Case::start(name, &server).expect_ok(name).await;
        server.stop("TERM").await;
    }
}

#[tokio::test]
async fn node_has_a_session_by_extended_connect() {
    passes("extendedConnect").await;
}

#[tokio::test]
async fn node_has_a_tunnel_by_connect() {
    passes("connect").await;
}

#[tokio::test]
async fn node_goes_on_with_a_connection_after_a_refusal() {
    passes("refused").await;
}

#[tokio::test]
async fn node_has_many_sessions_on_one_connection() {
    passes("parallel").await;
}

#[tokio::test]
async fn node_is_served_beside_a_session_that_reads_no_more() {
    passes("stalled").await;
}

#[tokio::test]
async fn node_sees_its_sessions_end_in_order_with_the_server() {
    for (args, signal) in WAYS.into_iter().zip(["TERM", "INT"]) {
        let server = Example::start("echo", args).await;
        let mut node = Case::start("stopped", &server);
        assert_eq!(node.says().await.as_deref(), Some("open"));
        server.stop(signal).await;
        node.expect_ok("stopped").await;
    }
}
