//! The client's response if the backend does not switch.

use crate::{
    chain::{answered, assert_untouched, client, dial, front, proxy, scripted, seen, switch_to},
    support::{
        Server, Via,
        clients::Scripted,
        h2::{Client, extended_connect},
        handlers::echo,
        head,
        log::Log,
        offer, plain, soon,
    },
};
use http::Response;
use std::{
    error::Error as _,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, RejectionReason, UpgradeLayer, UpgradeRequest,
    client::UpgradeLayer as ClientLayer, tunnel::ReverseProxy,
};

/// A response with a chunked body of unknown length.
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
async fn a_refusal_is_heard_out() {
    let (backend, front) = scripted().await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let answer = chunked("403 Not You", "WWW-Authenticate: Basic\r\n", &body);

    let (_, mut client, mut at_backend) = seen(&front, &backend, &offer("chat", &[])).await;
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
    // And the connection goes on.
    client
        .send(head(&["GET /next HTTP/1.1", "Host: test"]))
        .await;
    assert_eq!(client.response().await.1, "plain GET /next");

    let mut client = Client::connect(front.connect().await).await;
    let request = extended_connect("chat").body(()).expect("a request");
    let asking = client.ask(request);
    let answering = async {
        let mut at_backend = backend.accept().await;
        at_backend.request_head().await;
        at_backend.send(&answer).await;
        at_backend
    };
    let (answered, _open) = soon(async {
        let (mut answered, at_backend) = tokio::join!(
            async {
                let answer = asking.await;
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
async fn a_426_says_what_to_ask_for() {
    let answer = head(REQUIRED) + "better";
    let (head, body) = answered(&offer("chat", &[]), &answer).await;
    assert_eq!((head.status, body.as_str()), (426, "better"));
    assert_eq!(head.get("upgrade").as_deref(), Some("chat/2"));
    assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
    assert_eq!(head.get("x-hop"), None);
}

#[tokio::test]
async fn a_426_is_none_over_http_2() {
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
async fn an_offer_that_is_ignored_is_answered_as_the_backend_does() {
    let ok =
        "HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok";
    let (head, body) = answered(&offer("chat", &[]), ok).await;
    head.assert_no_handshake();
    assert_eq!((head.status, body.as_str()), (200, "ok"));
}

/// To a client that has asked with CONNECT it would be the switch.
#[tokio::test]
async fn success_without_a_switch_is_none_over_http_2() {
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
async fn k2_an_invalid_upgrade_response_is_a_bad_gateway_that_names_the_field() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols";
    for (answer, why) in [
        (
            switch_to("chess", &[]),
            "a 101 to chess, which was not offered",
        ),
        (
            switch_to("chat/2", &[]),
            "a 101 to chat/2, which was not offered",
        ),
        (
            switch_to("chat, chess", &[]),
            "a 101 to more than one protocol",
        ),
        (
            switch_to("a b", &[]),
            "a 101 whose `Upgrade` is no protocol",
        ),
        (
            head(&[SWITCH, "Connection: Upgrade"]),
            "a 101 without `Upgrade`",
        ),
        (
            head(&[SWITCH, "Upgrade: chat"]),
            "a 101 without `Connection: upgrade`",
        ),
        (
            head(&["HTTP/1.0 101 S", "Connection: Upgrade", "Upgrade: chat"]),
            "a 101 that is not of HTTP/1.1",
        ),
    ] {
        let (backend, front) = scripted().await;
        let (_, mut client, mut at_backend) = seen(&front, &backend, &offer("chat", &[])).await;
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

/// The extensions of the rejection that an outer layer sees.
type Reasons = Arc<Mutex<Vec<String>>>;

async fn reporting(proxy: ReverseProxy) -> (Server, Reasons) {
    let reasons = Reasons::default();
    let service = UpgradeLayer::new()
        .any_protocol(proxy)
        .layer(service_fn(plain));
    let noted = Arc::clone(&reasons);
    let service = service.map_response(move |response: Response<_>| {
        if let Some(reason) = response.extensions().get::<RejectionReason>() {
            let reason = format!("{reason}: {:?}", reason.source());
            noted.lock().expect("no panic").push(reason);
        }
        response
    });
    (Server::start_via(Via::Auto, service).await, reasons)
}

#[tokio::test]
async fn a_backend_that_is_away_is_a_bad_gateway() {
    let (log, _guard) = Log::start();
    let away = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = away.local_addr().expect("bound");
    drop(away);
    let (front, reasons) = reporting(proxy(Via::Http1, address)).await;
    let mut peer = front.connect().await;
    peer.send(offer("chat", &[])).await;
    let (head, body) = peer.response().await;
    assert_eq!(head.status, 502);
    // The response does not contain the backend's address.
    assert_eq!(body, "the backend cannot be reached");
    let reasons = reasons.lock().expect("no panic").clone();
    assert!(reasons[0].contains("refused"), "{reasons:?}");
    assert_eq!(log.lines("the backend cannot be reached").len(), 1);
    // The connection goes on.
    peer.send(offer("h2c", &[])).await;
    assert_eq!(peer.response().await.1, "plain GET /");
}

#[tokio::test]
async fn a_backend_that_breaks_off_is_a_bad_gateway() {
    let broke = "the backend did not answer: the connection broke";
    for (broken, why) in [
        ("", broke),
        ("HTTP/1.1 101 Swit", broke),
        (
            "SSH-2.0-OpenSSH\r\n",
            "the backend did not answer: the response is not valid HTTP",
        ),
    ] {
        let (backend, front) = scripted().await;
        let (_, mut client, mut at_backend) = seen(&front, &backend, &offer("chat", &[])).await;
        at_backend.send(broken).await;
        at_backend.finish().await;
        let (head, body) = client.response().await;
        assert_eq!((head.status, body.as_str()), (502, why));
    }
}

/// Never decides.
struct Ponders;

impl ProtocolHandler for Ponders {
    async fn accept(&self, _: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_takes_too_long_is_a_gateway_timeout() {
    let layer = UpgradeLayer::new()
        .protocol("chat", Ponders)
        .accept_timeout(None);
    let backend = Server::start(layer.layer(service_fn(plain))).await;
    let second = Duration::from_secs(1);
    let own = ClientLayer::new()
        .handshake_timeout(second)
        .layer(dial(backend.address));
    let towers = ServiceBuilder::new()
        .timeout(second)
        .service(client(Via::Http1, backend.address));
    for proxy in [ReverseProxy::new(own), ReverseProxy::new(towers)] {
        let (front, reasons) = reporting(proxy).await;
        let mut peer = front.connect().await;
        let start = tokio::time::Instant::now();
        peer.send(offer("chat", &[])).await;
        let (head, body) = peer.response().await;
        assert_eq!(head.status, 504);
        assert_eq!(body, "the backend did not answer in time");
        // Not one of the 30 seconds that the layers have.
        assert!(start.elapsed() < 2 * second, "{:?}", start.elapsed());
        assert_eq!(reasons.lock().expect("no panic").len(), 1);
    }
}

/// The proxy finds the client's error inside errors of layers around the client.
#[tokio::test]
async fn a_refusal_comes_through_layers_around_the_client() {
    let backend = Scripted::start().await;
    let layered = ServiceBuilder::new()
        .timeout(Duration::from_secs(60))
        .service(client(Via::Http1, backend.address));
    let front = front(ReverseProxy::new(layered)).await;
    let (_, mut client, mut at_backend) = seen(&front, &backend, &offer("chat", &[])).await;
    at_backend
        .send("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 5\r\n\r\nshort")
        .await;
    let (head, body) = client.response().await;
    assert_eq!((head.status, body.as_str()), (418, "short"));
}

#[tokio::test]
async fn what_http_2_cannot_be_asked_for_is_a_bad_gateway() {
    let layer = UpgradeLayer::new().protocol("chat", echo());
    let plain = layer.layer(service_fn(plain));
    let without = Server::start_via(Via::AutoWithoutExtendedConnect, plain.clone()).await;
    let with = Server::start_via(Via::Http2, plain).await;
    let post = offer("chat", &["Content-Length: 4"]).replace("GET", "POST") + "body";
    for (backend, request) in [(&without, offer("chat", &[])), (&with, post)] {
        let front = front(proxy(Via::Http2, backend.address)).await;
        let mut peer = front.connect().await;
        peer.send(request).await;
        let (head, body) = peer.response().await;
        assert_eq!(head.status, 502);
        assert_eq!(body, "the backend cannot be asked for this");
    }
}

/// A layer around the client fails with a different error.
#[tokio::test]
async fn any_other_error_is_a_bad_gateway() {
    let failing = service_fn(|_| async {
        Err::<tower_upgrade::client::Session, BoxError>("no room at the inn".into())
    });
    let (front, reasons) = reporting(ReverseProxy::new(failing)).await;
    let mut peer = front.connect().await;
    peer.send(offer("chat", &[])).await;
    let (head, body) = peer.response().await;
    assert_eq!(head.status, 502);
    assert!(!body.contains("inn"), "{body}");
    let reasons = reasons.lock().expect("no panic").clone();
    assert!(reasons[0].contains("inn"), "{reasons:?}");
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
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
    assert_untouched(&backend).await;
}

/// RFC 6455 §4.2.2: a server chooses one subprotocol.
#[tokio::test]
async fn more_than_one_subprotocol_is_a_bad_gateway() {
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
        let (_, mut client, mut at_backend) = seen(&front, &backend, &request).await;
        let lines = [&[accept], lines].concat();
        at_backend.send(switch_to("websocket", &lines)).await;
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
async fn extensions_of_a_backend_are_one_line() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let (backend, front) = scripted().await;
    let request = offer("websocket", &[key]);
    let (_, mut client, mut at_backend) = seen(&front, &backend, &request).await;
    let lines = [
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Extensions: x",
        "Sec-WebSocket-Extensions: y",
    ];
    at_backend.send(switch_to("websocket", &lines)).await;
    let head = client.head().await;
    head.assert_switched("websocket");
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
