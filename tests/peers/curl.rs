//! curl.

use crate::{
    example::{Example, program},
    support::{Server, handlers::echo, plain, soon, text},
};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest, handler_fn,
};

fn curl(args: &[&str]) -> Command {
    let mut curl = program("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--include",
        "--no-buffer",
        "--noproxy",
        "*",
    ]);
    curl.args(args);
    curl
}

const UPGRADE: &[&str] = &[
    "--header",
    "Connection: Upgrade",
    "--header",
    "Upgrade: echo",
];

async fn output(curl: &mut Command) -> String {
    let output = soon(curl.output()).await.expect("curl runs");
    assert!(output.status.success(), "{}", output.status);
    text(&output.stdout)
}

#[tokio::test]
async fn curl_upgrades_and_hears_its_echo() {
    for signal in ["TERM", "INT"] {
        let server = Example::start("echo").await;
        // No length, and still bytes behind the head: these are the protocol's.
        let early = [
            "--header",
            "Content-Length: 0",
            "--request",
            "GET",
            "--data",
            "hello",
        ];
        let mut curl = curl(&[UPGRADE, &early, &[&server.url]].concat());
        let mut curl = curl.spawn().expect("curl starts");
        let mut stdout = curl.stdout.take().expect("it is piped");
        let mut seen = String::new();
        while !seen.ends_with("hello") {
            let mut bytes = [0; 1024];
            let read = soon(stdout.read(&mut bytes)).await.expect("its output");
            assert_ne!(read, 0, "{seen}");
            seen.push_str(&text(&bytes[..read]));
        }
        let seen = seen.to_ascii_lowercase();
        assert!(
            seen.starts_with("http/1.1 101 switching protocols\r\n"),
            "{seen}"
        );
        assert!(seen.contains("\r\nupgrade: echo\r\n"), "{seen}");
        assert!(seen.contains("\r\nconnection: upgrade\r\n"), "{seen}");

        // The server ends its sessions in order, and curl is content with that.
        assert_eq!(server.stop(signal).await, "stopped\n");
        assert!(soon(curl.wait()).await.expect("it ends").success());
    }
}

#[tokio::test]
async fn curl_switches_after_its_request_body() {
    // A session says who it is, and ends.
    let brief = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(b"switched").await?;
        Ok(())
    });
    let layer = UpgradeLayer::new().protocol("echo", brief);
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let url = format!("http://{}/exec/1/start", server.address);
    for expect in ["Expect:", "Expect: 100-continue"] {
        let json = [
            "--header",
            "Content-Type: application/json",
            "--data",
            "{\"Tty\":false}",
        ];
        let args = [UPGRADE, &json, &["--header", expect, &url]].concat();
        let seen = output(&mut curl(&args)).await;
        assert_eq!(
            seen.contains("HTTP/1.1 100 Continue"),
            expect != "Expect:",
            "{seen}"
        );
        assert!(seen.contains("HTTP/1.1 101 Switching Protocols"), "{seen}");
        assert!(seen.ends_with("\r\n\r\nswitched"), "{seen}");
    }
}

#[tokio::test]
async fn curl_gets_the_plain_pages_beside() {
    let server = Example::start("echo").await;
    let index = output(&mut curl(&[&server.url])).await;
    assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
    assert!(index.ends_with("Try it with `Upgrade: echo`.\n"), "{index}");
    let missing = output(&mut curl(&[&format!("{}/missing", server.url)])).await;
    assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    server.stop("TERM").await;
}

struct Refuse;

impl ProtocolHandler for Refuse {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you"))
    }
}

#[tokio::test]
async fn curl_goes_on_with_a_connection_after_a_refusal() {
    let layer = UpgradeLayer::new()
        .protocol("echo", Refuse)
        .protocol("other", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let url = format!("http://{}/", server.address);
    let count = ["--write-out", "[%{http_code} on %{num_connects} new]"];
    let seen = output(&mut curl(
        &[UPGRADE, &count, &["--data", "body", &url, &url]].concat(),
    ))
    .await;
    assert_eq!(seen.matches("HTTP/1.1 403 Forbidden").count(), 2, "{seen}");
    assert_eq!(seen.matches("not you").count(), 2, "{seen}");
    assert!(
        seen.contains("[403 on 1 new]") && seen.contains("[403 on 0 new]"),
        "{seen}"
    );
}

#[tokio::test]
async fn curl_sees_a_refusal_of_what_it_still_sends() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let url = format!("http://{}/", server.address);
    let body = "x".repeat(100_000);
    let seen = output(&mut curl(&[UPGRADE, &["--data", &body, &url]].concat())).await;
    assert!(seen.contains("HTTP/1.1 413 Payload Too Large"), "{seen}");
    assert!(seen.ends_with("exceeds 65536 bytes"), "{seen}");
}
