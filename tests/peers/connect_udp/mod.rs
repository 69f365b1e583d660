//! QUIC through `ConnectUdp`: aioquic's client and server, with a client of CONNECT-UDP in Python, and with upcat.

use crate::{
    process::Example,
    support::{build::build, soon},
};
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Starts the script in the environment that `.ci/run` creates.
fn quic(args: &[&str]) -> Child {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/quic/bin/python");
    let started = Command::new(&python)
        .arg(root.join("tests/peers/connect_udp/quic.py"))
        .args(args)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    started.unwrap_or_else(|error| {
        panic!(
            "{}: {error}. Create it with `python3 -m venv target/quic` and `target/quic/bin/pip install aioquic`",
            python.display()
        )
    })
}

#[tokio::test]
async fn quic_passes_through_the_proxy() {
    let mut server = quic(&["server"]);
    let mut port = String::new();
    let mut stdout = BufReader::new(server.stdout.take().expect("a pipe"));
    soon(stdout.read_line(&mut port)).await.expect("a port");
    let port = port.trim_end();
    let target = format!("127.0.0.1:{port}");

    let allow = ["--udp", "--allow", &target, "--allow", "127.0.0.0/8"];
    let proxy = Example::start_with("connect_proxy", &["datagram"], &allow).await;
    let proxy_port = proxy.url.rsplit(':').next().expect("a port");
    let proxy_port = proxy_port.trim_end_matches('/');
    let upcat = build("upcat", &["datagram"]).await;
    let upcat = upcat.to_str().expect("UTF-8");
    let piped = ["--udp", &target, "--length-prefixed", &proxy.url];
    for path in [
        &[proxy_port][..],
        &[&[upcat], &piped[..]].concat(),
        &[&[upcat, "--http2"], &piped[..]].concat(),
    ] {
        let mut client = quic(&[&["client", port], path].concat());
        let stdout = client.stdout.take().expect("a pipe");
        let mut stdout = BufReader::new(stdout).lines();
        for case in ["handshake", "stream", "datagrams"] {
            let line = soon(stdout.next_line()).await.expect("readable output");
            assert_eq!(line.as_deref(), Some(case), "{path:?}");
        }
        assert!(soon(client.wait()).await.expect("a child").success());
    }
    proxy.stop("TERM").await;
}
