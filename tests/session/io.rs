//! `Upgraded`: its traits, its early bytes, and `downcast` to the concrete type.

use crate::support::{Server, Via, handlers::run_echo, offer, plain, soon, text, until};
use bytes::Bytes;
use std::{
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{BoxIo, Session, UpgradeLayer, Upgraded, UpgradedParts, copy, handler_fn};

/// Starts a server that sends the IO of each session to the receiver.
async fn raw_server(via: Via) -> (Server, mpsc::UnboundedReceiver<Upgraded>) {
    raw_server_of(via, |tcp| tcp).await
}

/// Starts such a server with every accepted socket wrapped by `wrap`.
async fn raw_server_of<Io>(
    via: Via,
    wrap: fn(TcpStream) -> Io,
) -> (Server, mpsc::UnboundedReceiver<Upgraded>)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    let raw = handler_fn(move |session: Session| {
        let sender = sender.clone();
        async move {
            sender.send(session.into_io())?;
            // Keep the session open, so that its IO stays usable.
            std::future::pending().await
        }
    });
    let layer = UpgradeLayer::new().protocol("raw", raw);
    let service = layer.layer(service_fn(plain));
    let server = Server::start_with(via, service, move |tcp| async move { Ok(wrap(tcp)) });
    (server.await, receiver)
}

#[tokio::test]
async fn downcast_returns_the_socket_with_early_bytes() {
    for via in [Via::Http1, Via::Auto] {
        let (server, mut sessions) = raw_server(via).await;
        for early in ["", "early bytes"] {
            let mut peer = server.connect().await;
            peer.send(offer("raw", &[]) + early).await;
            peer.head().await.assert_upgraded("raw");
            let io = soon(sessions.recv()).await.expect("a session");

            // A failed downcast returns the `Upgraded`.
            let io = io
                .downcast::<tokio::net::UnixStream>()
                .expect_err("a TcpStream");
            let UpgradedParts {
                mut io, read_buf, ..
            } = io.downcast::<TcpStream>().expect("a TcpStream");
            assert_eq!(io.local_addr().expect("a socket"), server.address);
            assert_eq!(text(&read_buf), early, "{via:?}");

            io.write_all(b"raw").await.expect("the socket");
            assert_eq!(peer.exactly(3).await, b"raw");
            drop(io);
            peer.expect_end().await;
        }
    }
}

#[tokio::test]
async fn downcast_returns_the_unread_part_of_early_bytes() {
    let (server, mut sessions) = raw_server(Via::Auto).await;
    let mut peer = server.connect().await;
    peer.send(offer("raw", &[]) + "early bytes").await;
    let mut io = soon(sessions.recv()).await.expect("a session");
    let mut first = [0; 6];
    io.read_exact(&mut first).await.expect("early bytes");
    let UpgradedParts { read_buf, .. } = io.downcast::<TcpStream>().expect("a TcpStream");
    assert_eq!((&first[..], &read_buf[..]), (&b"early "[..], &b"bytes"[..]));
}

#[tokio::test]
async fn downcast_finds_the_socket_in_a_served_box_io() {
    for via in [Via::Http1, Via::Auto] {
        let (server, mut sessions) = raw_server_of(via, BoxIo::new).await;
        let mut peer = server.connect().await;
        peer.send(offer("raw", &[]) + "early").await;
        peer.head().await.assert_upgraded("raw");
        let io = soon(sessions.recv()).await.expect("a session");
        let io = io
            .downcast::<tokio::net::UnixStream>()
            .expect_err("a TcpStream");
        let UpgradedParts { io, read_buf, .. } = io.downcast::<BoxIo>().expect("a BoxIo");
        let io = Upgraded::from_parts(UpgradedParts::new(io, read_buf));
        let UpgradedParts {
            mut io, read_buf, ..
        } = io.downcast::<TcpStream>().expect("a TcpStream");
        assert_eq!(read_buf, "early");
        io.write_all(b"hello").await.expect("a socket");
        assert_eq!(peer.exactly(5).await, b"hello");
    }
}

#[tokio::test]
async fn into_parts_takes_the_io_from_its_session() {
    let (server, mut sessions) = raw_server(Via::Http1).await;
    let mut peer = server.connect().await;
    peer.send(offer("raw", &[]) + "early").await;
    peer.head().await.assert_upgraded("raw");
    let parts: UpgradedParts<BoxIo> = soon(sessions.recv()).await.expect("a session").into_parts();
    // The session does not shut down an IO that `into_parts` took out of it.
    let mut io = Upgraded::from_parts(parts);
    io.write_all(b"still here").await.expect("an IO");
    assert_eq!(peer.exactly(10).await, b"still here");
    let mut early = [0; 5];
    io.read_exact(&mut early).await.expect("early bytes");
    assert_eq!(&early, b"early");
    io.shutdown().await.expect("an IO");
    peer.expect_end().await;
}

#[tokio::test]
async fn from_parts_reads_buffered_bytes_before_the_io() {
    let message = b"0123456789";
    for split in 0..=message.len() {
        for step in 1..=message.len() {
            let (io, mut peer) = tokio::io::duplex(64);
            peer.write_all(&message[split..]).await.expect("memory");
            drop(peer);
            let read_buf = Bytes::copy_from_slice(&message[..split]);
            let mut io = Upgraded::from_parts(UpgradedParts::new(io, read_buf));
            let mut received = Vec::new();
            let mut buffer = vec![0; step];
            loop {
                match io.read(&mut buffer).await.expect("memory") {
                    0 => break,
                    read => received.extend_from_slice(&buffer[..read]),
                }
            }
            assert_eq!(
                text(&received),
                text(message),
                "split at {split}, {step} at a time"
            );
        }
    }
}

#[tokio::test]
async fn from_parts_downcasts_to_its_io_type() {
    let (io, _peer) = tokio::io::duplex(64);
    let io = Upgraded::from_parts(UpgradedParts::new(io, Bytes::from_static(b"early")));
    let io = io.downcast::<TcpStream>().expect_err("a DuplexStream");
    let parts = io
        .downcast::<tokio::io::DuplexStream>()
        .expect("a DuplexStream");
    assert_eq!(parts.read_buf, "early");
}

#[tokio::test]
async fn into_parts_and_from_parts_round_trip() {
    let (io, mut peer) = tokio::io::duplex(64);
    let mut io = Upgraded::from_parts(UpgradedParts::new(io, Bytes::from_static(b"early bytes")));
    let mut first = [0; 6];
    io.read_exact(&mut first).await.expect("early bytes");
    let parts = io.into_parts();
    assert_eq!((&first, &parts.read_buf[..]), (b"early ", &b"bytes"[..]));

    peer.write_all(b" and late ones").await.expect("memory");
    let io = Upgraded::from_parts(UpgradedParts::new(parts.io, parts.read_buf));
    let parts = io
        .downcast::<tokio::io::DuplexStream>()
        .expect("a DuplexStream");
    assert_eq!(parts.read_buf, "bytes");
    let mut io = Upgraded::from_parts(parts);
    drop(peer);
    let mut rest = String::new();
    io.read_to_string(&mut rest).await.expect("memory");
    assert_eq!(rest, "bytes and late ones");
}

/// Reports the number of slices of each write.
struct Vectored(mpsc::UnboundedSender<usize>);

impl AsyncRead for Vectored {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Vectored {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let _ = self.0.send(1);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let _ = self.0.send(bufs.len());
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn vectored_writes_stay_vectored() {
    let slices = [
        IoSlice::new(b"a"),
        IoSlice::new(b"bc"),
        IoSlice::new(b"def"),
    ];

    let (sender, mut writes) = mpsc::unbounded_channel();
    let mut io = Upgraded::from_parts(UpgradedParts::new(Vectored(sender), Bytes::new()));
    assert!(AsyncWrite::is_write_vectored(&io));
    assert!(hyper::rt::Write::is_write_vectored(&io));
    assert_eq!(io.write_vectored(&slices).await.expect("memory"), 6);
    assert_eq!(writes.recv().await, Some(3));
    let write = |cx: &mut Context<'_>| {
        hyper::rt::Write::poll_write_vectored(Pin::new(&mut io), cx, &slices)
    };
    assert_eq!(std::future::poll_fn(write).await.expect("memory"), 6);
    assert_eq!(writes.recv().await, Some(3));

    // The same through hyper's `Upgraded` and a socket.
    for via in [Via::Http1, Via::Auto] {
        let (server, mut sessions) = raw_server(via).await;
        let mut peer = server.connect().await;
        peer.send(offer("raw", &[])).await;
        peer.head().await.assert_upgraded("raw");
        let mut io = soon(sessions.recv()).await.expect("a session");
        assert!(AsyncWrite::is_write_vectored(&io), "{via:?}");
        assert_eq!(io.write_vectored(&slices).await.expect("a socket"), 6);
        assert_eq!(peer.exactly(6).await, b"abcdef");
    }
}

#[tokio::test]
async fn upgraded_implements_hyper_io_traits() {
    let (server, mut sessions) = raw_server(Via::Http1).await;
    let mut peer = server.connect().await;
    peer.send(offer("raw", &[]) + "early").await;
    peer.head().await.assert_upgraded("raw");
    let io = soon(sessions.recv()).await.expect("a session");
    // `TokioIo` implements tokio's traits for a type with hyper's.
    let mut io = hyper_util::rt::TokioIo::new(io);
    let mut early = [0; 5];
    io.read_exact(&mut early).await.expect("early bytes");
    assert_eq!(&early, b"early");
    io.write_all(b"late").await.expect("a socket");
    io.flush().await.expect("a socket");
    assert_eq!(peer.exactly(4).await, b"late");
    io.shutdown().await.expect("a socket");
    peer.expect_end().await;
}

#[tokio::test]
async fn half_close_works_in_both_directions() {
    let server = {
        let layer = UpgradeLayer::new()
            .protocol("echo", handler_fn(run_echo))
            .protocol(
                "count",
                handler_fn(|session: Session| async move {
                    // The handler shuts down its write side first, and still reads to EOF.
                    let mut io = session.into_io();
                    io.write_all(b"go on").await?;
                    io.shutdown().await?;
                    let heard = copy(&mut io, &mut tokio::io::sink()).await?;
                    assert_eq!(heard, 100_000);
                    Err("heard it all".into())
                }),
            );
        Server::start(layer.layer(service_fn(plain))).await
    };
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    peer.send(b"the end").await;
    peer.finish().await;
    assert_eq!(text(&peer.rest().await.expect("an orderly end")), "the end");

    let (log, _guard) = crate::support::log::Log::start();
    let mut peer = server.connect().await;
    peer.send(offer("count", &[])).await;
    peer.head().await.assert_upgraded("count");
    assert_eq!(text(&peer.rest().await.expect("an orderly end")), "go on");
    peer.send(vec![b'x'; 100_000]).await;
    peer.finish().await;
    until(|| !log.lines("heard it all").is_empty()).await;
}

#[tokio::test]
async fn flush_reaches_the_io() {
    // Returns an IO that buffers writes, and its peer.
    let buffered = || {
        let (io, peer) = tokio::io::duplex(64);
        let io = tokio::io::BufWriter::with_capacity(1024, io);
        let read_buf = Bytes::new();
        (Upgraded::from_parts(UpgradedParts::new(io, read_buf)), peer)
    };
    let mut received = [0; 5];

    let (mut io, mut peer) = buffered();
    io.write_all(b"hello").await.expect("memory");
    io.flush().await.expect("memory");
    soon(peer.read_exact(&mut received)).await.expect("memory");

    let (io, mut peer) = buffered();
    let mut io = hyper_util::rt::TokioIo::new(io);
    io.write_all(b"hello").await.expect("memory");
    io.flush().await.expect("memory");
    soon(peer.read_exact(&mut received)).await.expect("memory");

    // The same through hyper's `Upgraded`.
    let hello = handler_fn(|mut session: Session| async move {
        session.io_mut().write_all(b"hello").await?;
        session.io_mut().flush().await?;
        std::future::pending().await
    });
    let service = UpgradeLayer::new()
        .protocol("hello", hello)
        .layer(service_fn(plain));
    let (io, peer) = tokio::io::duplex(64);
    let io = tokio::io::BufWriter::with_capacity(1024, io);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(
            hyper_util::rt::TokioIo::new(io),
            hyper_util::service::TowerToHyperService::new(service),
        )
        .with_upgrades();
    tokio::spawn(connection);
    let mut peer = crate::support::Peer::new(peer);
    peer.send(offer("hello", &[])).await;
    peer.head().await.assert_upgraded("hello");
    assert_eq!(peer.exactly(5).await, b"hello");
}
