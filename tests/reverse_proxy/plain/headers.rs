//! The head of plain requests and responses, as raw bytes.

use super::{front, get, pool, scripted};
use crate::{
    chain::{assert_no_connection, fields, send_through},
    support::{
        Server, Via,
        clients::Scripted,
        h2::{Client, connect, extended_connect},
        head, offer, soon,
    },
};
use http::{Method, Request, Version};
use tower_upgrade::tunnel::{Forwarding, ReverseProxy};

/// Fields of one connection (RFC 9110 §7.6.1), and `Trailer`, which is not one of them.
const HOP_BY_HOP: &[&str] = &[
    "Connection: x-Hop, close",
    "X-Hop: 1",
    "X-Hop: 2",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
    "Upgrade: chat",
    "TE: gzip",
    "Trailer: x-late",
    "Proxy-Authorization: Basic secret",
    "Proxy-Authenticate: Basic",
];

#[tokio::test]
async fn hop_by_hop_fields_are_removed_in_both_directions() {
    let (backend, front) = scripted().await;
    let lines = [
        &["PATCH /a%20b?c=%2f HTTP/1.1", "Host: test"],
        HOP_BY_HOP,
        &[
            "Cookie: a=1",
            "Cookie: b=2",
            "x-kept: 1",
            "Via: 1.0 first",
            "Forwarded: for=10.0.0.1",
            "X_Forwarded_For: 10.0.0.1",
            "Content-Length: 2",
        ],
    ]
    .concat();
    let request = head(&lines) + "ok";
    let (seen, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert!(
        seen.starts_with("PATCH /a%20b?c=%2f HTTP/1.1\r\n"),
        "{seen}"
    );
    assert_eq!(
        fields(&seen),
        [
            "content-length: 2",
            "cookie: a=1; b=2",
            "host: test",
            "trailer: x-late",
            "via: 1.0 first, 1.1 tower-upgrade",
            "x-kept: 1",
        ]
    );
    assert_eq!(at_backend.exactly(2).await, b"ok");
    let lines = [
        &["HTTP/1.1 200 Fine"],
        HOP_BY_HOP,
        &["Set-Cookie: a=1", "Set-Cookie: b=2", "Content-Length: 2"],
    ]
    .concat();
    at_backend.send(head(&lines) + "ok").await;
    let (head, body) = client.response().await;
    assert_eq!((head.status, body.as_str()), (200, "ok"));
    let names = [
        "content-length",
        "set-cookie",
        "set-cookie",
        "trailer",
        "via",
    ];
    // The client asked to close the connection, which the server confirms.
    assert_eq!(head.names(), [&["connection"][..], &names].concat());
    assert_eq!(head.get("connection").as_deref(), Some("close"));
    assert_eq!(head.get("via").as_deref(), Some("1.1 tower-upgrade"));
}

#[tokio::test]
async fn te_trailers_is_kept() {
    let (backend, front) = scripted().await;
    for (te, kept) in [
        ("trailers", true),
        ("gzip, Trailers", true),
        ("gzip", false),
    ] {
        let te = format!("TE: {te}");
        let request = head(&["GET / HTTP/1.1", "Host: test", "Connection: TE", &te]);
        let (seen, ..) = send_through(&front, &backend, &request).await;
        let lines = ["connection: TE", "te: trailers"];
        for line in lines {
            let is_there =
                fields(&seen.to_ascii_lowercase()).contains(&line.to_ascii_lowercase().as_str());
            assert_eq!(is_there, kept, "{te}: {seen}");
        }
    }
}

#[tokio::test]
async fn forwarded_fields_describe_the_client() {
    let backend = Scripted::start().await;
    let proxy = ReverseProxy::new(pool(Via::Http1, backend.address))
        .forwarded(Forwarding::Replace)
        .x_forwarded(Forwarding::Replace)
        .peer(|_| Some(([192, 0, 2, 1], 9).into()));
    let front = front(proxy).await;
    let lines = ["Forwarded: for=10.0.0.1", "X-Forwarded-For: 10.0.0.1"];
    let request = [&["GET / HTTP/1.1", "Host: test"], &lines[..]].concat();
    let (seen, ..) = send_through(&front, &backend, &head(&request)).await;
    assert_eq!(
        fields(&seen),
        [
            "forwarded: for=192.0.2.1;host=test",
            "host: test",
            "via: 1.1 tower-upgrade",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: test",
        ]
    );
}

#[tokio::test]
async fn invalid_host_is_refused() {
    let (backend, front) = scripted().await;
    for host in ["X: y", "Host: a\r\nHost: b", "Host: ann@test", "Host:"] {
        let mut client = front.connect().await;
        client.send(head(&["GET / HTTP/1.1", host])).await;
        assert_eq!(client.response().await.0.status, 400, "{host}");
    }
    for name in ["Host", "cookie", "X-Forwarded-For", "Sec-Fetch-Site"] {
        let mut client = front.connect().await;
        let connection = format!("Connection: {name}");
        let request = head(&["GET / HTTP/1.1", "Host: test", &connection]);
        client.send(request).await;
        let (head, body) = client.response().await;
        assert_eq!(head.status, 400, "{name}");
        assert_eq!(body, "`Connection` names an end-to-end field");
    }
    let mut client = front.connect().await;
    let request = ["GET http://test/ HTTP/1.1", "Host: test", "Host: test"];
    client.send(head(&request)).await;
    assert_eq!(client.response().await.0.status, 400);
    let mut client = Client::connect(front.connect().await).await;
    let request = Request::get("http://test/")
        .version(Version::HTTP_2)
        .header("host", "other");
    let answer = client.ask(request.body(()).expect("a request")).await;
    assert_eq!(answer.refused().await.0, 400);
    assert_no_connection(&backend).await;
}

/// The requested host is that of the absolute form (RFC 9112 §3.2.2).
#[tokio::test]
async fn host_is_that_of_the_client_request() {
    let (backend, front) = scripted().await;
    let request = head(&["GET http://Example.com:80/a HTTP/1.1", "Host: other"]);
    let (seen, ..) = send_through(&front, &backend, &request).await;
    assert!(seen.starts_with("GET /a HTTP/1.1\r\n"), "{seen}");
    assert_eq!(
        fields(&seen),
        ["host: Example.com:80", "via: 1.1 tower-upgrade"]
    );
}

/// HTTP/1.0 does not require `Host`, as in the health checks of some balancers.
#[tokio::test]
async fn http1_0_request_without_host_gets_the_backends() {
    let (backend, front) = scripted().await;
    let request = head(&["GET /health HTTP/1.0"]);
    let (seen, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert!(seen.starts_with("GET /health HTTP/1.1\r\n"), "{seen}");
    let host = format!("host: {}", backend.address);
    assert_eq!(fields(&seen), [host.as_str(), "via: 1.0 tower-upgrade"]);
    at_backend
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!((head.status, head.get("transfer-encoding")), (200, None));
    assert_eq!(client.rest().await.expect("the end"), b"ok");
}

/// RFC 9110 §15.2.2: the client has not asked to switch protocols, and the bytes after the 101 are not HTTP.
#[tokio::test]
async fn unasked_101_becomes_502() {
    let (backend, front) = scripted().await;
    let plain = head(&["GET / HTTP/1.1", "Host: test"]);
    for request in [plain.clone(), offer("h2c", &[])] {
        let (seen, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
        assert_eq!(fields(&seen), ["host: test", "via: 1.1 tower-upgrade"]);
        at_backend
            .send("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nbehind")
            .await;
        let (head, body) = client.response().await;
        head.assert_no_handshake();
        assert_eq!(head.status, 502);
        assert_eq!(
            body,
            "the backend answered 101 to a request without `Upgrade`"
        );
        assert!(at_backend.rest().await.is_ok_and(|rest| rest.is_empty()));
        // The client connection stays open.
        client.send(&plain).await;
        let mut at_backend = backend.accept().await;
        at_backend.request_head().await;
        at_backend.send("HTTP/1.1 204 No\r\n\r\n").await;
        assert_eq!(client.head().await.status, 204);
    }
}

#[tokio::test]
async fn other_interim_responses_are_ignored() {
    let (backend, front) = scripted().await;
    let (mut client, mut at_backend) = get(&front, &backend).await;
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    at_backend.send(early).await;
    at_backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let (head, body) = client.response().await;
    assert_eq!((head.status, body.as_str()), (200, "ok"));
    assert_eq!(head.get("link"), None);
}

/// An `UpgradeLayer` answers a CONNECT itself. Without one it reaches the service.
#[tokio::test]
async fn connect_becomes_501() {
    let backend = Scripted::start().await;
    let proxy = ReverseProxy::new(pool(Via::Http1, backend.address));
    let front = Server::start_via(Via::Auto, proxy).await;
    let mut client = front.connect().await;
    client
        .send(head(&["CONNECT test:443 HTTP/1.1", "Host: test:443"]))
        .await;
    let (head, _) = client.response().await;
    assert_eq!(head.status, 501);
    assert_eq!(head.get("connection").as_deref(), Some("close"));
    client.expect_end().await;
    for request in [connect("test:443"), extended_connect("chat")] {
        let mut client = Client::connect(front.connect().await).await;
        let request = request.body(()).expect("a request");
        assert_eq!(client.ask(request).await.refused().await.0, 501);
    }
    assert_no_connection(&backend).await;
}

#[tokio::test]
async fn options_asterisk_is_forwarded() {
    for via in [Via::Http1, Via::Http2] {
        let (paths, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let backend = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            let uri = request.uri();
            let path = uri.path_and_query().map(|path| path.as_str().to_owned());
            paths.send(path.unwrap_or_default()).expect("open");
            crate::support::plain(request)
        });
        let backend = Server::start_via(via, backend).await;
        let front = front(ReverseProxy::new(pool(via, backend.address))).await;
        let mut client = front.connect().await;
        client
            .send(head(&["OPTIONS * HTTP/1.1", "Host: test"]))
            .await;
        assert_eq!(client.response().await.0.status, 200, "{via:?}");
        assert_eq!(seen.recv().await.as_deref(), Some("*"));

        let mut client = Client::connect(front.connect().await).await;
        let mut request = Request::new(());
        *request.method_mut() = Method::OPTIONS;
        *request.version_mut() = Version::HTTP_2;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some("test".parse().expect("a host"));
        uri.path_and_query = Some(http::uri::PathAndQuery::from_static("*"));
        *request.uri_mut() = http::Uri::from_parts(uri).expect("a URI");
        let (response, mut body) = client.send(request).await;
        body.send_data(bytes::Bytes::new(), true).expect("open");
        let response = soon(response).await.expect("a response");
        assert_eq!(response.status(), 200, "{via:?}");
        assert_eq!(seen.recv().await.as_deref(), Some("*"));
    }
}

/// RFC 9110 §7.6.2.
#[tokio::test]
async fn max_forwards_is_decremented() {
    let (backend, front) = scripted().await;
    for (method, sent, expected) in [
        ("OPTIONS", "10", "max-forwards: 9"),
        ("TRACE", "1", "max-forwards: 0"),
        // Other methods do not use the field.
        ("GET", "0", "max-forwards: 0"),
    ] {
        let line = format!("Max-Forwards: {sent}");
        let request = head(&[&format!("{method} / HTTP/1.1"), "Host: test", &line]);
        let (seen, ..) = send_through(&front, &backend, &request).await;
        assert!(fields(&seen).contains(&expected), "{method}: {seen}");
    }
}

#[tokio::test]
async fn proxy_answers_max_forwards_0() {
    let (backend, front) = scripted().await;
    let mut client = front.connect().await;
    for (method, lines, status) in [
        ("OPTIONS", &["Max-Forwards: 0"][..], 200),
        ("OPTIONS", &["Max-Forwards: -1"], 400),
        ("OPTIONS", &["Max-Forwards: +1"], 400),
        ("OPTIONS", &["Max-Forwards: 1", "Max-Forwards: 1"], 400),
        ("TRACE", &["Max-Forwards: 0"], 501),
    ] {
        let line = format!("{method} / HTTP/1.1");
        let request = [&[line.as_str(), "Host: test"], lines].concat();
        client.send(head(&request)).await;
        let (head, body) = client.response().await;
        assert_eq!(head.status, status, "{method} {lines:?}");
        assert_eq!(body.is_empty(), status == 200, "{body}");
    }
    assert_no_connection(&backend).await;
}
