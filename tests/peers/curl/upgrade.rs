//! `Upgrade` on HTTP/1.1.

use super::{curl, output};
use crate::{
    example::Example,
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
async fn curl_upgrades_and_hears_its_echo() {
    for (signal, args) in [("TERM", &[][..]), ("INT", &[]), ("TERM", &["--tls"])] {
        let server = Example::start("echo", args).await;
        // No length, and still bytes behind the head: these are the protocol's.
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
        server.stop(signal).await;
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
    let server = Example::start("echo", &[]).await;
    let index = output(&mut curl(&[&server.url])).await;
    assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
    assert!(index.ends_with("Try it with `Upgrade: echo`.\n"), "{index}");
    let missing = output(&mut curl(&[&format!("{}/missing", server.url)])).await;
    assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    server.stop("TERM").await;
}

#[tokio::test]
async fn curl_is_served_over_tls_whatever_others_do() {
    let mut server = Example::start("echo", &["--tls"]).await;
    // One that says nothing, one that does not trust the certificate, and one that speaks no TLS.
    let silent = soon(TcpStream::connect(server.address())).await;
    let plain = format!("http://{}", server.address());
    for url in [server.url.clone(), plain] {
        let refused = soon(curl(&[&url]).output()).await.expect("curl runs");
        assert!(!refused.status.success(), "{url}");
        let complaint = server.complaint().await;
        assert!(complaint.contains(" failed: "), "{complaint}");
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
async fn curl_is_served_when_there_are_files_again() {
    let mut server = Example::start("echo", &[]).await;
    server.allow_files(0);
    let mut waiting = curl(&[&server.url]).spawn().expect("curl starts");
    let complaint = server.complaint().await;
    assert!(complaint.contains("cannot accept"), "{complaint}");
    server.allow_files(64);
    assert!(soon(waiting.wait()).await.expect("it ends").success());
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
