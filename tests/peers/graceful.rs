//! The shutdown of `examples/graceful.rs`.

use crate::{
    process::Example,
    support::{
        AnyIo, Peer,
        h2::{Client, extended_connect},
        head, offer, soon, text,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

async fn open(server: &Example, protocol: &str) -> Peer<TcpStream> {
    let mut peer = server.connect().await;
    peer.send(offer(protocol, &[])).await;
    peer.head().await.assert_upgraded(protocol);
    peer
}

/// Returns the status of a plain GET.
async fn status(server: &Example, path: &str) -> u16 {
    let mut peer = server.connect().await;
    let line = format!("GET {path} HTTP/1.1");
    peer.send(head(&[&line, "Host: test", "Connection: close"]))
        .await;
    peer.head().await.status
}

/// Stops a server with one session that obeys the stop signal and one that ignores it.
async fn stop<Io: AnyIo>(server: Example, mut cooperative: Peer<Io>, mut stubborn: Peer<Io>) {
    cooperative.expect_echo(b"hello").await;
    stubborn.expect_echo(b"hello").await;
    server.signal("TERM").await;
    cooperative.expect_end().await;
    // The handler was aborted. The connection still shuts down in an orderly way.
    stubborn.expect_end().await;
    let (stdout, stderr) = server.ended().await;
    assert_eq!(stdout, "1 sessions ended, 1 aborted, 0 left\n");
    assert_eq!(stderr, "");
}

#[tokio::test]
async fn sessions_end_at_the_stop_signal_or_the_deadline() {
    let server = Example::start("graceful", &["--notice", "0", "--deadline", "1"]).await;
    let cooperative = open(&server, "echo").await;
    let stubborn = open(&server, "stubborn").await;
    stop(server, cooperative, stubborn).await;
}

#[tokio::test]
async fn http2_streams_end_at_the_stop_signal_or_the_deadline() {
    let server = Example::start("graceful", &["--notice", "0", "--deadline", "1"]).await;
    let mut client = Client::connect(server.connect().await).await;
    let [cooperative, stubborn] = ["echo", "stubborn"]
        .map(|protocol| extended_connect(protocol).body(()).expect("a request"));
    let cooperative = client.ask(cooperative).await.expect_upgraded();
    let stubborn = client.ask(stubborn).await.expect_upgraded();
    stop(server, cooperative, stubborn).await;
    client.ended().await.expect("an orderly end");
}

#[tokio::test]
async fn server_answers_503_before_it_stops_listening() {
    let hour = ["--notice", "3600", "--deadline", "3600"];
    let server = Example::start("graceful", &hour).await;
    assert_eq!(status(&server, "/ready").await, 200);
    let mut before = open(&server, "stubborn").await;
    server.signal("INT").await;
    soon(async { while status(&server, "/ready").await == 200 {} }).await;
    assert_eq!(status(&server, "/ready").await, 503);

    let mut late = server.connect().await;
    for _ in 0..2 {
        late.send(offer("echo", &[])).await;
        let (refusal, _) = late.response().await;
        assert_eq!(refusal.status, 503);
        assert_eq!(refusal.get("retry-after").as_deref(), Some("5"));
    }
    // Plain requests are still served, and open sessions continue.
    late.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
    assert_eq!(late.response().await.1, "1 sessions\n");
    before.expect_echo(b"hello").await;
}

/// Exchanges echoes until the server closes the session.
async fn exchange_echoes(mut peer: Peer<TcpStream>) {
    const WORD: &[u8; 4] = b"word";
    loop {
        // If the session has ended, the next read returns EOF.
        let _ = peer.io.write_all(WORD).await;
        let mut echo = [0; WORD.len()];
        match peer.io.read_exact(&mut echo).await {
            Ok(_) => assert_eq!(&echo, WORD, "{}", text(&echo)),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
                return;
            }
        }
    }
}

#[tokio::test]
async fn thousand_sessions_end_at_the_stop_signal() {
    rlimit::increase_nofile_limit(4096).expect("a limit");
    // The deadline is longer than the test takes: the stop signal ends the sessions.
    let server = Example::start("graceful", &["--notice", "0", "--deadline", "300"]).await;
    let mut open_peers = Vec::new();
    for _ in 0..1000 {
        open_peers.push(open(&server, "echo").await);
    }
    let mut peers = JoinSet::new();
    for (number, mut peer) in open_peers.into_iter().enumerate() {
        peer.expect_echo(b"hello").await;
        if number % 2 == 0 {
            peers.spawn(async move { peer.expect_end().await });
        } else {
            peers.spawn(exchange_echoes(peer));
        }
    }
    server.signal("TERM").await;
    soon(peers.join_all()).await;
    let (stdout, stderr) = server.ended().await;
    assert_eq!(stdout, "1000 sessions ended, 0 aborted, 0 left\n");
    assert_eq!(stderr, "");
}
