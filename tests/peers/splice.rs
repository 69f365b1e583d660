//! The proxy examples move bytes with `splice(2)`, which `strace` counts.

use crate::{
    process::Example,
    support::{Peer, clients::Scripted, head, offer, soon, until},
};
use std::path::{Path, PathBuf};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const LENGTH: usize = 8 * 1024 * 1024;

fn trace_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.strace", std::process::id()))
}

/// Sends until `LENGTH` bytes were spliced. The relay copies while few bytes are readable, so the share depends on the
/// speed of the sender.
async fn send(from: &mut Peer<TcpStream>, to: &mut Peer<TcpStream>, trace: &Path) {
    let sent = vec![7; LENGTH];
    let mut received = vec![0; LENGTH];
    let (from, to) = (&mut from.io, &mut to.io);
    let all = async {
        while spliced(trace) < LENGTH {
            let (wrote, read) = tokio::join!(from.write_all(&sent), to.read_exact(&mut received));
            wrote.expect("the proxy reads");
            read.expect("the proxy writes");
            assert!(received == sent);
        }
    };
    soon(all).await;
}

/// Returns the number of bytes spliced into and out of pipes.
fn spliced(trace: &Path) -> usize {
    let trace = std::fs::read_to_string(trace).expect("a trace");
    trace
        .lines()
        .filter(|line| line.contains("splice"))
        .filter_map(|line| line.rsplit_once("= ")?.1.parse::<usize>().ok())
        .sum()
}

/// Stops the example, and waits for the tracer.
async fn stop(example: Example, trace: &Path) {
    example.signal("TERM").await;
    example.ended().await;
    until(|| {
        let trace = std::fs::read_to_string(trace).expect("a trace");
        trace.trim_end().ends_with("+++ exited with 0 +++")
    })
    .await;
    std::fs::remove_file(trace).expect("a file");
}

#[tokio::test]
async fn connect_proxy_splices() {
    let trace = trace_of("connect_proxy");
    let target = Scripted::start().await;
    let allowed = target.address.to_string();
    let args = ["--allow", &allowed, "--allow", "127.0.0.0/8"];
    let proxy = Example::start_traced("connect_proxy", &args, &trace).await;
    let mut client = proxy.connect().await;
    let connect = format!("CONNECT {allowed} HTTP/1.1");
    let host = format!("Host: {allowed}");
    client.send(head(&[&connect, &host])).await;
    assert_eq!(client.head().await.status, 200);
    let mut at_target = target.accept().await;
    send(&mut at_target, &mut client, &trace).await;
    drop((client, at_target));
    stop(proxy, &trace).await;
}

#[tokio::test]
async fn reverse_proxy_splices() {
    let trace = trace_of("reverse_proxy");
    let backend = Scripted::start().await;
    let uri = format!("http://{}", backend.address);
    let proxy = Example::start_traced("reverse_proxy", &["--backend", &uri], &trace).await;
    let mut client = proxy.connect().await;
    client.send(offer("chat", &[])).await;
    let mut at_backend = backend.accept().await;
    at_backend.request_head().await;
    let upgrade_response = [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: upgrade",
        "Upgrade: chat",
    ];
    at_backend.send(head(&upgrade_response)).await;
    client.head().await.assert_upgraded("chat");
    send(&mut client, &mut at_backend, &trace).await;
    drop((client, at_backend));
    stop(proxy, &trace).await;
}
