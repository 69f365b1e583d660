//! C3 and U7 through the whole chain: bytes after a request are a separate request, or are discarded.

use crate::{
    chain::{
        assert_no_connection, front_with_peer, proxy, read_until_closed, send_through,
        upgrade_response,
    },
    support::{Server, Via, clients::Scripted, head, offer, soon, until},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tower_upgrade::UpgradeLayer;

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

async fn chain() -> (Scripted, Server, Arc<AtomicUsize>) {
    let backend = Scripted::start().await;
    let proxy = proxy(Via::Http1, backend.address);
    let layer = UpgradeLayer::new()
        .any_protocol(proxy.clone())
        .connect(proxy);
    let (front, plain_requests) = front_with_peer(layer, None).await;
    (backend, front, plain_requests)
}

fn connect_to(target: &str) -> String {
    head(&[&format!("CONNECT {target} HTTP/1.1"), "Host: test"])
}

#[tokio::test]
async fn c3_bytes_after_refused_connect_are_not_a_request() {
    for refusal in [
        "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 400 No\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let (backend, front, plain_requests) = chain().await;
        let request = connect_to("example.com:443") + SMUGGLED;
        let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
        at_backend.send(refusal).await;
        let head = client.head().await;
        assert!(matches!(head.status, 400 | 403), "{head:?}");
        assert_eq!(head.get("connection").as_deref(), Some("close"));
        let rest = read_until_closed(&mut client).await;
        assert!(!rest.contains("HTTP/1.1"), "{rest}");
        front.connections_ended().await;
        assert_eq!(plain_requests.load(Ordering::SeqCst), 0);
        // The backend has not received the bytes either.
        assert_eq!(read_until_closed(&mut at_backend).await, "");
        assert_no_connection(&backend).await;
    }
}

/// A backend that accepts the CONNECT reads the bytes after it as tunnel data.
#[tokio::test]
async fn bytes_after_accepted_connect_enter_the_tunnel() {
    let (backend, front, plain_requests) = chain().await;
    let request = connect_to("example.com:443") + SMUGGLED;
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert!(at_backend.unread().is_empty());
    at_backend.send("HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    let tunneled = at_backend.exactly(SMUGGLED.len()).await;
    assert_eq!(tunneled, SMUGGLED.as_bytes());
    assert_eq!(plain_requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn c1_invalid_connect_never_reaches_the_backend() {
    let (backend, front, plain_requests) = chain().await;
    for request in [
        connect_to("example.com"),
        head(&["CONNECT example.com:443 HTTP/1.1", "Content-Length: 38"]),
        head(&[
            "CONNECT example.com:443 HTTP/1.1",
            "Transfer-Encoding: chunked",
        ]),
    ] {
        let mut client = front.connect().await;
        client.send(request + SMUGGLED).await;
        assert_eq!(client.head().await.status, 400);
        let rest = read_until_closed(&mut client).await;
        assert!(!rest.contains("HTTP/1.1"), "{rest}");
    }
    assert_eq!(plain_requests.load(Ordering::SeqCst), 0);
    assert_no_connection(&backend).await;
}

#[tokio::test(start_paused = true)]
async fn u7_incomplete_body_never_reaches_the_backend() {
    let (backend, front, plain_requests) = chain().await;
    for lines in [
        &[&format!("Content-Length: {}", SMUGGLED.len() + 1) as &str][..],
        &["Transfer-Encoding: chunked"],
    ] {
        let mut client = front.connect().await;
        let body = match lines[0].starts_with('T') {
            true => format!("{:x}\r\n{SMUGGLED}\r\n", SMUGGLED.len()),
            false => SMUGGLED.to_owned(),
        };
        client.send(offer("chat", lines) + &body).await;
        let head = client.head().await;
        assert_eq!(head.status, 408);
        assert_eq!(head.get("connection").as_deref(), Some("close"));
        let rest = read_until_closed(&mut client).await;
        assert!(!rest.contains("HTTP/1.1"), "{rest}");
    }
    assert_eq!(plain_requests.load(Ordering::SeqCst), 0);
    assert_no_connection(&backend).await;
}

#[tokio::test]
async fn u7_malformed_body_never_reaches_the_backend() {
    let (backend, front, plain_requests) = chain().await;
    let mut client = front.connect().await;
    let request = offer("chat", &["Transfer-Encoding: chunked"]);
    client.send(request + "zz\r\n" + SMUGGLED).await;
    assert_eq!(client.head().await.status, 400);
    let rest = read_until_closed(&mut client).await;
    assert!(!rest.contains("HTTP/1.1"), "{rest}");
    assert_eq!(plain_requests.load(Ordering::SeqCst), 0);
    assert_no_connection(&backend).await;
}

/// The backend receives the decoded body with `Content-Length`, whatever framing the client used.
#[tokio::test]
async fn request_body_is_framed_anew() {
    let (backend, front, _) = chain().await;
    let lines = [
        "Transfer-Encoding: chunked",
        "Content-Type: application/json",
    ];
    let request = offer("chat", &lines).replace("GET", "POST");
    let request = request + "3;x=y\r\n{\"a\r\n4\r\n\":1}\r\n0\r\nX-Late: 1\r\n\r\n" + SMUGGLED;
    let (seen, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    let fields = crate::chain::fields(&seen);
    assert_eq!(
        fields,
        [
            "connection: upgrade",
            "content-length: 7",
            "content-type: application/json",
            "host: test",
            "upgrade: chat",
            "via: 1.1 tower-upgrade",
        ]
    );
    assert_eq!(at_backend.exactly(7).await, b"{\"a\":1}");
    at_backend.send(upgrade_response("chat", &[])).await;
    client.head().await.assert_upgraded("chat");
    assert_eq!(
        at_backend.exactly(SMUGGLED.len()).await,
        SMUGGLED.as_bytes()
    );
}

#[tokio::test]
async fn body_over_the_limit_never_reaches_the_backend() {
    let (backend, front, plain_requests) = chain().await;
    let limit = 64 * 1024;
    let mut client = front.connect().await;
    let line = format!("Content-Length: {}", limit + 1);
    client
        .send(offer("chat", &[&line, "Expect: 100-continue"]))
        .await;
    let head = client.head().await;
    assert_eq!(head.status, 413);
    assert_eq!(head.get("connection").as_deref(), Some("close"));

    let mut client = front.connect().await;
    let body = "x".repeat(limit + 1);
    let chunked = offer("chat", &["Transfer-Encoding: chunked"]);
    client
        .send(format!(
            "{chunked}{:x}\r\n{body}\r\n0\r\n\r\n{SMUGGLED}",
            limit + 1
        ))
        .await;
    assert_eq!(client.response().await.0.status, 413);
    // The body was read completely: the bytes after it are a separate request.
    assert_eq!(client.response().await.1, "plain GET /smuggled");
    assert_no_connection(&backend).await;

    // A body of the maximum length, after a 100 for the waiting client.
    let mut client = front.connect().await;
    let line = format!("Content-Length: {limit}");
    client
        .send(offer("chat", &[&line, "Expect: 100-continue"]))
        .await;
    assert_eq!(client.head().await.status, 100);
    client.send(&body[1..]).await;
    let mut at_backend = backend.accept().await;
    let seen = at_backend.request_head().await;
    assert!(!seen.contains("expect"), "{seen}");
    assert_eq!(at_backend.exactly(limit).await, &body.as_bytes()[1..]);
    assert_eq!(plain_requests.load(Ordering::SeqCst), 1);
}

/// The front server reads the bytes after the body as its next request, and does not forward them to the backend.
#[tokio::test]
async fn u10_bytes_after_refused_upgrade_are_the_next_request() {
    let (backend, front, plain_requests) = chain().await;
    let request = offer("chat", &["Content-Length: 4"]) + "body" + SMUGGLED;
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert_eq!(at_backend.exactly(4).await, b"body");
    assert_eq!(plain_requests.load(Ordering::SeqCst), 0);
    at_backend
        .send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
        .await;
    assert_eq!(client.response().await.1, "no");
    assert_eq!(client.response().await.1, "plain GET /smuggled");
    assert_eq!(plain_requests.load(Ordering::SeqCst), 1);
    assert_eq!(read_until_closed(&mut at_backend).await, "");
    assert_no_connection(&backend).await;
}

/// The client does not receive bytes that a backend sends after its rejection.
#[tokio::test]
async fn bytes_after_backend_rejection_are_not_forwarded() {
    let (backend, front, plain_requests) = chain().await;
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &offer("chat", &[])).await;
    at_backend
        .send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
        .await;
    assert_eq!(client.response().await.1, "no");
    client.send(SMUGGLED).await;
    assert_eq!(client.response().await.1, "plain GET /smuggled");
    until(|| plain_requests.load(Ordering::SeqCst) == 1).await;
    let _ = soon(at_backend.rest()).await;
}
