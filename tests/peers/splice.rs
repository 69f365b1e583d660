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

const MUCH: usize = 8 * 1024 * 1024;

fn trace_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.strace", std::process::id()))
}

/// Sends from one to the other until much was spliced. The relay copies while little waits to be read, and that depends
/// on how fast the sender runs on this machine.
async fn send(from: &mut Peer<TcpStream>, to: &mut Peer<TcpStream>, trace: &Path) {
    let sent = vec![7; MUCH];
    let mut received = vec![0; MUCH];
    let (from, to) = (&mut from.io, &mut to.io);
    let all = async {
        while spliced(trace) < MUCH {
            let (wrote, read) = tokio::join!(from.write_all(&sent), to.read_exact(&mut received));
            wrote.expect("the proxy reads");
            read.expect("the proxy writes");
            assert!(received == sent);
        }
    };
    soon(all).await;
}

/// The bytes that were spliced into a pipe, and out of one.
fn spliced(trace: &Path) -> usize {
    let trace = std::fs::read_to_string(trace).expect("a trace");
    trace
        .lines()
        .filter(|line| line.contains("splice"))
        .filter_map(|line| line.rsplit_once("= ")?.1.parse::<usize>().ok())
        .sum()
}

/// Ends the example, and then the tracer ends.
async fn end(example: Example, trace: &Path) {
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
    end(proxy, &trace).await;
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
    send(&mut client, &mut at_backend, &trace).await;
    drop((client, at_backend));
    end(proxy, &trace).await;
}
