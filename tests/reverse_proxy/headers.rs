//! The fields that the proxy forwards, as raw bytes.

use crate::{
    chain::{
        assert_no_connection, client, fields, proxy, response_to, scripted, send_through, serve,
        upgrade_response,
    },
    support::{
        Server, Via,
        clients::Scripted,
        h2::{Client, connect, extended_connect},
        handlers::run_echo,
        head, offer, plain, soon,
    },
};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::sync::{Arc, Mutex};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest, client::Body,
    tunnel::ReverseProxy,
};

/// Fields of one connection (RFC 9110 §7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "Connection: x-Hop, close",
    "X-Hop: 1",
    "X-Hop: 2",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
    "TE: trailers",
    "Trailer: x-late",
    "Proxy-Authorization: Basic secret",
    "Proxy-Authenticate: Basic",
];

#[tokio::test]
async fn hop_by_hop_fields_of_the_request_are_removed() {
    let (backend, front) = scripted().await;
    let more = [
        HOP_BY_HOP,
        &[
            "Cookie: a=1",
            "x-kept:  1",
            "X-Kept: 2",
            "x-hops: 1",
            "Via: 1.0 first",
        ],
    ]
    .concat();
    let request = offer("chat", &more).replacen("GET /", "PATCH /a%20b?c=%2f", 1);
    let (seen, ..) = send_through(&front, &backend, &request).await;
    assert!(
        seen.starts_with("PATCH /a%20b?c=%2f HTTP/1.1\r\n"),
        "{seen}"
    );
    assert_eq!(
        fields(&seen),
        [
            "connection: upgrade",
            "cookie: a=1",
            "host: test",
            "upgrade: chat",
            "via: 1.0 first, 1.1 tower-upgrade",
            "x-hops: 1",
            "x-kept: 1",
            "x-kept: 2",
        ]
    );
}

#[tokio::test]
async fn hop_by_hop_fields_of_the_101_are_removed() {
    let (backend, front) = scripted().await;
    let more = [
        HOP_BY_HOP,
        &["Set-Cookie: a=1", "Set-Cookie: b=2", "Date: today"],
    ]
    .concat();
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &offer("chat", &[])).await;
    at_backend.send(upgrade_response("chat", &more)).await;
    let head = client.head().await;
    head.assert_upgraded("chat");
    assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
    assert_eq!(
        head.names(),
        ["connection", "set-cookie", "set-cookie", "upgrade", "via"]
    );
    assert_eq!(head.get("via").as_deref(), Some("1.1 tower-upgrade"));
    assert_eq!(head.get("date").as_deref(), Some("today"));
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_rejection_are_removed() {
    let more = [
        &["HTTP/1.1 403 No"],
        HOP_BY_HOP,
        &["Content-Length: 2", "Server: test"],
    ]
    .concat();
    let (head, body) = response_to(&offer("chat", &[]), head(&more) + "no").await;
    assert_eq!((head.status, body.as_str()), (403, "no"));
    assert_eq!(head.names(), ["content-length", "server", "via"]);
}

#[tokio::test]
async fn connection_option_naming_end_to_end_field_is_refused() {
    let (backend, front) = scripted().await;
    for name in [
        "Host",
        "cookie",
        "Sec-WebSocket-Protocol",
        "X-Forwarded-For",
        "forwarded",
    ] {
        let mut client = front.connect().await;
        client
            .send(offer("chat", &[&format!("Connection: {name}")]))
            .await;
        let (head, body) = client.response().await;
        assert_eq!(head.status, 400, "{name}: {body}");
    }
    assert_no_connection(&backend).await;
}

/// A client cannot remove a field that a layer around the proxy's client sets.
#[tokio::test]
async fn field_set_by_a_client_layer_is_kept() {
    let backend = Scripted::start().await;
    let client =
        client(Via::Http1, backend.address).map_request(|mut request: http::Request<Body>| {
            let headers = request.headers_mut();
            headers.insert("x-user", HeaderValue::from_static("ann"));
            request
        });
    let front = serve(UpgradeLayer::new().any_protocol(ReverseProxy::new(client))).await;
    let request = offer("chat", &["Connection: x-user", "x-user: root"]);
    let (seen, ..) = send_through(&front, &backend, &request).await;
    assert!(fields(&seen).contains(&"x-user: ann"), "{seen}");
    assert_eq!(seen.matches("x-user").count(), 1, "{seen}");
}

#[tokio::test]
async fn host_is_that_of_the_client_request() {
    let (backend, front) = scripted().await;
    let absolute = offer("chat", &[]).replacen("GET /", "GET http://Example.com:80/a", 1);
    let (seen_head, ..) = send_through(&front, &backend, &absolute).await;
    assert!(seen_head.starts_with("GET /a HTTP/1.1\r\n"), "{seen_head}");
    assert!(
        fields(&seen_head).contains(&"host: Example.com:80"),
        "{seen_head}"
    );
    assert_eq!(seen_head.matches("host:").count(), 1, "{seen_head}");

    let requesting = tokio::spawn({
        let peer = front.connect().await;
        async move {
            let mut client = Client::connect(peer).await;
            let request = extended_connect("chat").header("host", "TEST");
            client.ask(request.body(()).expect("a request")).await
        }
    });
    let mut at_backend = backend.accept().await;
    let head = at_backend.request_head().await;
    assert!(head.starts_with("GET /path?query HTTP/1.1\r\n"), "{head}");
    assert_eq!(
        fields(&head),
        [
            "connection: upgrade",
            "host: test",
            "upgrade: chat",
            "via: 2 tower-upgrade",
        ]
    );
    requesting.abort();
}

#[tokio::test]
async fn w8_websocket_list_fields_are_joined() {
    let (backend, front) = scripted().await;
    let more = [
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: a",
        "Sec-WebSocket-Extensions: x; y=1",
        "Sec-WebSocket-Protocol: b, c",
        "Sec-WebSocket-Extensions: z",
    ];
    let (head, ..) = send_through(&front, &backend, &offer("websocket", &more)).await;
    let fields = fields(&head);
    assert!(
        fields.contains(&"sec-websocket-protocol: a, b, c"),
        "{head}"
    );
    assert!(
        fields.contains(&"sec-websocket-extensions: x; y=1, z"),
        "{head}"
    );
}

#[tokio::test]
async fn http2_cookies_are_joined_for_http1() {
    let (backend, front) = scripted().await;
    let requesting = tokio::spawn({
        let peer = front.connect().await;
        async move {
            let mut client = Client::connect(peer).await;
            let request = extended_connect("chat")
                .header("cookie", "a=1")
                .header("cookie", "b=2");
            client.ask(request.body(()).expect("a request")).await
        }
    });
    let mut at_backend = backend.accept().await;
    let head = at_backend.request_head().await;
    assert!(fields(&head).contains(&"cookie: a=1; b=2"), "{head}");
    requesting.abort();
}

/// Records the request headers, and accepts with the given response headers.
#[derive(Clone, Default)]
struct RecordHeaders {
    seen: Arc<Mutex<Option<HeaderMap>>>,
    response_headers: HeaderMap,
}

impl ProtocolHandler for RecordHeaders {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        *self.seen.lock().expect("no panic") = Some(request.headers().clone());
        let mut accept = Accept::new(run_echo);
        for (name, value) in &self.response_headers {
            accept = accept.header(name.clone(), value.clone());
        }
        Ok(accept)
    }
}

/// Over HTTP/2 neither the request has a key nor the response its answer.
#[tokio::test]
async fn websocket_key_is_not_sent_over_http2() {
    let mut recording = RecordHeaders::default();
    let wrong = HeaderValue::from_static("wrong");
    recording
        .response_headers
        .insert("sec-websocket-accept", wrong);
    let layer = UpgradeLayer::new().protocol("websocket", recording.clone());
    let backend = Server::start_via(Via::Http2, layer.layer(service_fn(plain))).await;
    let proxy = proxy(Via::Http2, backend.address);
    let front = serve(UpgradeLayer::new().any_protocol(proxy)).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let mut client = front.connect().await;
    client.send(offer("websocket", &[key, "X: y"])).await;
    let head = client.head().await;
    head.assert_upgraded("websocket");
    let accept = head.get("sec-websocket-accept");
    assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let seen = recording
        .seen
        .lock()
        .expect("no panic")
        .take()
        .expect("a request");
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["via", "x"]);

    let mut client = Client::connect(front.connect().await).await;
    let request = extended_connect("websocket").body(()).expect("a request");
    let answer = client.ask(request).await;
    assert_eq!(answer.head.headers().get("sec-websocket-accept"), None);
    let seen = recording
        .seen
        .lock()
        .expect("no panic")
        .take()
        .expect("a request");
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["via"]);
}

const CHALLENGE: &str = "HTTP/1.1 407 Proxy Authentication Required\r\n\
    Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn proxy_credentials_reach_the_parent_proxy() {
    let parent = Scripted::start().await;
    let front = serve(UpgradeLayer::new().connect(proxy(Via::Http1, parent.address))).await;
    let request = head(&[
        "CONNECT example.com:443 HTTP/1.1",
        "Host: elsewhere",
        "Proxy-Authorization: Basic secret",
        "Proxy-Connection: keep-alive",
        "User-Agent: test",
    ]);
    let (seen, mut client, mut at_parent) = send_through(&front, &parent, &request).await;
    assert!(
        seen.starts_with("CONNECT example.com:443 HTTP/1.1\r\n"),
        "{seen}"
    );
    assert_eq!(
        fields(&seen),
        [
            "host: example.com:443",
            "proxy-authorization: Basic secret",
            "user-agent: test",
            "via: 1.1 tower-upgrade",
        ]
    );
    at_parent.send(CHALLENGE).await;
    let (head, _) = client.response().await;
    assert_eq!(head.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    assert_eq!(head.get("proxy-authenticate").as_deref(), Some("Basic"));
    client.expect_end().await;

    let mut client = Client::connect(front.connect().await).await;
    let requesting = async {
        let request = connect("example.com:443").header("proxy-authorization", "Basic secret");
        client.ask(request.body(()).expect("a request")).await
    };
    let answering = async {
        let mut at_parent = parent.accept().await;
        let head = at_parent.request_head().await;
        at_parent.send(CHALLENGE).await;
        head
    };
    let (answer, seen) = soon(async { tokio::join!(requesting, answering) }).await;
    assert!(
        fields(&seen).contains(&"proxy-authorization: Basic secret"),
        "{seen}"
    );
    assert_eq!(answer.head.status(), 407);
    assert_eq!(answer.head.headers()["proxy-authenticate"], "Basic");
}
