//! The end of sessions and of connections of rejected requests.

use crate::life::{RefuseAll, request_with};
use crate::support::{Server, handlers::Counted, head, log::Log, offer, plain, soon};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::StreamBody;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest, Upgraded,
    UpgradedParts, handler_fn, testing,
};

#[tokio::test]
async fn session_end_is_logged_with_its_error() {
    let (log, _guard) = Log::start();
    let layer = UpgradeLayer::new()
        .protocol("good", handler_fn(|_session| async { Ok(()) }))
        .protocol(
            "bad",
            handler_fn(|_session| async { Err("it went wrong".into()) }),
        )
        .protocol(
            "own",
            handler_fn(|_session| async {
                tokio::process::Command::new("/nowhere/to/be/found").spawn()?;
                Ok(())
            }),
        )
        .protocol(
            "wrapped",
            handler_fn(|_session| async {
                let error = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(std::io::Error::other(error).into())
            }),
        );
    let service = layer.into_service();
    for (protocol, level, event, error) in [
        ("good", "DEBUG", "session finished", ""),
        ("bad", "WARN", "session failed", "it went wrong"),
        ("own", "WARN", "session failed", "No such file or directory"),
        ("wrapped", "WARN", "session failed", "entity not found"),
    ] {
        let request = testing::request(protocol)
            .body(String::new())
            .expect("a request");
        let exchange = testing::upgrade(service.clone(), request)
            .await
            .expect("a response");
        let mut rest = Vec::new();
        let mut peer = exchange.expect_upgraded(protocol);
        peer.read_to_end(&mut rest).await.expect("an orderly end");
        let lines = log.lines(&format!("protocol={protocol}"));
        assert!(
            lines.len() == 2 && lines[0].contains("session started"),
            "{lines:?}"
        );
        for part in [level, event, error, "kind=upgrade"] {
            assert!(lines[1].contains(part), "{part}: {lines:?}");
        }
    }
}

/// An IO with reads that fail with this error, or return EOF.
struct Broken(Option<std::io::ErrorKind>);

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
        _buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(self.0.map_or(Ok(()), |kind| Err(kind.into())))
    }
}

impl tokio::io::AsyncWrite for Broken {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// Tests a reset and an EOF within a message, each wrapped in an error of the handler.
#[tokio::test]
async fn io_error_of_the_session_is_logged_at_debug() {
    #[derive(Debug)]
    struct Wrapped(std::io::Error);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no message")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    for kind in [Some(std::io::ErrorKind::ConnectionReset), None] {
        let (log, _guard) = Log::start();
        let read = handler_fn(|session| async {
            session.into_io().read_u8().await.map_err(Wrapped)?;
            Ok(())
        });
        let service = UpgradeLayer::new().protocol("echo", read).into_service();
        let (hand_over, io) = tokio::sync::oneshot::channel();
        let parts = UpgradedParts::new(Broken(kind), bytes::Bytes::new());
        drop(hand_over.send(Upgraded::from_parts(parts)));
        let response = service.oneshot(request_with(io)).await;
        assert_eq!(response.expect("infallible").status(), 101);
        crate::support::until(|| !log.lines("session failed").is_empty()).await;
        let lines = log.lines("session failed");
        assert!(lines[0].contains("DEBUG"), "{lines:?}");
    }
}

#[tokio::test]
async fn tunnel_end_is_logged_with_kind_connect() {
    let (log, _guard) = Log::start();
    let tunnel = handler_fn(|_session| async { Ok(()) });
    let service = UpgradeLayer::new().connect(tunnel).into_service();
    let request = testing::connect("test:1").body(String::new());
    let exchange = testing::upgrade(service, request.expect("a request")).await;
    let mut peer = exchange.expect("a response").expect_connected();
    peer.read_to_end(&mut Vec::new())
        .await
        .expect("an orderly end");
    let lines = log.lines("session finished");
    assert!(
        lines.len() == 1 && lines[0].contains("kind=connect") && !lines[0].contains("protocol"),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_timeout_drops_io_that_does_not_shut_down() {
    let writes_too_much = handler_fn(|mut session: Session| async move {
        // The connection takes no bytes, so that the final flush never completes.
        let write = session.io_mut().write_all(&[0; 100]);
        let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
        Ok(())
    });
    let layer = UpgradeLayer::new().protocol("echo", writes_too_much);
    let (send, io) = oneshot::channel();
    let response = tower::ServiceExt::oneshot(layer.layer(service_fn(plain)), request_with(io));
    assert_eq!(response.await.expect("infallible").status(), 101);
    let (dropped, is_dropped) = oneshot::channel();
    let io = NeverShutsDown { _dropped: dropped };
    assert!(
        send.send(Upgraded::from_parts(UpgradedParts::new(io, "")))
            .is_ok()
    );
    let before = tokio::time::Instant::now();
    let dropped = tokio::time::timeout(Duration::from_secs(1000), is_dropped).await;
    assert!(dropped.is_ok(), "the IO is not dropped");
    // The handler takes 1 second, and the shutdown timeout 10.
    assert_eq!(before.elapsed().as_secs(), 11);
}

#[tokio::test(start_paused = true)]
async fn shutdown_timeout_drops_connection_of_rejected_request() {
    let connect = head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]);
    let upgrade = offer("echo", &["Connection: close"]);
    let minute = || UpgradeLayer::new().shutdown_timeout(Duration::from_secs(60));
    for (outer, inner, request, seconds) in [
        (UpgradeLayer::new(), UpgradeLayer::new(), &upgrade, 10),
        (UpgradeLayer::new(), minute(), &upgrade, 60),
        (minute(), UpgradeLayer::new(), &upgrade, 60),
        // The outermost layer takes the connection of a CONNECT before a handler is chosen.
        (UpgradeLayer::new(), minute(), &connect, 60),
    ] {
        let inner = inner.protocol("echo", RefuseAll).connect(RefuseAll);
        let service = outer.layer(inner.layer(service_fn(plain)));
        let service = TowerToHyperService::new(service);
        let (mut peer, inner) = tokio::io::duplex(1024);
        let (dropped, is_dropped) = oneshot::channel();
        let io = NoEnd {
            io: inner,
            _dropped: dropped,
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        tokio::spawn(connection);
        let before = tokio::time::Instant::now();
        let asked = peer.write_all(request.as_bytes());
        asked.await.expect("memory");
        let dropped = tokio::time::timeout(Duration::from_secs(1000), is_dropped).await;
        assert!(dropped.is_ok(), "the IO is not dropped");
        assert_eq!(before.elapsed().as_secs(), seconds);
    }
}

/// An IO that takes no bytes, and never completes a flush or a shutdown.
struct NeverShutsDown {
    _dropped: oneshot::Sender<()>,
}

/// An IO that works, but never completes a shutdown.
struct NoEnd {
    io: tokio::io::DuplexStream,
    _dropped: oneshot::Sender<()>,
}

mod never {
    use super::{NeverShutsDown, NoEnd};
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    impl AsyncRead for NeverShutsDown {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for NeverShutsDown {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncRead for NoEnd {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for NoEnd {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.io).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }
}

#[tokio::test(start_paused = true)]
async fn session_reads_for_a_second_after_its_end() {
    let layer = UpgradeLayer::new().protocol("echo", handler_fn(|_session| async { Ok(()) }));
    let (send, io) = oneshot::channel();
    let response = tower::ServiceExt::oneshot(layer.layer(service_fn(plain)), request_with(io));
    assert_eq!(response.await.expect("infallible").status(), 101);
    let (io, mut peer) = tokio::io::duplex(64);
    assert!(
        send.send(Upgraded::from_parts(UpgradedParts::new(io, "")))
            .is_ok()
    );

    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).await.expect("an end");
    let before = tokio::time::Instant::now();
    // The session keeps reading for a second, although more bytes keep arriving.
    while peer.write_all(&[0; 64]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(before.elapsed().as_millis() / 100, 10);
}

/// Rejects with a body longer than 16 KiB, or without a body, as the path says.
#[derive(Clone)]
struct RejectsAtLength;

const LONG: usize = 20_000;

impl ProtocolHandler for RejectsAtLength {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let text = "x".repeat(LONG);
        Err(match request.uri().path() {
            "/long" => Rejection::new(StatusCode::FORBIDDEN, text),
            "/unknown" => {
                // The size of a stream is unknown.
                let frames = [Ok::<_, BoxError>(http_body::Frame::data(Bytes::from(text)))];
                let body = StreamBody::new(futures_util::stream::iter(frames));
                http::Response::new(body).into()
            }
            _ => StatusCode::FORBIDDEN.into(),
        })
    }
}

/// Sends a request head without its body, which is rejected, and returns the client side.
async fn rejected_before_body(path: &str) -> tokio::io::DuplexStream {
    let layer = UpgradeLayer::new().protocol("echo", RejectsAtLength);
    let service = TowerToHyperService::new(layer.layer(service_fn(plain)));
    let (mut peer, io) = tokio::io::duplex(1024);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    tokio::spawn(connection);
    let offer = offer("echo", &["Content-Length: 100000000"]);
    let offer = offer.replacen("GET /", &format!("GET {path}"), 1);
    peer.write_all(offer.as_bytes()).await.expect("memory");
    peer
}

#[tokio::test(start_paused = true)]
async fn connection_is_kept_10_seconds_for_a_long_rejection_only() {
    for (path, seconds) in [("/short", 0), ("/long", 10), ("/unknown", 10)] {
        let mut peer = rejected_before_body(path).await;
        let before = tokio::time::Instant::now();
        let mut response = Vec::new();
        soon(peer.read_to_end(&mut response)).await.expect("an end");
        assert_eq!(before.elapsed().as_secs(), seconds, "{path}");
        assert_eq!(response.len() > LONG, seconds > 0, "{path}");
    }
}

/// Starts a session, waits until the peer reads EOF, and returns the peer.
async fn ended(handler: impl ProtocolHandler) -> tokio::io::DuplexStream {
    let layer = UpgradeLayer::new().protocol("echo", handler);
    let (send, io) = oneshot::channel();
    let response = tower::ServiceExt::oneshot(layer.layer(service_fn(plain)), request_with(io));
    assert_eq!(response.await.expect("infallible").status(), 101);
    let (io, mut peer) = tokio::io::duplex(64);
    let parts = UpgradedParts::new(io, "");
    assert!(send.send(Upgraded::from_parts(parts)).is_ok());
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).await.expect("an end");
    peer
}

#[tokio::test(start_paused = true)]
async fn empty_read_is_not_eof() {
    let brief = handler_fn(|mut session: Session| async move {
        assert_eq!(session.io_mut().read(&mut []).await?, 0);
        Ok(())
    });
    let mut peer = ended(brief).await;
    peer.write_all(&[0; 1000]).await.expect("still reading");
}

#[tokio::test(start_paused = true)]
async fn failed_downcast_leaves_the_io_to_its_session() {
    let brief = handler_fn(|session: Session| async move {
        let io = session.into_io().downcast::<tokio::net::TcpStream>();
        drop(io.expect_err("not a socket"));
        Ok(())
    });
    let mut peer = ended(brief).await;
    peer.write_all(&[0; 1000]).await.expect("still reading");
}

#[tokio::test(start_paused = true)]
async fn bytes_read_after_the_session_end_are_bounded() {
    let mut peer = ended(handler_fn(|_session| async { Ok(()) })).await;
    let mut sent = 0;
    while sent < 10_000_000 && peer.write_all(&[0; 1000]).await.is_ok() {
        sent += 1000;
    }
    assert!(
        (1_000_000..2_000_000).contains(&sent),
        "{sent} bytes were read"
    );
}

thread_local! {
    static PANICS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[tokio::test]
async fn session_leaves_no_panicking_task() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.with(|panics| panics.set(panics.get() + 1));
        default(panic);
    }));
    let handler = Counted::default();
    let layer = UpgradeLayer::new().protocol("echo", handler.clone());
    let server = Server::start(layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    peer.head().await.assert_upgraded("echo");
    peer.expect_echo(b"hello").await;
    peer.finish().await;
    peer.expect_end().await;
    // All tasks of this runtime run on this thread.
    assert_eq!(PANICS.with(std::cell::Cell::get), 0);
}
