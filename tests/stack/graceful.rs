//! Graceful shutdown: which sessions hyper, hyper-util and `axum::serve` wait for.

use crate::connection::{Connection, http2, sockets};
use crate::http2::{EXTENDED_CONNECT, ask};
use crate::support::{
    Peer, frames, h2::Client, handlers::echo, handlers::run_echo, offer, plain, soon, text,
};
use axum::{Router, routing::get};
use h2::Reason;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::sync::Arc;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest};

fn layer() -> UpgradeLayer {
    UpgradeLayer::new()
        .protocol("echo", echo())
        .protocol("listen", echo())
}

async fn http1(layer: UpgradeLayer) -> (Connection, Peer<TcpStream>) {
    let (io, peer) = sockets().await;
    let service = TowerToHyperService::new(layer.layer(service_fn(plain)));
    let connection = http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let connection = Connection::serve(connection, http1::UpgradeableConnection::graceful_shutdown);
    (connection, peer)
}

/// Manual: "A graceful shutdown does not wait for HTTP/1.1 sessions", and `src/lib.rs` under "Limits, timeouts
/// and shutdown". For `auto` connections see `hyper_graceful_shutdown_does_not_wait_for_sessions` in
/// `tests/session/life.rs`.
#[tokio::test]
async fn http1_connection_future_ends_when_session_begins() {
    let (connection, mut peer) = http1(layer()).await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    let ended = soon(connection.served).await.expect("no panic");
    ended.expect("a graceful end");
    peer.expect_echo(b"still here").await;
}

struct Slow(Arc<(Notify, Notify)>);

impl ProtocolHandler for Slow {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let (asked, decide) = &*self.0;
        asked.notify_one();
        decide.notified().await;
        Ok(Accept::new(run_echo))
    }
}

/// Manual: "A graceful shutdown does not wait for HTTP/1.1 sessions".
#[tokio::test]
async fn pending_upgrade_at_graceful_shutdown_completes_with_connection_close() {
    let slow = Arc::new((Notify::new(), Notify::new()));
    let layer = UpgradeLayer::new().protocol("echo", Slow(Arc::clone(&slow)));
    let (connection, mut peer) = http1(layer).await;
    peer.send(offer("echo", &[])).await;
    soon(slow.0.notified()).await;
    let served = connection.shut_down().await;
    slow.1.notify_one();
    let head = peer.head().await;
    head.assert_upgraded("echo");
    assert_eq!(head.get("connection").as_deref(), Some("upgrade, close"));
    soon(served).await.expect("no panic").expect("an end");
    peer.expect_echo(b"a session all the same").await;
}

/// Manual: "A graceful shutdown waits for HTTP/2 sessions".
#[tokio::test]
async fn http2_graceful_shutdown_ignores_new_requests_and_ends_with_last_session() {
    let (connection, peer) = http2(layer().layer(service_fn(plain))).await;
    let mut client = frames::Connection::connect(peer).await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let stream = client.request(&EXTENDED_CONNECT).await;
        assert_eq!(client.frame_of(stream).await.kind, frames::HEADERS);
        sessions.push(stream);
    }
    let served = connection.shut_down().await;
    assert_eq!(goaway(&mut client).await, (0x7fff_ffff, Reason::NO_ERROR));
    // hyper sends the second GOAWAY once the client has acknowledged the PING.
    let ping = client.next(frames::PING).await;
    client
        .send(frames::PING, frames::ACK, 0, &ping.payload)
        .await;
    assert_eq!(goaway(&mut client).await, (sessions[1], Reason::NO_ERROR));

    let ignored = client.request(&EXTENDED_CONNECT).await;
    for stream in sessions {
        // Frames arrive in order: a response to the ignored request would come before this echo.
        for (sent, flags) in [("still ", 0), ("here", 1)] {
            client
                .send(frames::DATA, flags, stream, sent.as_bytes())
                .await;
            let heard = next_frame_except(&mut client, ignored).await;
            assert_eq!((heard.kind, heard.stream), (frames::DATA, stream));
            assert_eq!(text(&heard.payload), sent);
        }
        let end = next_frame_except(&mut client, ignored).await;
        assert_eq!((end.kind, end.flags, end.stream), (frames::DATA, 1, stream));
    }
    soon(served).await.expect("no panic").expect("an end");
}

/// Returns the last stream of the next GOAWAY, and its reason.
async fn goaway(client: &mut frames::Connection) -> (u32, Reason) {
    let frame = client.next(frames::GOAWAY).await;
    let number = |at| {
        let bytes = frame.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    };
    (number(0), number(4).into())
}

/// Returns the next frame of a stream, and panics if that is the `ignored` one.
async fn next_frame_except(client: &mut frames::Connection, ignored: u32) -> frames::Frame {
    loop {
        let frame = client.frame().await.expect("the connection goes on");
        assert_ne!(frame.stream, ignored, "{frame:?}");
        if frame.stream != 0 && frame.kind != frames::WINDOW_UPDATE {
            return frame;
        }
    }
}

/// Manual: "A graceful shutdown waits for HTTP/2 sessions".
#[tokio::test]
async fn hyper_util_graceful_shutdown_waits_for_http2_sessions() {
    let (io, peer) = sockets().await;
    let service = TowerToHyperService::new(layer().layer(service_fn(plain)));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol();
    let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service);
    let connections = GracefulShutdown::new();
    tokio::spawn(connections.watch(connection.into_owned()));

    let mut client = Client::connect(peer).await;
    let mut peer = ask(&mut client, "echo").await.expect_upgraded();
    let shutdown = tokio::spawn(connections.shutdown());
    for _ in 0..3 {
        peer.expect_echo(b"still here").await;
        assert!(!shutdown.is_finished());
    }
    peer.finish().await;
    peer.expect_end().await;
    soon(shutdown).await.expect("no panic");
}

/// Manual: "A graceful shutdown does not wait for HTTP/1.1 sessions" and "A graceful shutdown waits for HTTP/2
/// sessions".
#[tokio::test]
async fn axum_serve_waits_for_http2_sessions_and_not_for_http1() {
    let app = Router::new()
        .route("/", get(|| async { "index" }))
        .layer(layer());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(serving.into_future());
    let connect = || async { Peer::new(TcpStream::connect(address).await.expect("loopback")) };

    let mut http1 = connect().await;
    http1.send(offer("echo", &[])).await;
    http1.head().await.assert_upgraded("echo");
    let mut client = Client::connect(connect().await).await;
    let mut http2 = ask(&mut client, "echo").await.expect_upgraded();
    stop.send(()).expect("a running server");
    // The server has handled the signal when it refuses new connections.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        http2.expect_echo(b"still here").await;
        assert!(!serving.is_finished());
    }
    http2.finish().await;
    http2.expect_end().await;
    soon(serving).await.expect("no panic").expect("an end");
    http1.expect_echo(b"and I go on").await;
}
