//! `Upgrade` on HTTP/1.1.

use super::{curl, output};
use crate::{
    process::Example,
    support::{Server, handlers::echo, plain, soon, text},
};
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest, handler_fn,
};

const UPGRADE: &[&str] = &[
    "--header",
    "Connection: Upgrade",
    "--header",
    "Upgrade: echo",
];

#[tokio::test]
async fn curl_upgrade_echoes_early_bytes() {
    for (signal, args) in [("TERM", &[][..]), ("INT", &[]), ("TERM", &["--tls"])] {
        let server = Example::start("echo", args).await;
        // With `Content-Length: 0`, bytes after the head are early data.
        let early = [
            "--header",
            "Content-Length: 0",
            "--request",
            "GET",
            "--data",
            "hello",
        ];
        let http = ["--http1.1", "--insecure", &server.url];
        let mut curl = curl(&[UPGRADE, &early, &http].concat());
        let mut curl = curl.spawn().expect("curl starts");
        let mut stdout = curl.stdout.take().expect("a pipe");
        let mut seen = String::new();
        while !seen.ends_with("hello") {
            let mut bytes = [0; 1024];
            let read = soon(stdout.read(&mut bytes))
                .await
                .expect("readable output");
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

        // The server shuts sessions down in an orderly way, and curl reports success.
        server.stop(signal).await;
        assert!(soon(curl.wait()).await.expect("an exit status").success());
    }
}

#[tokio::test]
async fn curl_upgrades_after_its_request_body() {
    let brief = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(b"upgraded").await?;
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
        assert!(seen.ends_with("\r\n\r\nupgraded"), "{seen}");
    }
}

#[tokio::test]
async fn curl_gets_plain_responses() {
    let server = Example::start("echo", &[]).await;
    let index = output(&mut curl(&[&server.url])).await;
    assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
    assert!(index.ends_with("Try it with `Upgrade: echo`.\n"), "{index}");
    let missing = output(&mut curl(&[&format!("{}/missing", server.url)])).await;
    assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    server.stop("TERM").await;
}

#[tokio::test]
async fn failed_tls_handshakes_do_not_affect_curl() {
    let mut server = Example::start("echo", &["--tls"]).await;
    // Three clients: one silent, one that does not trust the certificate, and one without TLS.
    let silent = soon(TcpStream::connect(server.address())).await;
    let plain = format!("http://{}", server.address());
    for url in [server.url.clone(), plain] {
        let refused = soon(curl(&[&url]).output()).await.expect("curl runs");
        assert!(!refused.status.success(), "{url}");
        let line = server.error_line().await;
        assert!(line.contains(" failed: "), "{line}");
    }

    for (http, status) in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200 OK")] {
        let index = output(&mut curl(&["--insecure", http, &server.url])).await;
        assert!(index.starts_with(status), "{index}");
    }
    server.stop("TERM").await;
    drop(silent);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn accept_resumes_when_file_descriptors_are_available() {
    let mut server = Example::start("echo", &[]).await;
    server.allow_files(0);
    let mut waiting = curl(&[&server.url]).spawn().expect("curl starts");
    let line = server.error_line().await;
    assert!(line.contains("cannot accept"), "{line}");
    server.allow_files(64);
    assert!(
        soon(waiting.wait())
            .await
            .expect("an exit status")
            .success()
    );
    server.stop("TERM").await;
}

struct Refuse;

impl ProtocolHandler for Refuse {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        Err(Rejection::new(StatusCode::FORBIDDEN, "not you"))
    }
}

#[tokio::test]
async fn curl_reuses_the_connection_after_a_refusal() {
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
async fn curl_receives_413_while_sending_its_body() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let url = format!("http://{}/", server.address);
    let body = "x".repeat(100_000);
    let seen = output(&mut curl(&[UPGRADE, &["--data", &body, &url]].concat())).await;
    assert!(seen.contains("HTTP/1.1 413 Payload Too Large"), "{seen}");
    assert!(seen.ends_with("exceeds 65536 bytes"), "{seen}");
}
