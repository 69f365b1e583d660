//! U7 to U9: request bodies, and early bytes behind the request.

use crate::server::{Refuse, assert_passes, connect_to_echo, echo_server};
use crate::support::{
    Server, Via,
    handlers::{echo, run_echo},
    head, offer, plain, soon, text,
};
use http::{HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tower::{Layer as _, service_fn};
use tower_upgrade::{Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest};

/// An upgrade request that declares a body. The `echo` handler leaves the body unread.
fn offer_with_body(length: usize) -> String {
    offer("echo", &[&format!("Content-Length: {length}")])
}

#[tokio::test]
async fn u7_body_is_read_before_the_101() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let (server, mut has_read) =
        Server::start_metered(Via::Http1, layer.layer(service_fn(plain))).await;
    let mut peer = server.connect().await;
    let request = offer_with_body(10) + "01234";
    peer.send(&request).await;
    // The body is incomplete: the server must not answer after reading this part.
    soon(has_read.wait_for(|total| *total == request.len()))
        .await
        .expect("a server");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let nothing = peer
        .io
        .try_read(&mut [0; 1])
        .expect_err("no response before the whole request");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    peer.send(b"56789after").await;
    peer.head().await.assert_upgraded("echo");
    assert_eq!(text(&peer.exactly(5).await), "after");
    peer.expect_echo(b"more").await;
}

#[tokio::test]
async fn u7_chunked_body_is_read_before_the_101() {
    let (_server, mut peer) = connect_to_echo().await;
    peer.send(offer("echo", &["Transfer-Encoding: chunked"]))
        .await;
    peer.send(b"4\r\nwiki\r\n0\r\nx-trailer: 1\r\n\r\nafter")
        .await;
    peer.head().await.assert_upgraded("echo");
    assert_eq!(text(&peer.exactly(5).await), "after");
    peer.expect_echo(b"more").await;
}

#[tokio::test]
async fn u7_handler_can_read_the_body() {
    struct Docker;
    impl ProtocolHandler for Docker {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let options = request.read_body(1024).await?;
            Ok(Accept::new(move |mut session: Session| async move {
                session.io_mut().write_all(&options).await?;
                run_echo(session).await
            }))
        }
    }
    let server = echo_server(UpgradeLayer::new().protocol("tcp", Docker)).await;
    let mut peer = server.connect().await;
    let json = r#"{"Detach":false,"Tty":false}"#;
    peer.send(head(&[
        "POST /exec/1/start HTTP/1.1",
        "Host: docker",
        "Connection: Upgrade",
        "Upgrade: tcp",
        "Content-Type: application/json",
        &format!("Content-Length: {}", json.len()),
    ]))
    .await;
    peer.send(json).await;
    peer.head().await.assert_upgraded("tcp");
    assert_eq!(text(&peer.exactly(json.len()).await), json);
    peer.expect_echo(b"then the stream").await;

    let mut peer = server.connect().await;
    peer.send(offer("tcp", &["Content-Length: 2000"])).await;
    peer.send([b'x'; 2000]).await;
    let (head, body) = peer.response().await;
    assert_eq!(head.status, 413, "{body}");
    assert!(body.contains("1024"), "{body}");
}

#[tokio::test]
async fn u7_declared_body_over_the_limit_is_not_read() {
    let layer = UpgradeLayer::new().protocol("echo", echo()).body_limit(100);
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    // The client sends no body, and the server must not ask for it with 100.
    peer.send(offer(
        "echo",
        &["Content-Length: 101", "Expect: 100-continue"],
    ))
    .await;
    let (head, body) = peer.response().await;
    head.assert_no_handshake();
    assert_eq!(
        (head.status, head.get("connection").as_deref()),
        (413, Some("close"))
    );
    assert_eq!(body, "the unread request body exceeds 100 bytes");
    peer.expect_end().await;

    let mut peer = server.connect().await;
    peer.send(offer("echo", &["Content-Length: 100"])).await;
    peer.send([b'x'; 100]).await;
    peer.head().await.assert_upgraded("echo");
}

#[tokio::test]
async fn u7_chunked_body_over_the_limit_is_refused() {
    let layer = UpgradeLayer::new().protocol("echo", echo()).body_limit(100);
    let server = echo_server(layer).await;
    // The limit applies to the sum of the chunks.
    for chunks in [&[101][..], &[60, 41], &[1; 101]] {
        let mut peer = server.connect().await;
        peer.send(offer("echo", &["Transfer-Encoding: chunked"]))
            .await;
        let body: String = chunks
            .iter()
            .map(|&length| format!("{length:x}\r\n{}\r\n", "x".repeat(length)))
            .collect();
        peer.send(body).await;
        let (head, _) = peer.response().await;
        head.assert_no_handshake();
        assert_eq!(
            (head.status, head.get("connection").as_deref()),
            (413, Some("close"))
        );
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn u7_default_body_limit_is_64_kib() {
    let (server, mut peer) = connect_to_echo().await;
    peer.send(offer_with_body(64 * 1024)).await;
    peer.send(vec![b'x'; 64 * 1024]).await;
    peer.head().await.assert_upgraded("echo");

    let mut peer = server.connect().await;
    peer.send(offer_with_body(64 * 1024 + 1)).await;
    assert_eq!(peer.response().await.0.status, 413);
}

#[tokio::test]
async fn u7_missing_body_is_rejected() {
    let layer = UpgradeLayer::new()
        .protocol("echo", echo())
        .body_timeout(Duration::from_millis(1));
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer_with_body(10)).await;
    peer.send(b"01234").await;
    let (head, _) = peer.response().await;
    head.assert_no_handshake();
    assert_eq!(
        (head.status, head.get("connection").as_deref()),
        (408, Some("close"))
    );
    peer.expect_end().await;
}

#[tokio::test]
async fn u7_malformed_body_is_refused_even_if_the_handler_ignores_the_error() {
    struct Careless {
        refuses: bool,
    }
    impl ProtocolHandler for Careless {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let body = request.read_body(1024).await;
            if self.refuses {
                body?;
            }
            Ok(Accept::new(run_echo))
        }
    }
    for refuses in [false, true] {
        let server = echo_server(UpgradeLayer::new().protocol("echo", Careless { refuses })).await;
        let mut peer = server.connect().await;
        peer.send(offer("echo", &["Transfer-Encoding: chunked"]))
            .await;
        peer.send(b"no chunk\r\nand no protocol either").await;
        let (head, body) = peer.response().await;
        head.assert_no_handshake();
        assert_eq!(
            (head.status, head.get("connection").as_deref()),
            (400, Some("close"))
        );
        assert_eq!(body, "the request body could not be read");
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn u7_body_timeout_applies_while_the_handler_reads() {
    struct Reads;
    impl ProtocolHandler for Reads {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            request.read_body(1024).await?;
            Ok(Accept::new(run_echo))
        }
    }
    let layer = UpgradeLayer::new()
        .protocol("echo", Reads)
        .body_timeout(Duration::from_millis(1));
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer_with_body(10) + "01234").await;
    let (head, _) = peer.response().await;
    assert_eq!(
        (head.status, head.get("connection").as_deref()),
        (408, Some("close"))
    );
    peer.expect_end().await;
}

#[tokio::test]
async fn u7_malformed_body_is_refused() {
    let (_server, mut peer) = connect_to_echo().await;
    peer.send(offer("echo", &["Transfer-Encoding: chunked"]))
        .await;
    peer.send(b"no chunk\r\n").await;
    let (head, _) = peer.response().await;
    head.assert_no_handshake();
    assert_eq!(
        (head.status, head.get("connection").as_deref()),
        (400, Some("close"))
    );
    peer.expect_end().await;
}

#[tokio::test]
async fn u7_body_up_to_the_limit_is_read_before_a_refusal() {
    let layer = UpgradeLayer::new().protocol("echo", Refuse).body_limit(100);
    let server = echo_server(layer).await;

    let mut peer = server.connect().await;
    peer.send(offer_with_body(100)).await;
    peer.send([b'x'; 100]).await;
    let (head, body) = peer.response().await;
    assert_eq!((head.status, body.as_str()), (403, "not you"));
    assert_passes(
        &mut peer,
        &crate::support::head(&["GET /x HTTP/1.1", "Host: test"]),
    )
    .await;

    // Over the limit, the response is the same with and without the body.
    for sent in [0, 101] {
        let mut peer = server.connect().await;
        peer.send(offer_with_body(101)).await;
        peer.send(vec![b'x'; sent]).await;
        let (head, body) = peer.response().await;
        assert_eq!((head.status, body.as_str()), (403, "not you"));
        assert_eq!(head.get("connection").as_deref(), Some("close"));
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn u7_body_timeout_applies_before_a_refusal() {
    let layer = UpgradeLayer::new()
        .protocol("echo", Refuse)
        .body_timeout(Duration::from_millis(1));
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer_with_body(10)).await;
    peer.send(b"01234").await;
    let (head, body) = peer.response().await;
    assert_eq!((head.status, body.as_str()), (403, "not you"));
    assert_eq!(head.get("connection").as_deref(), Some("close"));
    peer.expect_end().await;
}

#[tokio::test]
async fn u7_body_limit_excludes_the_part_that_the_handler_read() {
    struct ReadSome {
        has_read: Arc<Notify>,
    }
    impl ProtocolHandler for ReadSome {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let first = request.body_mut().frame().await.expect("a frame");
            assert_eq!(
                first.expect("data").data_ref().map(|data| data.len()),
                Some(60)
            );
            assert_eq!(request.body_mut().size_hint().exact(), Some(100));
            self.has_read.notify_one();
            Ok(Accept::new(run_echo))
        }
    }
    let has_read = Arc::new(Notify::new());
    let layer = UpgradeLayer::new()
        .protocol(
            "echo",
            ReadSome {
                has_read: Arc::clone(&has_read),
            },
        )
        .body_limit(100);
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer(
        "echo",
        &["Content-Length: 160", "Expect: 100-continue"],
    ))
    .await;
    assert_eq!(peer.head().await.status, 100);
    peer.send([b'x'; 60]).await;
    soon(has_read.notified()).await;
    peer.send([b'x'; 100]).await;
    peer.head().await.assert_upgraded("echo");
}

#[tokio::test]
async fn u7_refusal_that_closes_keeps_its_connection_options() {
    struct Other;
    impl ProtocolHandler for Other {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Err(Rejection::from(StatusCode::UPGRADE_REQUIRED)
                .header(header::CONNECTION, HeaderValue::from_static("upgrade"))
                .header(header::UPGRADE, HeaderValue::from_static("tls/1.2"))
                .header(header::UPGRADE, HeaderValue::from_static("tls/1.3")))
        }
    }
    let layer = UpgradeLayer::new().protocol("echo", Other).body_limit(1);
    let server = echo_server(layer).await;
    let mut peer = server.connect().await;
    peer.send(offer_with_body(2)).await;
    let (head, _) = peer.response().await;
    assert_eq!(head.status, 426);
    assert_eq!(head.get("upgrade").as_deref(), Some("tls/1.2, tls/1.3"));
    assert_eq!(head.get("connection").as_deref(), Some("upgrade, close"));
    peer.expect_end().await;
}

#[tokio::test]
async fn u8_100_comes_before_101() {
    let (_server, mut peer) = connect_to_echo().await;
    peer.send(offer(
        "echo",
        &["Content-Length: 4", "Expect: 100-continue"],
    ))
    .await;
    assert_eq!(peer.head().await.status, 100);
    peer.send(b"body").await;
    peer.head().await.assert_upgraded("echo");
    peer.expect_echo(b"hello").await;
}

#[tokio::test]
async fn u8_refusal_without_100_closes() {
    let server = echo_server(UpgradeLayer::new().protocol("echo", Refuse)).await;
    for expect in ["Expect: 100-continue", "Expect: 100-Continue"] {
        let mut peer = server.connect().await;
        peer.send(offer("echo", &["Content-Length: 4", expect]))
            .await;
        let (head, body) = peer.response().await;
        assert_eq!((head.status, body.as_str()), (403, "not you"));
        // The server cannot know whether the client still sends the body, so it has to close.
        assert_eq!(head.get("connection").as_deref(), Some("close"));
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn u8_refusal_keeps_the_connection_if_no_100_is_awaited() {
    let server = echo_server(UpgradeLayer::new().protocol("echo", Refuse)).await;
    let mut peer = server.connect().await;
    for (lines, body) in [
        // Without a body the client waits for no 100.
        (&["Expect: 100-continue"][..], ""),
        (&["Expect: 100-continue", "Content-Length: 0"], ""),
        // hyper ignores unknown expectations: the client sends the body without a 100.
        (&["Expect: something", "Content-Length: 4"], "body"),
    ] {
        peer.send(offer("echo", lines) + body).await;
        let (head, _) = peer.response().await;
        assert_eq!((head.status, head.get("connection")), (403, None));
    }
    assert_passes(
        &mut peer,
        &crate::support::head(&["GET /x HTTP/1.1", "Host: test"]),
    )
    .await;
}

#[tokio::test]
async fn u8_refusal_after_reading_the_body_follows_a_100() {
    struct ReadAndRefuse;
    impl ProtocolHandler for ReadAndRefuse {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let _first = request.body_mut().frame().await;
            Err(StatusCode::CONFLICT.into())
        }
    }
    let server = echo_server(UpgradeLayer::new().protocol("echo", ReadAndRefuse)).await;
    let mut peer = server.connect().await;
    peer.send(offer(
        "echo",
        &["Content-Length: 4", "Expect: 100-continue"],
    ))
    .await;
    assert_eq!(peer.head().await.status, 100);
    peer.send(b"bo").await;
    peer.send(b"dy").await;
    let (head, body) = peer.response().await;
    assert_eq!((head.status, body.as_str()), (409, "Conflict"));
    assert_passes(
        &mut peer,
        &crate::support::head(&["GET /x HTTP/1.1", "Host: test"]),
    )
    .await;
}

#[tokio::test]
async fn u9_early_bytes_come_first_split_at_every_offset() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let (server, mut server_has_read) =
        Server::start_metered(Via::Http1, layer.layer(service_fn(plain))).await;
    let request = offer("echo", &["Content-Length: 3"]) + "abc" + "0123456789";
    for split in 0..=request.len() {
        let before = *server_has_read.borrow_and_update();
        let mut peer = server.connect().await;
        let (first, second) = request.split_at(split);
        peer.send(first).await;
        // Wait until the server has read exactly the first part.
        soon(server_has_read.wait_for(|total| *total == before + split))
            .await
            .expect("a server");
        peer.send(second).await;
        peer.head().await.assert_upgraded("echo");
        assert_eq!(
            text(&peer.exactly(10).await),
            "0123456789",
            "split at {split}"
        );
        peer.finish().await;
        peer.expect_end().await;
    }
}

#[tokio::test]
async fn u9_early_bytes_larger_than_a_buffer_arrive() {
    let server = echo_server(UpgradeLayer::new().protocol("echo", echo())).await;
    let mut peer = server.connect().await;
    let early: Vec<u8> = (0..1_000_000_u32)
        .map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
        .collect();
    let (mut reader, mut writer) = peer.io.split();
    let send = async {
        writer
            .write_all(offer("echo", &[]).as_bytes())
            .await
            .expect("peer can write");
        writer.write_all(&early).await.expect("peer can write");
        writer.shutdown().await.expect("peer can shut down");
    };
    let mut received = Vec::new();
    let (_, result) = tokio::join!(send, reader.read_to_end(&mut received));
    result.expect("an orderly end");
    assert!(received.starts_with(b"HTTP/1.1 101 "));
    assert!(
        received.ends_with(&early),
        "{} bytes came back",
        received.len()
    );
}
