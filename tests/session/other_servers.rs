//! Servers other than hyper, which put a `PendingUpgrade` into the request.

use crate::support::{
    handlers::{echo, run_echo},
    plain, soon, text,
};
use http::{Method, Request, Response, StatusCode, Version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};
use tower::{Layer as _, Service as _, service_fn};
use tower_upgrade::{
    Accept, PendingUpgrade, ProtocolHandler, Rejection, UpgradeKind, UpgradeLayer, UpgradeRequest,
    Upgraded, UpgradedParts,
};

/// Serves one request of a minimal protocol.
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
        let io = Upgraded::from_parts(UpgradedParts::new(io, ""));
        hand_over.send(io).expect("a session waits");
    } else {
        assert!(hand_over.is_closed(), "the pending upgrade is still held");
    }
}

#[tokio::test]
async fn session_over_a_custom_server_echoes() {
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
async fn request_without_upgrade_extension_is_passed_on() {
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

/// On HTTP/2 and later a header cannot close the connection.
#[tokio::test]
async fn response_on_http2_and_http3_has_no_connection_header() {
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
            // Longer than the body limit.
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

/// Accepts requests with a protocol or for port 1, and checks their kind and offers.
struct ChecksKind {
    kind: UpgradeKind,
    offered: &'static [&'static str],
}

impl ProtocolHandler for ChecksKind {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        assert_eq!(request.kind(), self.kind);
        assert!(request.offered().eq(self.offered.iter().copied()));
        if request.protocol().is_none() && request.port() != Some(1) {
            return Err(StatusCode::FORBIDDEN.into());
        }
        Ok(Accept::new(run_echo))
    }
}

/// Sends a request with an optional `:protocol`, and returns the response head and the peer.
async fn ask(
    layer: UpgradeLayer,
    version: Version,
    (method, target, protocol): (Method, &str, Option<&'static str>),
) -> (Response<()>, tokio::io::DuplexStream) {
    let (peer, io) = tokio::io::duplex(1024);
    let io = Upgraded::from_parts(UpgradedParts::new(io, ""));
    // `Upgrade` is ignored on HTTP/2 and later, and on a CONNECT.
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .version(version)
        .header("upgrade", "other")
        .extension(PendingUpgrade::new(async move { Ok(io) }))
        .body(String::new())
        .expect("a request");
    if let Some(protocol) = protocol {
        let protocol = hyper::ext::Protocol::from_static(protocol);
        request.extensions_mut().insert(protocol);
    }
    let response = layer.layer(service_fn(plain)).call(request).await;
    (response.expect("infallible").map(drop), peer)
}

#[tokio::test]
async fn connect_works_on_http2_and_http3() {
    let layer = UpgradeLayer::new()
        .protocol(
            "echo",
            ChecksKind {
                kind: UpgradeKind::ExtendedConnect,
                offered: &["echo"],
            },
        )
        .connect(ChecksKind {
            kind: UpgradeKind::Connect,
            offered: &[],
        });
    for version in [Version::HTTP_2, Version::HTTP_3] {
        for (target, protocol) in [("https://test/", Some("echo")), ("test:1", None)] {
            let request = (Method::CONNECT, target, protocol);
            let (head, mut peer) = ask(layer.clone(), version, request).await;
            assert_eq!((head.status(), head.headers().len()), (StatusCode::OK, 0));
            peer.write_all(b"hello").await.expect("a session");
            let mut echo = [0; 5];
            soon(peer.read_exact(&mut echo)).await.expect("a session");
            assert_eq!(&echo, b"hello");
        }
        for (target, protocol, status) in [
            ("https://test/", Some("other"), StatusCode::NOT_IMPLEMENTED),
            ("test:2", None, StatusCode::FORBIDDEN),
        ] {
            let request = (Method::CONNECT, target, protocol);
            let (head, _peer) = ask(layer.clone(), version, request).await;
            assert_eq!(head.status(), status);
            assert!(!head.headers().contains_key("connection"), "{head:?}");
        }
    }
}

/// A proxy may turn an HTTP/2 request into an HTTP/1.1 request and keep its extensions.
#[tokio::test]
async fn protocol_extension_is_ignored_on_http1() {
    let layer = UpgradeLayer::new()
        .protocol("echo", echo())
        .connect(ChecksKind {
            kind: UpgradeKind::Connect,
            offered: &[],
        });
    let get = (Method::GET, "/", Some("echo"));
    let (head, mut peer) = ask(layer.clone(), Version::HTTP_11, get).await;
    assert_eq!(head.status(), StatusCode::OK);
    let sent = soon(peer.read(&mut [0])).await.expect("memory");
    assert_eq!(sent, 0, "a session has started");

    let connect = (Method::CONNECT, "test:1", Some("echo"));
    let (head, mut peer) = ask(layer, Version::HTTP_11, connect).await;
    assert_eq!(head.status(), StatusCode::OK);
    peer.write_all(b"!").await.expect("a session");
    assert_eq!(soon(peer.read_u8()).await.expect("a session"), b'!');
}
