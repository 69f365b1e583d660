//! C3 and U7 through the whole chain: bytes after a request are a separate request or are discarded. The backend never
//! reads them unchanged.

use super::{
    Chain, address_of,
    front::{ALL, Balancer},
    node_server,
    recorder::Recorder,
};
use crate::process::Script;
use crate::support::{head, offer, soon, text, tunnel::loopback};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpStream};
use tower_upgrade::{UpgradeLayer, tunnel::ConnectProxy};

/// A request in one segment with the previous one. Its response ends the connection.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

const REFUSAL: &str = "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno";

const ACCEPTANCE: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";

const OPENING: [&str; 2] = [
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// The bytes that the client and the backend have received.
struct Outcome {
    balancer: Balancer,
    client: String,
    backend: Vec<String>,
    /// The number of requests to the inner service of the proxy's layer.
    plain: usize,
}

/// Sends `request`, and waits until all connections have ended.
async fn exchange(balancer: Balancer, request: &str, answer: &'static str) -> Outcome {
    let backend = Recorder::start(answer).await;
    let chain = Chain::start(balancer, backend.address).await;
    exchange_on(&chain, &backend, request).await
}

async fn exchange_on(chain: &Chain, backend: &Recorder, request: &str) -> Outcome {
    let mut client = chain.front.connect().await;
    client.send(request).await;
    let client = match client.rest().await {
        Ok(rest) => text(&rest),
        Err(_) => text(client.unread()),
    };
    Outcome {
        balancer: chain.balancer,
        client,
        backend: backend.received().await,
        plain: chain.plain(),
    }
}

impl Outcome {
    /// Returns the status of each response.
    fn statuses(&self) -> Vec<&str> {
        let answers = self.client.split("HTTP/1.1 ").skip(1);
        answers.map(|answer| &answer[..3]).collect()
    }

    /// Asserts that no tunnel was opened, and that each connection to the backend has received one head, written by
    /// the proxy.
    #[track_caller]
    fn assert_only_rewritten_heads(&self) {
        let Self {
            balancer, client, ..
        } = self;
        assert!(!client.contains("HTTP/1.1 101"), "{balancer:?}: {client:?}");
        for seen in &self.backend {
            assert!(!seen.contains("smuggled"), "{balancer:?}: {seen:?}");
            assert_eq!(seen.find("\r\n\r\n"), Some(seen.len() - 4), "{seen:?}");
            let is_rewritten = seen.contains("\r\nx-forwarded-for: ");
            assert!(is_rewritten, "{balancer:?}: {seen:?}");
        }
    }

    /// Asserts that the first request got `status`, and that the inner service answered the second.
    #[track_caller]
    fn assert_next_request_is_plain(&self, status: &str) {
        let balancer = self.balancer;
        assert_eq!(
            self.statuses(),
            [status, "200"],
            "{balancer:?}: {}",
            self.client
        );
        assert!(self.client.ends_with("plain GET /smuggled"), "{balancer:?}");
        assert_eq!((self.backend.len(), self.plain), (1, 1), "{balancer:?}");
        self.assert_only_rewritten_heads();
    }
}

// ---- Rejections ----------------------------------------------------------------------------------

#[tokio::test]
async fn u10_request_after_refused_upgrade_bypasses_the_backend() {
    for balancer in ALL {
        let request = offer("chat", &[]) + SMUGGLED;
        let seen = exchange(balancer, &request, REFUSAL).await;
        seen.assert_next_request_is_plain("403");
    }
}

#[tokio::test]
async fn u10_request_after_upgrade_refused_by_node_bypasses_node() {
    for balancer in ALL {
        let mut server = node_server().await;
        let address = address_of(&server);
        let chain = Chain::start(balancer, address).await;
        let mut client = chain.front.connect().await;
        let request = offer("websocket", &OPENING).replacen('/', "/refused", 1);
        client.send(request + SMUGGLED).await;
        assert_eq!(client.response().await.1, "authentication required\n");
        assert_eq!(client.response().await.1, "plain GET /smuggled");
        client.expect_end().await;
        assert_node_log(&mut server, &["upgrade /refused"]).await;
    }
}

/// Asserts that Node has logged exactly `lines`. A last request marks the end of the log.
async fn assert_node_log(server: &mut Script, lines: &[&str]) {
    let mut last = TcpStream::connect(address_of(server))
        .await
        .expect("a listener");
    let request = "GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    last.write_all(request.as_bytes())
        .await
        .expect("an open connection");
    soon(last.read_to_end(&mut Vec::new()))
        .await
        .expect("a response");
    for line in lines.iter().chain(&["request GET /last"]) {
        assert_eq!(server.next_line().await.as_deref(), Some(*line));
    }
}

/// The backend checks the version of WebSocket. A proxy that opened the tunnel without its 101 would forward the bytes
/// after the request.
#[tokio::test]
async fn w2_websocket_version_refused_by_backend_opens_no_tunnel() {
    const REFUSAL: &str = "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno";
    for balancer in ALL {
        let request = offer("websocket", &[OPENING[0], "Sec-WebSocket-Version: 777"]) + SMUGGLED;
        let seen = exchange(balancer, &request, REFUSAL).await;
        seen.assert_next_request_is_plain("426");
        let client = seen.client.to_ascii_lowercase();
        assert!(
            client.contains("\r\nsec-websocket-version: 13\r\n"),
            "{client}"
        );

        let mut server = node_server().await;
        let chain = Chain::start(balancer, address_of(&server)).await;
        let mut client = chain.front.connect().await;
        client.send(request).await;
        assert_eq!(client.head().await.status, 400);
        let rest = text(&client.rest().await.expect("an orderly end"));
        assert!(rest.ends_with("plain GET /smuggled"), "{rest}");
        assert_node_log(&mut server, &["upgrade /"]).await;
    }
}

// ---- CONNECT -------------------------------------------------------------------------------------

/// After a rejected CONNECT, a request cannot be distinguished from bytes for the tunnel (RFC 9931). nginx refuses every
/// CONNECT. HAProxy keeps the client connection open, and forwards the bytes as a request on a new connection.
#[tokio::test]
async fn c3_bytes_after_refused_connect_never_reach_the_backend() {
    for balancer in ALL {
        let backend = Recorder::start(REFUSAL).await;
        let connect = ConnectProxy::new(loopback(1));
        let denying = Chain::serve(balancer, UpgradeLayer::new().connect(connect)).await;
        let forwarding = Chain::start(balancer, backend.address).await;
        for (chain, reached) in [(denying, 0), (forwarding, 1)] {
            let connect = format!("CONNECT {} HTTP/1.1", backend.address);
            let host = format!("Host: {}", backend.address);
            let request = head(&[&connect, &host]) + SMUGGLED;
            let seen = exchange_on(&chain, &backend, &request).await;
            seen.assert_only_rewritten_heads();
            match balancer {
                Balancer::Direct => {
                    assert_eq!(seen.statuses(), ["403"], "{}", seen.client);
                    assert!(seen.client.contains("\r\nconnection: close\r\n"));
                    assert_eq!((seen.backend.len(), seen.plain), (reached, 0));
                }
                Balancer::Nginx => {
                    assert!(
                        matches!(*seen.statuses(), ["400" | "405"]),
                        "{}",
                        seen.client
                    );
                    assert_eq!((seen.backend.len(), seen.plain), (0, 0));
                }
                Balancer::Haproxy => {
                    assert!(
                        matches!(*seen.statuses(), ["403"] | ["403", "200"]),
                        "{}",
                        seen.client
                    );
                    assert_eq!(seen.backend.len(), reached);
                }
            }
        }
    }
}

// ---- Request bodies ------------------------------------------------------------------------------

/// HAProxy turns an upgrade with a body into a plain request.
#[tokio::test]
async fn u7_upgrade_reaches_the_backend_after_its_whole_body() {
    for balancer in ALL {
        let backend = Recorder::start(ACCEPTANCE).await;
        let chain = Chain::start(balancer, backend.address).await;
        let length = format!("Content-Length: {}", SMUGGLED.len() + 4);
        let request = offer("chat", &[&length]) + SMUGGLED;

        // The body is incomplete.
        let mut client = chain.front.connect().await;
        client.send(&request).await;
        chain.until_requests(1).await;
        assert_eq!(backend.received().await, [""; 0], "{balancer:?}");
        client.finish().await;
        let rest = soon(client.rest()).await.unwrap_or_default();
        assert!(
            !text(&rest).contains("101"),
            "{balancer:?}: {}",
            text(&rest)
        );
        chain.until_idle().await;
        assert_eq!(backend.received().await, [""; 0], "{balancer:?}");

        // The rest of the body, in one segment with bytes for the tunnel.
        let mut client = chain.front.connect().await;
        client.send(&request).await;
        chain.until_requests(2).await;
        assert_eq!(backend.received().await, [""; 0], "{balancer:?}");
        client.send("bodytunnel").await;
        if balancer == Balancer::Haproxy {
            assert_eq!(client.head().await.status, 200);
            assert_eq!(chain.plain(), 2);
        } else {
            client.head().await.assert_upgraded("chat");
        }
        client.finish().await;
        let _ = soon(client.rest()).await;
        let seen = backend.received().await;
        if balancer == Balancer::Haproxy {
            assert_eq!(seen, [""; 0]);
        } else {
            let expected = format!("\r\n\r\n{SMUGGLED}bodytunnel");
            assert_eq!(seen.len(), 1);
            assert!(seen[0].ends_with(&expected), "{balancer:?}: {}", seen[0]);
        }
    }
}

// ---- Offers --------------------------------------------------------------------------------------

const SETTINGS: &str = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";

/// An h2c tunnel would carry requests past the proxy. The usual configuration of nginx forwards the offer to the proxy.
#[tokio::test]
async fn h2c_never_reaches_the_backend() {
    for balancer in ALL {
        for connection in ["Upgrade", "Upgrade, HTTP2-Settings"] {
            for offered in ["h2c", "H2C", "h2c, HTTP/2.0"] {
                let connection = format!("Connection: {connection}");
                let upgrade = format!("Upgrade: {offered}");
                let lines = [
                    "GET / HTTP/1.1",
                    "Host: test",
                    &connection,
                    &upgrade,
                    SETTINGS,
                ];
                let request = head(&lines) + SMUGGLED;
                let seen = exchange(balancer, &request, ACCEPTANCE).await;
                assert_eq!(
                    seen.statuses(),
                    ["200", "200"],
                    "{balancer:?}: {}",
                    seen.client
                );
                assert!(seen.client.contains("plain GET /"), "{balancer:?}");
                assert_eq!((seen.backend.len(), seen.plain), (0, 2), "{balancer:?}");
            }
        }
    }
}

#[tokio::test]
async fn h2c_is_stripped_from_a_websocket_offer() {
    for balancer in ALL {
        for offered in ["h2c, websocket", "websocket, h2c"] {
            let request = offer(offered, &[OPENING[0], OPENING[1], SETTINGS]) + SMUGGLED;
            let request = request.replacen("Upgrade\r\n", "Upgrade, HTTP2-Settings\r\n", 1);
            let seen = exchange(balancer, &request, REFUSAL).await;
            seen.assert_next_request_is_plain("403");
            let head = &seen.backend[0];
            assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
            assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
            assert!(!head.contains("http2-settings"), "{head}");
        }
    }
}

// ---- Backend bytes -------------------------------------------------------------------------------

/// Bytes that a backend sends after its response answer no later request, of this client or of another.
#[tokio::test]
async fn late_101_after_a_response_opens_no_tunnel() {
    for (status, answer) in [
        (
            "403",
            concat!(
                "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
                "HTTP/1.1 299 Poison\r\nContent-Length: 0\r\n\r\n",
            ),
        ),
        (
            "200",
            concat!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
            ),
        ),
        (
            "204",
            concat!(
                "HTTP/1.1 204 No\r\n\r\n",
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
            ),
        ),
    ] {
        for balancer in ALL {
            let backend = Recorder::start(answer).await;
            let chain = Chain::start(balancer, backend.address).await;
            let request = offer("chat", &[]) + SMUGGLED;
            let seen = exchange_on(&chain, &backend, &request).await;
            seen.assert_next_request_is_plain(status);

            // Any connection between balancer, proxy and backend may be reused.
            let mut client = chain.front.connect().await;
            client.send(SMUGGLED).await;
            assert_eq!(
                client.response().await.1,
                "plain GET /smuggled",
                "{balancer:?}"
            );
        }
    }
}

// ---- Ambiguous heads -----------------------------------------------------------------------------

/// Balancers treat these heads differently. Without a balancer, hyper and the layer decide. In every case the backend
/// reads only heads that the proxy has written.
#[tokio::test]
async fn ambiguous_head_never_reaches_the_backend_unchanged() {
    const CHUNKED: &str = "Transfer-Encoding: chunked";
    const UPGRADE: &str = "Connection: Upgrade";
    const CHAT: &str = "Upgrade: chat";
    let cases: [(&[&str], &str, &[&str]); 12] = [
        (&["Connection: close, upgrade", CHAT], "", &["403"]),
        (&[UPGRADE, CHAT, "Upgrade: other"], "", &["403", "200"]),
        (&[UPGRADE, "Connection: close", CHAT], "", &["403"]),
        (&[UPGRADE, CHAT, CHUNKED], "0\r\n\r\n", &["403", "200"]),
        // The chunks define the body, and the connection closes after the response (RFC 9112 §6.3).
        (
            &[UPGRADE, CHAT, CHUNKED, "Content-Length: 6"],
            "0\r\n\r\nX",
            &["403"],
        ),
        (
            &[UPGRADE, CHAT, "Content-Length: 6", CHUNKED],
            "0\r\n\r\nX",
            &["403"],
        ),
        (
            &[UPGRADE, CHAT, "Content-Length: 6", "Content-Length: 5"],
            "0\r\n\r\nX",
            &["400"],
        ),
        (
            &[UPGRADE, CHAT, "Transfer-Encoding: xchunked"],
            "0\r\n\r\n",
            &["400"],
        ),
        (
            &[UPGRADE, CHAT, "Transfer-Encoding : chunked"],
            "0\r\n\r\n",
            &["400"],
        ),
        (&[UPGRADE, CHAT, "Content-Length: +0"], "", &["400"]),
        (&[UPGRADE, "Upgrade:\r\n chat"], "", &["400"]),
        (&["Connection: upgrade, host", CHAT], "", &["400", "200"]),
    ];
    for (lines, body, statuses) in cases {
        for balancer in ALL {
            let lines = [&["GET / HTTP/1.1", "Host: test"], lines].concat();
            let request = head(&lines) + body + SMUGGLED;
            let seen = exchange(balancer, &request, REFUSAL).await;
            seen.assert_only_rewritten_heads();
            if balancer == Balancer::Direct {
                assert_eq!(seen.statuses(), statuses, "{request:?}: {}", seen.client);
            }
        }
    }
}
