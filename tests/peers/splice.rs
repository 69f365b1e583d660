//! The proxies among the examples move bytes with `splice(2)`: `strace` counts them.

use crate::{
    example::Example,
    support::{Peer, clients::Scripted, head, offer, soon, until},
};
use std::path::{Path, PathBuf};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const MUCH: usize = 48 * 1024 * 1024;

fn trace_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.strace", std::process::id()))
}

/// Sends much from one to the other.
async fn send(from: &mut Peer<TcpStream>, to: &mut Peer<TcpStream>) {
    let sent = vec![7; MUCH];
    let mut received = vec![0; MUCH];
    let (from, to) = (&mut from.io, &mut to.io);
    let all = async { tokio::join!(from.write_all(&sent), to.read_exact(&mut received)) };
    let (wrote, read) = soon(all).await;
    wrote.expect("the proxy reads");
    read.expect("the proxy writes");
    assert!(received == sent);
}

/// Ends the example, and expects that it has spliced most of what was sent.
async fn expect_spliced(example: Example, trace: &Path) {
    example.signal("TERM").await;
    example.ended().await;
    // The tracer ends after the example.
    let read = || std::fs::read_to_string(trace).expect("a trace");
    until(|| {
        let last = read();
        last.trim_end().ends_with("+++ exited with 0 +++")
    })
    .await;
    let spliced: usize = read()
        .lines()
        .filter(|line| line.contains("splice"))
        .filter_map(|line| line.rsplit_once("= ")?.1.parse::<usize>().ok())
        .sum();
    // Each byte is spliced into a pipe and out of it. Some are copied before the relay begins to splice.
    assert!(spliced > MUCH, "{spliced} of {}", 2 * MUCH);
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
    send(&mut at_target, &mut client).await;
    drop((client, at_target));
    expect_spliced(proxy, &trace).await;
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
    let switch = [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: upgrade",
        "Upgrade: chat",
    ];
    at_backend.send(head(&switch)).await;
    client.head().await.assert_switched("chat");
    send(&mut client, &mut at_backend).await;
    drop((client, at_backend));
    expect_spliced(proxy, &trace).await;
}
