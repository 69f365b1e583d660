//! A server that is not hyper: it hands its IO in.

use crate::support::{handlers::echo, plain, text};
use http::{Request, StatusCode, Version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};
use tower::{Layer as _, Service as _, service_fn};
use tower_upgrade::{Parts, PendingUpgrade, UpgradeLayer, Upgraded};

/// A server of one request, as small as they come.
async fn serve(mut io: tokio::io::DuplexStream, layer: UpgradeLayer) {
    let mut head = [0; 64];
    let mut length = 0;
    while !head[..length].ends_with(b"\n\n") {
        length += io
            .read(&mut head[length..length + 1])
            .await
            .expect("a request");
    }
    let protocol = text(&head[..length]).trim().to_owned();
    let mut request = Request::get("/")
        .header("connection", "upgrade")
        .header("upgrade", protocol)
        .body(String::new())
        .expect("a request");
    let (hand_over, io_is_free) = oneshot::channel();
    request
        .extensions_mut()
        .insert(PendingUpgrade::new(async move { Ok(io_is_free.await?) }));
    let mut service = layer.layer(service_fn(plain));
    let response = service.call(request).await.expect("infallible");
    io.write_all(format!("{}\n\n", response.status().as_u16()).as_bytes())
        .await
        .expect("memory");
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let io = Upgraded::from_parts(Parts {
            io,
            read_buf: "".into(),
        });
        hand_over.send(io).expect("a session waits");
    } else {
        assert!(hand_over.is_closed(), "nobody waits");
    }
}

#[tokio::test]
async fn its_sessions_are_like_all_others() {
    for (protocol, answer) in [("echo", "101\n\nhello"), ("other", "200\n\n")] {
        let (mut peer, io) = tokio::io::duplex(1024);
        tokio::spawn(serve(io, UpgradeLayer::new().protocol("echo", echo())));
        peer.write_all(format!("{protocol}\n\nhello").as_bytes())
            .await
            .expect("memory");
        peer.shutdown().await.expect("memory");
        let mut rest = String::new();
        peer.read_to_string(&mut rest)
            .await
            .expect("an orderly end");
        assert_eq!(rest, answer);
    }
}

#[tokio::test]
async fn a_request_that_nobody_can_hand_over_is_plain() {
    let mut service = UpgradeLayer::new()
        .protocol("echo", echo())
        .layer(service_fn(plain));
    let request = Request::get("/")
        .version(Version::HTTP_11)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(String::new())
        .expect("a request");
    assert_eq!(
        service.call(request).await.expect("infallible").status(),
        200
    );
}

/// HTTP/3, as far as it is known here: the version, the method and the `:protocol` say it all.
#[tokio::test]
async fn a_stream_of_another_version_is_handed_in_alike() {
    let mut service = UpgradeLayer::new()
        .protocol("echo", echo())
        .connect(echo())
        .layer(service_fn(plain));
    for protocol in [Some("echo"), Some("other"), None] {
        let mut request = Request::builder()
            .version(Version::HTTP_3)
            .method(http::Method::CONNECT)
            .uri("test:1");
        if let Some(protocol) = protocol {
            request = request
                .uri("https://test/path")
                .extension(hyper::ext::Protocol::from(protocol));
        }
        let (mut peer, io) = tokio::io::duplex(1024);
        let read_buf = "early, ".into();
        let io = Upgraded::from_parts(Parts { io, read_buf });
        let pending = PendingUpgrade::new(async move { Ok(io) });
        let request = request.extension(pending).body(String::new());
        let request = request.expect("a request");
        let response = service.call(request).await.expect("infallible");
        if protocol == Some("other") {
            assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
            continue;
        }
        assert_eq!(response.status(), StatusCode::OK);
        peer.write_all(b"late").await.expect("memory");
        peer.shutdown().await.expect("memory");
        let mut echo = String::new();
        let read = peer.read_to_string(&mut echo).await;
        read.expect("an orderly end");
        assert_eq!(echo, "early, late");
    }
}

/// A connection of HTTP/2 and later cannot be told to close by a header.
#[tokio::test]
async fn a_stream_is_not_said_to_close() {
    let mut service = UpgradeLayer::new()
        .protocol("echo", echo())
        .layer(service_fn(plain));
    for (version, said) in [
        (Version::HTTP_11, Some("close")),
        (Version::HTTP_2, None),
        (Version::HTTP_3, None),
    ] {
        let request = Request::builder()
            .version(version)
            .uri("https://test/path")
            .header("connection", "upgrade")
            .header("upgrade", "echo")
            .extension(hyper::ext::Protocol::from_static("echo"))
            .extension(PendingUpgrade::new(std::future::pending()))
            // Longer than what is read and dropped.
            .body("x".repeat(100_000))
            .expect("a request");
        let response = service.call(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let connection = response.headers().get("connection");
        assert_eq!(
            connection.map(|value| value.as_bytes()),
            said.map(str::as_bytes)
        );
    }
}
