//! `relay` in a protocol handler.

use crate::{
    suite::bytes,
    support::{
        Server, Via,
        h2::{Client, extended_connect},
        offer, plain, soon, tcp,
        tls::Tls,
        until,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, Closed, ProtocolHandler, Rejection, Sessions, UpgradeLayer, UpgradeRequest,
    tunnel::relay,
};

/// Relays a session to a connection whose peer the test holds.
#[derive(Clone, Default)]
struct RelayToUpstream {
    upstream: Arc<std::sync::Mutex<Option<TcpStream>>>,
}

impl ProtocolHandler for RelayToUpstream {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let upstream = self.upstream.lock().expect("no panic").take();
        let upstream = upstream.expect("one session for each test");
        Ok(Accept::new(|session| relay(session, upstream)))
    }
}

struct Tunnel {
    _server: Server,
    client: TcpStream,
    upstream: TcpStream,
    sessions: Sessions,
    ends: UnboundedReceiver<(&'static str, u64, u64)>,
}

async fn open(via: Via, early: &str) -> Tunnel {
    let (ours, upstream) = tcp::pair().await;
    let handler = RelayToUpstream::default();
    *handler.upstream.lock().expect("no panic") = Some(ours);
    let sessions = Sessions::new();
    let (sender, ends) = unbounded_channel();
    let layer = UpgradeLayer::new()
        .protocol("tunnel", handler)
        .sessions(sessions.clone())
        .idle_timeout(Duration::from_secs(3600))
        .on_close(move |closed: &Closed| {
            let (read, written) = (closed.bytes_read(), closed.bytes_written());
            // The test may have finished.
            let _ = sender.send((closed.reason().as_str(), read, written));
        });
    let server = Server::start_via(via, layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    let mut request = offer("tunnel", &[]);
    request.push_str(early);
    peer.send(request).await;
    peer.head().await.assert_upgraded("tunnel");
    Tunnel {
        _server: server,
        client: peer.io,
        upstream,
        sessions,
        ends,
    }
}

#[tokio::test]
async fn session_bytes_are_relayed_and_counted() {
    for via in [Via::Http1, Via::Auto] {
        let mut tunnel = open(via, "early ").await;
        let there = bytes(10_000_000);
        let back = bytes(9_000_000);
        let (mut client_reads, mut client_writes) = tunnel.client.split();
        let (mut upstream_reads, mut upstream_writes) = tunnel.upstream.split();
        let mut at_client = Vec::new();
        let mut at_upstream = Vec::new();
        let talk = async {
            tokio::join!(
                async {
                    client_writes.write_all(&there).await?;
                    client_writes.shutdown().await
                },
                async {
                    upstream_writes.write_all(&back).await?;
                    upstream_writes.shutdown().await
                },
                client_reads.read_to_end(&mut at_client),
                upstream_reads.read_to_end(&mut at_upstream),
            )
        };
        let (sent, answered, read, received) = soon(talk).await;
        sent.expect("loopback");
        answered.expect("loopback");
        read.expect("an end");
        received.expect("an end");
        assert!(at_client == back, "{via:?}");
        assert!(
            at_upstream.strip_prefix(b"early ") == Some(&*there),
            "{via:?}"
        );
        let end = soon(tunnel.ends.recv()).await;
        assert_eq!(end, Some(("finished", 10_000_006, 9_000_000)), "{via:?}");
        until(|| tunnel.sessions.is_empty()).await;
    }
}

#[tokio::test]
async fn drain_ends_a_quiet_relay() {
    let mut tunnel = open(Via::Http1, "").await;
    tokio::time::pause();
    let sessions = tunnel.sessions.clone();
    let drained = tokio::spawn(async move { sessions.drain(Duration::from_secs(3600)).await });
    let mut rest = Vec::new();
    let ended = soon(tunnel.client.read_to_end(&mut rest)).await;
    assert_eq!(ended.expect("an end"), 0);
    let ended = soon(tunnel.upstream.read_to_end(&mut rest)).await;
    assert_eq!(ended.expect("an end"), 0);
    drop((tunnel.client, tunnel.upstream));
    assert_eq!(soon(tunnel.ends.recv()).await, Some(("drained", 0, 0)));
    let report = soon(drained).await.expect("no panic");
    assert_eq!(report.aborted, 0, "{report}");
}

#[tokio::test]
async fn aborted_session_with_unsent_bytes_resets() {
    let mut tunnel = open(Via::Http1, "").await;
    let mut upstream = tunnel.upstream;
    // More than the kernel buffers.
    let sending = tokio::spawn(async move { upstream.write_all(&bytes(64 * 1024 * 1024)).await });
    let mut some = vec![0; 100_000];
    let read = soon(tunnel.client.read_exact(&mut some)).await;
    read.expect("part of the bytes");
    // Yield until the relay stalls.
    let mut before = 0;
    while before != tunnel.sessions.list()[0].bytes_written() {
        before = tunnel.sessions.list()[0].bytes_written();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(soon(tunnel.sessions.drain(Duration::ZERO)).await.aborted, 1);
    let rest = soon(tunnel.client.read_to_end(&mut some)).await;
    let error = rest.expect_err("a reset: the rest is missing");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let sent = soon(sending).await.expect("no panic");
    sent.expect_err("the session was aborted");
}

#[tokio::test]
async fn upstream_reset_resets_the_client() {
    let mut tunnel = open(Via::Http1, "").await;
    let sent = bytes(3_000_000);
    let mut received = vec![0; sent.len()];
    let (client, upstream) = (&mut tunnel.client, &mut tunnel.upstream);
    let talk = async { tokio::join!(upstream.write_all(&sent), client.read_exact(&mut received)) };
    soon(talk).await.1.expect("all bytes");
    tunnel.upstream.set_zero_linger().expect("a socket");
    drop(tunnel.upstream);
    let error = soon(tunnel.client.read(&mut [0]))
        .await
        .expect_err("a broken connection");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(
        soon(tunnel.ends.recv()).await,
        Some(("failed", 0, 3_000_000))
    );
}

#[tokio::test]
async fn upstream_reset_over_tls_omits_close_notify() {
    let (ours, upstream) = tcp::pair().await;
    let handler = RelayToUpstream::default();
    *handler.upstream.lock().expect("no panic") = Some(ours);
    let layer = UpgradeLayer::new().protocol("tunnel", handler);
    let tls = Tls::new();
    let acceptor = tls.acceptor.clone();
    let service = layer.layer(service_fn(plain));
    let server = Server::start_with(Via::Http1, service, move |io| acceptor.accept(io)).await;
    let mut peer = tls.connect(server.connect().await).await;
    peer.send(offer("tunnel", &[])).await;
    peer.head().await.assert_upgraded("tunnel");
    upstream.set_zero_linger().expect("a socket");
    drop(upstream);
    let error = soon(peer.io.read(&mut [0]))
        .await
        .expect_err("a broken connection");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

/// RFC 9113 §8.5 asks for a reset of the stream, which hyper does not send.
#[tokio::test]
async fn upstream_reset_over_http2_looks_like_eof() {
    let (ours, upstream) = tcp::pair().await;
    let handler = RelayToUpstream::default();
    *handler.upstream.lock().expect("no panic") = Some(ours);
    let layer = UpgradeLayer::new().protocol("tunnel", handler);
    let server = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let mut client = Client::connect(server.connect().await).await;
    let request = extended_connect("tunnel").body(()).expect("a request");
    let mut tunnel = client.ask(request).await.peer;
    upstream.set_zero_linger().expect("a socket");
    drop(upstream);
    assert_eq!(soon(tunnel.io.read(&mut [0])).await.expect("an end"), 0);
}
