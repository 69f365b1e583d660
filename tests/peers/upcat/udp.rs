//! `upcat --udp` through `examples/connect_proxy.rs --udp`.

use super::{Upcat, noise, upcat};
use crate::{
    process::{Example, Script, program},
    support::build::build,
};
use std::net::SocketAddr;
use tokio::{net::UdpSocket, task::JoinHandle};

/// The arguments of connect_proxy and those of upcat.
const CONNECTIONS: [(&[&str], &[&str]); 4] = [
    (&[], &[]),
    (&[], &["--http2"]),
    (&["--tls"], &["--insecure"]),
    (&["--tls"], &["--insecure", "--http1.1"]),
];

/// A UDP echo.
struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let address = socket.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let sent = socket.send_to(&buffer[..length], from).await;
                sent.expect("loopback");
            }
        });
        Self { address, task }
    }

    /// Starts a proxy that allows this target.
    async fn proxy(&self, args: &[&str]) -> Example {
        proxy(&self.address.to_string(), args).await
    }
}

/// Starts a proxy that allows `target`.
async fn proxy(target: &str, args: &[&str]) -> Example {
    let allow = ["--udp", "--allow", target, "--allow", "127.0.0.0/8"];
    Example::start_with("connect_proxy", &["datagram"], &[&allow, args].concat()).await
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn upcat_sends_and_prints_lines() {
    let echo = Echo::start().await;
    let target = echo.address.to_string();
    for (server, client) in CONNECTIONS {
        let proxy = echo.proxy(server).await;
        let args = [&["--udp", &target][..], client, &[&proxy.url]].concat();
        let mut running = Upcat::start(&args).await;
        for line in ["how\n", "\n", "do you do\n"] {
            running.expect_echo(line).await;
        }
        let ended = upcat(&[&["--wait", "0.2"], &args[..]].concat(), "one\n\nlast").await;
        ended.assert_printed("one\n\nlast\n");
        // The proxy ends the flow, and upcat exits.
        proxy.stop("TERM").await;
        running.ended().await.assert_printed("");
    }
}

#[tokio::test]
async fn upcat_sends_and_prints_length_prefixed_payloads() {
    let echo = Echo::start().await;
    let target = echo.address.to_string();
    for (server, client) in CONNECTIONS {
        let proxy = echo.proxy(server).await;
        let udp = ["--udp", &target, "--length-prefixed"];
        let args = [&udp[..], client, &[&proxy.url]].concat();
        let mut running = Upcat::start(&args).await;
        for length in [0, 1, 100, 1200, 20_000] {
            let payload = noise(length);
            let prefixed = [&(length as u16).to_be_bytes()[..], &payload].concat();
            running.expect_echo(prefixed).await;
        }
        proxy.stop("TERM").await;
    }
}

#[tokio::test]
async fn upcat_explains_a_refusal() {
    let echo = Echo::start().await;
    let proxy = echo.proxy(&["--basic-auth", "ann:secret"]).await;
    let (url, target) = (&*proxy.url, echo.address.to_string());
    let ended = upcat(&["--udp", &target, url], "").await;
    ended.assert_failed(4, "refused with 407");

    let credentials = "Proxy-Authorization: Basic YW5uOnNlY3JldA==";
    let args = ["--header", credentials, "--wait", "0.2", "--udp"];
    let ended = upcat(&[&args[..], &[&target, url]].concat(), "hello\n").await;
    ended.assert_printed("hello\n");
    let ended = upcat(&[&args[..], &["127.0.0.1:9", url]].concat(), "hello\n").await;
    ended.assert_failed(4, "this port is not allowed");
}

fn dns(args: &[&str]) -> Script {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/upcat/dns.js");
    Script::spawn(program("node", "nodejs").arg(script).args(args))
}

#[tokio::test]
async fn node_resolves_names_through_upcat() {
    let mut server = dns(&["server"]);
    let port = server.next_line().await.expect("a port");
    let target = format!("127.0.0.1:{port}");
    let program = build("upcat", &["datagram"]).await;
    let program = program.to_str().expect("UTF-8");
    for (server, args) in CONNECTIONS {
        let proxy = proxy(&target, server).await;
        let udp = ["--udp", &target, "--length-prefixed", "--wait", "0.2"];
        let args = [&["client", program], &udp[..], args, &[&proxy.url]].concat();
        let mut client = dns(&args);
        assert_eq!(client.next_line().await.as_deref(), Some("dns ok"));
        proxy.stop("TERM").await;
    }
}
