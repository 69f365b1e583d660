//! Node's built-in HTTP/2 client, which uses nghttp2: see `extended_connect.js`.

use crate::{
    process::{Example, program},
    support::soon,
};
use std::process::ExitStatus;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A running case of the script.
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
        let stdout = process.stdout.take().expect("a pipe");
        Self {
            process,
            stdout: BufReader::new(stdout).lines(),
        }
    }

    async fn next_line(&mut self) -> Option<String> {
        soon(self.stdout.next_line())
            .await
            .expect("readable output")
    }

    /// Expects the case to pass. If it fails, stderr shows the reason.
    async fn expect_ok(mut self, name: &str) {
        let line = self.next_line().await;
        let status: ExitStatus = soon(self.process.wait()).await.expect("an exit status");
        assert!(status.success(), "{name}: {status}");
        assert_eq!(line, Some(format!("{name} ok")));
    }
}

/// HTTP/2 with prior knowledge, and chosen by ALPN.
const SERVER_ARGS: [&[&str]; 2] = [&[], &["--tls"]];

async fn expect_case(name: &str) {
    for args in SERVER_ARGS {
        let server = Example::start("echo", args).await;
        Case::start(name, &server).expect_ok(name).await;
        server.stop("TERM").await;
    }
}

#[tokio::test]
async fn node_opens_a_session_with_extended_connect() {
    expect_case("extendedConnect").await;
}

#[tokio::test]
async fn node_opens_a_tunnel_with_connect() {
    expect_case("connect").await;
}

#[tokio::test]
async fn node_reuses_the_connection_after_a_refusal() {
    expect_case("refused").await;
}

#[tokio::test]
async fn node_runs_parallel_sessions_on_one_connection() {
    expect_case("parallel").await;
}

#[tokio::test]
async fn stalled_session_does_not_block_others_of_node() {
    expect_case("stalled").await;
}

#[tokio::test]
async fn server_shutdown_ends_node_sessions_cleanly() {
    for (args, signal) in SERVER_ARGS.into_iter().zip(["TERM", "INT"]) {
        let server = Example::start("echo", args).await;
        let mut node = Case::start("stopped", &server);
        assert_eq!(node.next_line().await.as_deref(), Some("open"));
        server.stop(signal).await;
        node.expect_ok("stopped").await;
    }
}
