//! C3 and U7 through the whole chain: what is behind a request is a request of its own, or nobody's, but never
//! something that the backend reads as it came.

use super::{
    Chain, address_of,
    front::{ALL, Who},
    node_server,
    recorder::Recorder,
};
use crate::support::{head, offer, soon, text, tunnel::loopback};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpStream};
use tower_upgrade::{UpgradeLayer, tunnel::ConnectProxy};

/// It is in one segment with the request before it. With its answer a connection ends.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

const REFUSAL: &str = "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno";

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";

const OPENING: [&str; 2] = [
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// What the client and the backend have seen of an exchange.
struct Seen {
    who: Who,
    client: String,
    backend: Vec<String>,
    /// How many requests were answered by the service beside our proxy.
    plain: usize,
}

/// Sends `request`, and waits until all connections have ended.
async fn exchange(who: Who, request: &str, answer: &'static str) -> Seen {
    let backend = Recorder::start(answer).await;
    let chain = Chain::start(who, backend.address).await;
    exchange_on(&chain, &backend, request).await
}

async fn exchange_on(chain: &Chain, backend: &Recorder, request: &str) -> Seen {
    let mut client = chain.front.connect().await;
    client.send(request).await;
    let client = match client.rest().await {
        Ok(rest) => text(&rest),
        Err(_) => text(client.unread()),
    };
    Seen {
        who: chain.who,
        client,
        backend: backend.seen().await,
        plain: chain.plain(),
    }
}

impl Seen {
    /// The status of each answer.
    fn statuses(&self) -> Vec<&str> {
        let answers = self.client.split("HTTP/1.1 ").skip(1);
        answers.map(|answer| &answer[..3]).collect()
    }

    /// Whatever happened: there was no tunnel, and nothing came to the backend but heads that we have written,
    /// each alone on its connection.
    #[track_caller]
    fn assert_nothing_raw(&self) {
        let Self { who, client, .. } = self;
        assert!(!client.contains("HTTP/1.1 101"), "{who:?}: {client:?}");
        for seen in &self.backend {
            assert!(!seen.contains("smuggled"), "{who:?}: {seen:?}");
            assert_eq!(seen.find("\r\n\r\n"), Some(seen.len() - 4), "{seen:?}");
            let ours = seen.contains("\r\nx-forwarded-for: ");
            assert!(ours, "{who:?}: {seen:?}");
        }
    }

    /// The first request was answered with `status`, and the second by the service beside our proxy.
    #[track_caller]
    fn assert_served_beside(&self, status: &str) {
        let who = self.who;
        assert_eq!(self.statuses(), [status, "200"], "{who:?}: {}", self.client);
        assert!(self.client.ends_with("plain GET /smuggled"), "{who:?}");
        assert_eq!((self.backend.len(), self.plain), (1, 1), "{who:?}");
        self.assert_nothing_raw();
    }
}

// ---- A refusal -----------------------------------------------------------------------------------

#[tokio::test]
async fn u10_a_request_behind_a_refused_upgrade_is_one_of_its_own() {
    for who in ALL {
        let request = offer("chat", &[]) + SMUGGLED;
        let seen = exchange(who, &request, REFUSAL).await;
        seen.assert_served_beside("403");
    }
}

#[tokio::test]
async fn u10_a_request_behind_an_upgrade_that_node_refuses_never_comes_to_node() {
    for who in ALL {
        let mut server = node_server().await;
        let address = address_of(&server);
        let chain = Chain::start(who, address).await;
        let mut client = chain.front.connect().await;
        let request = offer("websocket", &OPENING).replacen('/', "/refused", 1);
        client.send(request + SMUGGLED).await;
        assert_eq!(client.response().await.1, "who is this?\n");
        assert_eq!(client.response().await.1, "plain GET /smuggled");
        client.expect_end().await;
        assert_all_said(&mut server, &["upgrade /refused"]).await;
    }
}

/// Node has been asked this, and nothing else: it would have said so before it says what it is asked last.
async fn assert_all_said(server: &mut crate::upcat::Script, lines: &[&str]) {
    let mut last = TcpStream::connect(address_of(server))
        .await
        .expect("it listens");
    let request = "GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    last.write_all(request.as_bytes()).await.expect("it reads");
    soon(last.read_to_end(&mut Vec::new()))
        .await
        .expect("an answer");
    for line in lines.iter().chain(&["request GET /last"]) {
        assert_eq!(server.says().await.as_deref(), Some(*line));
    }
}

/// The version of WebSocket is the backend's business. A proxy that opened the tunnel on its own would pass on
/// what is behind.
#[tokio::test]
async fn w2_a_version_that_the_backend_refuses_opens_no_tunnel() {
    const REFUSAL: &str = "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno";
    for who in ALL {
        let request = offer("websocket", &[OPENING[0], "Sec-WebSocket-Version: 777"]) + SMUGGLED;
        let seen = exchange(who, &request, REFUSAL).await;
        seen.assert_served_beside("426");
        let client = seen.client.to_ascii_lowercase();
        assert!(
            client.contains("\r\nsec-websocket-version: 13\r\n"),
            "{client}"
        );

        let mut server = node_server().await;
        let chain = Chain::start(who, address_of(&server)).await;
        let mut client = chain.front.connect().await;
        client.send(request).await;
        assert_eq!(client.head().await.status, 400);
        let rest = text(&client.rest().await.expect("an orderly end"));
        assert!(rest.ends_with("plain GET /smuggled"), "{rest}");
        assert_all_said(&mut server, &["upgrade /"]).await;
    }
}

// ---- CONNECT -------------------------------------------------------------------------------------

/// Between a refused CONNECT and what is behind it there is no telling a request from bytes for the tunnel
/// (RFC 9931). nginx refuses all of them. HAProxy does not end its own connection, and takes what is behind for
/// a request: of its own, on another connection.
#[tokio::test]
async fn c3_what_is_behind_a_refused_connect_never_comes_to_the_backend() {
    for who in ALL {
        let backend = Recorder::start(REFUSAL).await;
        let connect = ConnectProxy::new(loopback(1));
        let denies = Chain::serve(who, UpgradeLayer::new().connect(connect)).await;
        let refused = Chain::start(who, backend.address).await;
        for (chain, reached) in [(denies, 0), (refused, 1)] {
            let connect = format!("CONNECT {} HTTP/1.1", backend.address);
            let host = format!("Host: {}", backend.address);
            let request = head(&[&connect, &host]) + SMUGGLED;
            let seen = exchange_on(&chain, &backend, &request).await;
            seen.assert_nothing_raw();
            match who {
                Who::Nobody => {
                    assert_eq!(seen.statuses(), ["403"], "{}", seen.client);
                    assert!(seen.client.contains("\r\nconnection: close\r\n"));
                    assert_eq!((seen.backend.len(), seen.plain), (reached, 0));
                }
                Who::Nginx => {
                    assert!(
                        matches!(*seen.statuses(), ["400" | "405"]),
                        "{}",
                        seen.client
                    );
                    assert_eq!((seen.backend.len(), seen.plain), (0, 0));
                }
                Who::Haproxy => {
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

// ---- A body --------------------------------------------------------------------------------------

/// HAProxy makes a plain request of an upgrade with a body.
#[tokio::test]
async fn u7_the_backend_sees_nothing_of_an_upgrade_before_its_body_is_complete() {
    for who in ALL {
        let backend = Recorder::start(SWITCH).await;
        let chain = Chain::start(who, backend.address).await;
        let length = format!("Content-Length: {}", SMUGGLED.len() + 4);
        let request = offer("chat", &[&length]) + SMUGGLED;

        // All but the end.
        let mut client = chain.front.connect().await;
        client.send(&request).await;
        chain.is_asked(1).await;
        assert_eq!(backend.seen().await, [""; 0], "{who:?}");
        client.finish().await;
        let rest = soon(client.rest()).await.unwrap_or_default();
        assert!(!text(&rest).contains("101"), "{who:?}: {}", text(&rest));
        chain.has_decided().await;
        assert_eq!(backend.seen().await, [""; 0], "{who:?}");

        // The end, and what is for the tunnel right behind it.
        let mut client = chain.front.connect().await;
        client.send(&request).await;
        chain.is_asked(2).await;
        assert_eq!(backend.seen().await, [""; 0], "{who:?}");
        client.send("bodytunnel").await;
        if who == Who::Haproxy {
            assert_eq!(client.head().await.status, 200);
            assert_eq!(chain.plain(), 2);
        } else {
            client.head().await.assert_switched("chat");
        }
        client.finish().await;
        let _ = soon(client.rest()).await;
        let seen = backend.seen().await;
        if who == Who::Haproxy {
            assert_eq!(seen, [""; 0]);
        } else {
            let expected = format!("\r\n\r\n{SMUGGLED}bodytunnel");
            assert_eq!(seen.len(), 1);
            assert!(seen[0].ends_with(&expected), "{who:?}: {}", seen[0]);
        }
    }
}

// ---- Offers --------------------------------------------------------------------------------------

const SETTINGS: &str = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";

/// Behind it would come requests that nobody in front of the backend looks at. This configuration of nginx,
/// which is everywhere, passes it on to us.
#[tokio::test]
async fn h2c_never_reaches_the_backend() {
    for who in ALL {
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
                let seen = exchange(who, &request, SWITCH).await;
                assert_eq!(seen.statuses(), ["200", "200"], "{who:?}: {}", seen.client);
                assert!(seen.client.contains("plain GET /"), "{who:?}");
                assert_eq!((seen.backend.len(), seen.plain), (0, 2), "{who:?}");
            }
        }
    }
}

#[tokio::test]
async fn of_h2c_and_websocket_the_backend_is_offered_websocket() {
    for who in ALL {
        for offered in ["h2c, websocket", "websocket, h2c"] {
            let request = offer(offered, &[OPENING[0], OPENING[1], SETTINGS]) + SMUGGLED;
            let request = request.replacen("Upgrade\r\n", "Upgrade, HTTP2-Settings\r\n", 1);
            let seen = exchange(who, &request, REFUSAL).await;
            seen.assert_served_beside("403");
            let head = &seen.backend[0];
            assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
            assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
            assert!(!head.contains("http2-settings"), "{head}");
        }
    }
}

// ---- Answers -------------------------------------------------------------------------------------

/// What a backend says behind its answer is the answer to nothing: not to the next request of this client, nor
/// of another.
#[tokio::test]
async fn a_switch_behind_an_answer_opens_no_tunnel() {
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
        for who in ALL {
            let backend = Recorder::start(answer).await;
            let chain = Chain::start(who, backend.address).await;
            let request = offer("chat", &[]) + SMUGGLED;
            let seen = exchange_on(&chain, &backend, &request).await;
            seen.assert_served_beside(status);

            // On whatever connection of those in between.
            let mut client = chain.front.connect().await;
            client.send(SMUGGLED).await;
            assert_eq!(client.response().await.1, "plain GET /smuggled", "{who:?}");
        }
    }
}

// ---- Heads that can be read in two ways ----------------------------------------------------------

/// What a front makes of these is its own; where nobody is in front it is hyper and we who decide. In either
/// case the backend sees nothing of it but what we have written.
#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_brings_nothing_raw_to_the_backend() {
    const CHUNKED: &str = "Transfer-Encoding: chunked";
    const UPGRADE: &str = "Connection: Upgrade";
    const CHAT: &str = "Upgrade: chat";
    let cases: [(&[&str], &str, &[&str]); 12] = [
        (&["Connection: close, upgrade", CHAT], "", &["403"]),
        (&[UPGRADE, CHAT, "Upgrade: other"], "", &["403", "200"]),
        (&[UPGRADE, "Connection: close", CHAT], "", &["403"]),
        (&[UPGRADE, CHAT, CHUNKED], "0\r\n\r\n", &["403", "200"]),
        // Read by its chunks, and the last request on its connection (RFC 9112 section 6.3).
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
        for who in ALL {
            let lines = [&["GET / HTTP/1.1", "Host: test"], lines].concat();
            let request = head(&lines) + body + SMUGGLED;
            let seen = exchange(who, &request, REFUSAL).await;
            seen.assert_nothing_raw();
            if who == Who::Nobody {
                assert_eq!(seen.statuses(), statuses, "{request:?}: {}", seen.client);
            }
        }
    }
}
