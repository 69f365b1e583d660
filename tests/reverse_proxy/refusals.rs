//! The client's response if the backend does not upgrade.

use crate::{
    chain::{assert_no_connection, response_to, scripted, send_through, upgrade_response},
    support::{
        h2::{Client, extended_connect},
        head, offer, soon,
    },
};

/// Returns a response with a chunked body.
fn chunked(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n{more}\r\n").into_bytes();
    for chunk in body.chunks(10_000) {
        answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
        answer.extend(chunk);
        answer.extend(b"\r\n");
    }
    answer.extend(b"0\r\n\r\n");
    answer
}

#[tokio::test]
async fn rejection_body_is_forwarded_completely() {
    let (backend, front) = scripted().await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let answer = chunked("403 Not You", "WWW-Authenticate: Basic\r\n", &body);

    let (_, mut client, mut at_backend) = send_through(&front, &backend, &offer("chat", &[])).await;
    let answering = at_backend.send(&answer);
    let reading = async {
        let head = client.head().await;
        head.assert_no_handshake();
        assert_eq!(head.status, 403);
        assert_eq!(head.get("www-authenticate").as_deref(), Some("Basic"));
        assert_eq!(head.get("transfer-encoding").as_deref(), Some("chunked"));
        let mut read = Vec::new();
        loop {
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                size.extend(client.exactly(1).await);
            }
            let size = String::from_utf8(size).expect("a size");
            let size = usize::from_str_radix(size.trim(), 16).expect("a size");
            read.extend(client.exactly(size).await);
            assert_eq!(client.exactly(2).await, b"\r\n");
            if size == 0 {
                return read;
            }
        }
    };
    let ((), read) = soon(async { tokio::join!(answering, reading) }).await;
    assert!(read == body);
    // The client connection stays open.
    client
        .send(head(&["GET /next HTTP/1.1", "Host: test"]))
        .await;
    assert_eq!(client.response().await.1, "plain GET /next");

    let mut client = Client::connect(front.connect().await).await;
    let request = extended_connect("chat").body(()).expect("a request");
    let requesting = client.ask(request);
    let answering = async {
        let mut at_backend = backend.accept().await;
        at_backend.request_head().await;
        at_backend.send(&answer).await;
        at_backend
    };
    let (answered, _open) = soon(async {
        let (mut answered, at_backend) = tokio::join!(
            async {
                let answer = requesting.await;
                let head = answer.head;
                let mut peer = answer.peer;
                (head, peer.rest().await.expect("a body"))
            },
            answering
        );
        answered.0.extensions_mut().clear();
        (answered, at_backend)
    })
    .await;
    let (head, read) = answered;
    assert_eq!(head.status(), 403);
    assert_eq!(head.headers()["www-authenticate"], "Basic");
    assert_eq!(head.headers().get("transfer-encoding"), None);
    assert!(read == body);
    assert_eq!(client.get_text("/next").await, "plain GET /next");
}

const REQUIRED: &[&str] = &[
    "HTTP/1.1 426 Upgrade Required",
    "Connection: Upgrade, x-hop",
    "x-hop: 1",
    "Upgrade: chat/2",
    "Content-Length: 6",
];

#[tokio::test]
async fn http1_426_keeps_its_upgrade_field() {
    let answer = head(REQUIRED) + "better";
    let (head, body) = response_to(&offer("chat", &[]), &answer).await;
    assert_eq!((head.status, body.as_str()), (426, "better"));
    assert_eq!(head.get("upgrade").as_deref(), Some("chat/2"));
    assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
    assert_eq!(head.get("x-hop"), None);
}

#[tokio::test]
async fn http2_426_becomes_501_or_400() {
    for (more, status) in [("X: y", 501), ("Sec-WebSocket-Version: 13", 400)] {
        let (backend, front) = scripted().await;
        let mut client = Client::connect(front.connect().await).await;
        let request = extended_connect("chat").body(()).expect("a request");
        let answering = async {
            let mut at_backend = backend.accept().await;
            at_backend.request_head().await;
            let answer = head(&[REQUIRED, &[more]].concat()) + "better";
            at_backend.send(answer).await;
            at_backend
        };
        let (answer, _open) = soon(async { tokio::join!(client.ask(request), answering) }).await;
        assert_eq!(answer.head.status(), status);
        for name in ["upgrade", "connection", "x-hop"] {
            assert_eq!(answer.head.headers().get(name), None);
        }
        assert_eq!(answer.refused().await.1, "better");
    }
}

#[tokio::test]
async fn ignored_offer_gets_the_backend_response() {
    let ok =
        "HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok";
    let (head, body) = response_to(&offer("chat", &[]), ok).await;
    head.assert_no_handshake();
    assert_eq!((head.status, body.as_str()), (200, "ok"));
}

/// Over HTTP/2, a 2xx response would accept the CONNECT.
#[tokio::test]
async fn http2_success_without_upgrade_becomes_502() {
    for status in ["200 OK", "204 No Content", "299 Fine"] {
        let (backend, front) = scripted().await;
        let mut client = Client::connect(front.connect().await).await;
        let request = extended_connect("chat").body(()).expect("a request");
        let answering = async {
            let mut at_backend = backend.accept().await;
            at_backend.request_head().await;
            at_backend.send(format!("HTTP/1.1 {status}\r\n\r\n")).await;
            at_backend.finish().await;
        };
        let (answer, ()) = soon(async { tokio::join!(client.ask(request), answering) }).await;
        let (status, body) = answer.refused().await;
        assert_eq!(status, 502);
        assert_eq!(body, "the backend ignored the request for an upgrade");
    }
}

#[tokio::test]
async fn k2_invalid_upgrade_response_becomes_502_naming_the_field() {
    const STATUS_LINE: &str = "HTTP/1.1 101 Switching Protocols";
    for (answer, why) in [
        (
            upgrade_response("chess", &[]),
            "a 101 to chess, which was not offered",
        ),
        (
            upgrade_response("chat/2", &[]),
            "a 101 to chat/2, which was not offered",
        ),
        (
            upgrade_response("chat, chess", &[]),
            "a 101 with more than one protocol",
        ),
        (
            upgrade_response("a b", &[]),
            "a 101 with an invalid `Upgrade`",
        ),
        (
            head(&[STATUS_LINE, "Connection: Upgrade"]),
            "a 101 without `Upgrade`",
        ),
        (
            head(&[STATUS_LINE, "Upgrade: chat"]),
            "a 101 without `Connection: upgrade`",
        ),
        (
            head(&["HTTP/1.0 101 S", "Connection: Upgrade", "Upgrade: chat"]),
            "a 101 with a version other than HTTP/1.1",
        ),
    ] {
        let (backend, front) = scripted().await;
        let (_, mut client, mut at_backend) =
            send_through(&front, &backend, &offer("chat", &[])).await;
        at_backend.send(answer.clone() + "behind").await;
        let (head, body) = client.response().await;
        head.assert_no_handshake();
        assert_eq!(head.status, 502, "{answer}");
        assert_eq!(
            body,
            format!("the backend's upgrade response is invalid: {why}")
        );
        at_backend.rest().await.expect("an end");
    }
}

#[tokio::test]
async fn request_without_one_valid_host_is_refused() {
    let (backend, front) = scripted().await;
    for host in ["X: y", "Host: ann@test", "Host: a\r\nHost: b", "Host: a b"] {
        for target in ["/", "http://test/"] {
            let mut peer = front.connect().await;
            let request = offer("chat", &[]).replacen("GET /", &format!("GET {target}"), 1);
            peer.send(request.replace("Host: test", host)).await;
            let (head, body) = peer.response().await;
            assert_eq!(head.status, 400, "{target} {host}");
            assert!(body.contains("`Host`"), "{body}");
        }
    }
    let mut client = Client::connect(front.connect().await).await;
    for hosts in [&["other"][..], &["test", "test"]] {
        let mut request = extended_connect("chat");
        for host in hosts {
            request = request.header("host", *host);
        }
        let answer = client.ask(request.body(()).expect("a request")).await;
        let (status, body) = answer.refused().await;
        assert_eq!(status, 400, "{hosts:?}");
        assert!(body.contains("`Host`"), "{body}");
    }
    assert_no_connection(&backend).await;
}

/// RFC 6455 §4.2.2: a server chooses one subprotocol.
#[tokio::test]
async fn invalid_backend_subprotocol_becomes_502() {
    let more = [
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: a, b",
    ];
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    for (lines, status) in [
        (&["Sec-WebSocket-Protocol: a"][..], 101),
        (
            &["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"],
            502,
        ),
        (&["Sec-WebSocket-Protocol: a, b"], 502),
        (&["Sec-WebSocket-Protocol:"], 502),
    ] {
        let (backend, front) = scripted().await;
        let request = offer("websocket", &more);
        let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
        let lines = [&[accept], lines].concat();
        at_backend.send(upgrade_response("websocket", &lines)).await;
        let head = client.head().await;
        assert_eq!(head.status, status, "{lines:?}");
        if status == 502 {
            head.assert_no_handshake();
            assert_eq!(head.get("sec-websocket-protocol"), None);
        }
    }
}

/// RFC 6455 §11.3.2: the field may be in a response once.
#[tokio::test]
async fn backend_extensions_are_joined() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let (backend, front) = scripted().await;
    let request = offer("websocket", &[key]);
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    let lines = [
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Extensions: x",
        "Sec-WebSocket-Extensions: y",
    ];
    at_backend.send(upgrade_response("websocket", &lines)).await;
    let head = client.head().await;
    head.assert_upgraded("websocket");
    let count = head
        .names()
        .iter()
        .filter(|name| name.ends_with("extensions"))
        .count();
    assert_eq!(count, 1, "{head:?}");
    assert_eq!(
        head.get("sec-websocket-extensions").as_deref(),
        Some("x, y")
    );
}
