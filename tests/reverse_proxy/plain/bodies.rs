//! Bodies stream in both directions, with their trailers, and a broken body never ends like a complete one.

use super::{front, get, http2_backend, pool, scripted};
use crate::{
    chain::{fields, read_until_closed, send_through},
    support::{Via, h2::Client, head, soon},
};
use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use tokio::sync::oneshot;
use tower_upgrade::tunnel::ReverseProxy;

const CHUNKED: &str = "Transfer-Encoding: chunked";

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let (backend, front) = scripted().await;
    let request = head(&["POST / HTTP/1.1", "Host: test", CHUNKED]);
    let (seen, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert!(
        fields(&seen).contains(&"transfer-encoding: chunked"),
        "{seen}"
    );
    client.send("4\r\nping\r\n").await;
    assert_eq!(at_backend.exactly(9).await, b"4\r\nping\r\n");
    // The response begins before the request has ended.
    at_backend
        .send(head(&["HTTP/1.1 200 OK", CHUNKED]) + "4\r\npong\r\n")
        .await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.exactly(9).await, b"4\r\npong\r\n");
    client.send("0\r\n\r\n").await;
    assert_eq!(at_backend.exactly(5).await, b"0\r\n\r\n");
    at_backend.send("0\r\n\r\n").await;
    assert_eq!(client.exactly(5).await, b"0\r\n\r\n");
}

/// hyper sends the 100 when the client of the proxy reads the body.
#[tokio::test]
async fn expectation_is_answered_by_the_server() {
    let (backend, front) = scripted().await;
    let request = head(&[
        "POST / HTTP/1.1",
        "Host: test",
        "Expect: 100-continue",
        "Content-Length: 4",
    ]);
    let (seen, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert_eq!(
        fields(&seen),
        ["content-length: 4", "host: test", "via: 1.1 tower-upgrade"]
    );
    assert_eq!(client.head().await.status, 100);
    client.send("ping").await;
    assert_eq!(at_backend.exactly(4).await, b"ping");
}

/// hyper drops the body of a GET of unknown length, unless the proxy sets `Transfer-Encoding`.
#[tokio::test]
async fn body_of_a_get_is_forwarded() {
    let (backend, front) = scripted().await;
    let request = head(&["GET / HTTP/1.1", "Host: test", CHUNKED]) + "4\r\nping\r\n0\r\n\r\n";
    let (seen, _client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert!(
        fields(&seen).contains(&"transfer-encoding: chunked"),
        "{seen}"
    );
    assert_eq!(at_backend.exactly(14).await, b"4\r\nping\r\n0\r\n\r\n");
}

#[tokio::test]
async fn content_length_without_a_body_is_kept() {
    let (backend, front) = scripted().await;
    let length = "Content-Length: 5";
    for (method, status, kept) in [
        ("HEAD", "HTTP/1.1 200 OK", true),
        // hyper's server removes the field, which is optional here (RFC 9110 §8.6).
        ("GET", "HTTP/1.1 304 Not Modified", false),
        ("GET", "HTTP/1.1 204 No Content", false),
    ] {
        let request = head(&[&format!("{method} / HTTP/1.1"), "Host: test"]);
        let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
        at_backend.send(head(&[status, length])).await;
        let answer = client.head().await;
        let found = answer.get("content-length");
        assert_eq!(found.as_deref(), kept.then_some("5"), "{method} {status}");
        // The next response on the connection is not taken for a body.
        client.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
        at_backend.request_head().await;
        at_backend
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.response().await.1, "ok", "{method} {status}");
    }
}

/// hyper forwards only the trailers that `Trailer` names, to a client that sent `TE: trailers`.
#[tokio::test]
async fn trailers_are_forwarded_between_http1_connections() {
    let (backend, front) = scripted().await;
    let request = head(&[
        "POST / HTTP/1.1",
        "Host: test",
        CHUNKED,
        "Trailer: x-late",
        "Connection: TE",
        "TE: trailers",
    ]) + "2\r\nhi\r\n0\r\nX-Late: 1\r\n\r\n";
    let (seen, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert!(fields(&seen).contains(&"trailer: x-late"), "{seen}");
    let expected = b"2\r\nhi\r\n0\r\nx-late: 1\r\n\r\n";
    let body = at_backend.exactly(expected.len()).await;
    assert_eq!(body.to_ascii_lowercase(), expected);
    at_backend
        .send(
            head(&["HTTP/1.1 200 OK", CHUNKED, "Trailer: x-late"])
                + "2\r\nhi\r\n0\r\nX-Late: 1\r\n\r\n",
        )
        .await;
    let answer = client.head().await;
    assert_eq!(answer.get("trailer").as_deref(), Some("x-late"));
    let body = client.exactly(expected.len()).await;
    assert_eq!(body.to_ascii_lowercase(), expected);
}

/// As gRPC uses HTTP/2: without `Trailer`.
#[tokio::test]
async fn trailers_are_forwarded_between_http2_connections() {
    let late = || {
        HeaderMap::from_iter([(
            "x-late".parse().expect("a name"),
            HeaderValue::from_static("1"),
        )])
    };
    let address = http2_backend(move |mut request, mut respond| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let body = request.body_mut();
        assert_eq!(body.data().await.expect("one").expect("data"), "ping");
        let trailers = body.trailers().await.expect("an end").expect("trailers");
        assert_eq!(trailers["x-late"], "1");
        let mut body = respond
            .send_response(Response::new(()), false)
            .expect("open");
        body.send_data("pong".into(), false).expect("open");
        body.send_trailers(trailers).expect("open");
    })
    .await;
    let front = front(ReverseProxy::new(pool(Via::Http2, address))).await;
    let mut client = Client::connect(front.connect().await).await;
    let request = Request::post("http://test/")
        .version(Version::HTTP_2)
        .header("te", "trailers");
    let (response, mut body) = client.send(request.body(()).expect("a request")).await;
    body.send_data("ping".into(), false).expect("open");
    body.send_trailers(late()).expect("open");
    let mut body = soon(response).await.expect("a response").into_body();
    assert_eq!(soon(body.data()).await.expect("one").expect("data"), "pong");
    let trailers = soon(body.trailers())
        .await
        .expect("an end")
        .expect("trailers");
    assert_eq!(trailers, late());
}

/// An incomplete body from an HTTP/1.1 backend is an incomplete body for the client.
#[tokio::test]
async fn broken_response_body_breaks_the_response() {
    for framing in [CHUNKED, "Content-Length: 9"] {
        let (backend, front) = scripted().await;
        let (mut client, mut at_backend) = get(&front, &backend).await;
        let body = match framing {
            CHUNKED => "4\r\npart\r\n",
            _ => "part",
        };
        at_backend
            .send(head(&["HTTP/1.1 200 OK", framing]) + body)
            .await;
        assert_eq!(client.head().await.status, 200);
        assert_eq!(client.exactly(body.len()).await, body.as_bytes());
        drop(at_backend);
        assert_eq!(read_until_closed(&mut client).await, "", "{framing}");
    }
    // To a client of HTTP/2.
    let (backend, front) = scripted().await;
    let mut client = Client::connect(front.connect().await).await;
    let request = Request::get("http://test/")
        .version(Version::HTTP_2)
        .body(());
    let (response, mut body) = client.send(request.expect("a request")).await;
    body.send_data(Bytes::new(), true).expect("open");
    let mut at_backend = backend.accept().await;
    at_backend.request_head().await;
    at_backend
        .send(head(&["HTTP/1.1 200 OK", CHUNKED]) + "4\r\npart\r\n")
        .await;
    let mut body = soon(response).await.expect("a response").into_body();
    assert_eq!(soon(body.data()).await.expect("one").expect("data"), "part");
    drop(at_backend);
    let error = soon(body.data())
        .await
        .expect("no end")
        .expect_err("no data");
    assert!(error.is_reset(), "{error}");
}

/// A reset stream of an HTTP/2 backend is an incomplete body for the client.
#[tokio::test]
async fn reset_response_body_breaks_the_response() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL] {
        let (read, was_read) = oneshot::channel();
        let address = http2_backend(move |_, mut respond| async move {
            let response = respond.send_response(Response::new(()), false);
            let mut body = response.expect("open");
            body.send_data("part".into(), false).expect("open");
            was_read.await.expect("open");
            body.send_reset(reason);
        })
        .await;
        let front = front(ReverseProxy::new(pool(Via::Http2, address))).await;
        let mut client = front.connect().await;
        client.send(head(&["GET / HTTP/1.1", "Host: test"])).await;
        assert_eq!(client.head().await.status, 200);
        assert_eq!(client.exactly(9).await, b"4\r\npart\r\n");
        read.send(()).expect("open");
        assert_eq!(read_until_closed(&mut client).await, "", "{reason:?}");
    }
}

/// An incomplete body from a client is an incomplete body for the backend.
#[tokio::test]
async fn broken_request_body_breaks_the_request() {
    let (backend, front) = scripted().await;
    let request = head(&["POST / HTTP/1.1", "Host: test", CHUNKED]) + "4\r\npart\r\n";
    let (_, client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert_eq!(at_backend.exactly(9).await, b"4\r\npart\r\n");
    drop(client);
    assert_eq!(read_until_closed(&mut at_backend).await, "");

    let mut client = Client::connect(front.connect().await).await;
    let request = Request::builder()
        .method(Method::POST)
        .uri("http://test/")
        .version(Version::HTTP_2);
    let (_response, mut body) = client.send(request.body(()).expect("a request")).await;
    body.send_data("part".into(), false).expect("open");
    let mut at_backend = backend.accept().await;
    at_backend.request_head().await;
    assert_eq!(at_backend.exactly(9).await, b"4\r\npart\r\n");
    body.send_reset(Reason::CANCEL);
    assert_eq!(read_until_closed(&mut at_backend).await, "");
}

/// hyper decodes only `chunked`. The body would lose the name of the other coding.
#[tokio::test]
async fn unknown_transfer_coding_is_refused() {
    const GZIP: &str = "Transfer-Encoding: gzip, chunked";
    let (backend, front) = scripted().await;
    let mut client = front.connect().await;
    for lines in [
        &["POST / HTTP/1.1"][..],
        &["POST / HTTP/1.1", "Connection: Upgrade", "Upgrade: chat"],
    ] {
        let request = [lines, &["Host: test", GZIP]].concat();
        client.send(head(&request) + "0\r\n\r\n").await;
        assert_eq!(client.response().await.0.status, 501);
    }
    let (mut client, mut at_backend) = get(&front, &backend).await;
    at_backend
        .send(head(&["HTTP/1.1 200 OK", GZIP]) + "0\r\n\r\n")
        .await;
    let (head, body) = client.response().await;
    assert_eq!(head.status, 502);
    assert_eq!(
        body,
        "the backend's response has an unknown transfer coding"
    );
}

/// As a server that rejects an upload and does not read it.
#[tokio::test]
async fn response_before_the_end_of_the_request_is_forwarded() {
    let (backend, front) = scripted().await;
    let request = head(&["POST / HTTP/1.1", "Host: test", CHUNKED]) + "4\r\npart\r\n";
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    at_backend.exactly(9).await;
    let answer = ["HTTP/1.1 413 No", "Content-Length: 2", "Connection: close"];
    at_backend.send(head(&answer) + "no").await;
    drop(at_backend);
    let (head, body) = client.response().await;
    assert_eq!((head.status, body.as_str()), (413, "no"));
}

/// The framing error is the client's, and not the backend's.
#[tokio::test]
async fn invalid_request_body_becomes_400() {
    let (backend, front) = scripted().await;
    let request = head(&["POST / HTTP/1.1", "Host: test", CHUNKED]) + "4\r\npart\r\n";
    let (_, mut client, mut at_backend) = send_through(&front, &backend, &request).await;
    assert_eq!(at_backend.exactly(9).await, b"4\r\npart\r\n");
    client.send("not a chunk\r\n").await;
    let (head, body) = client.response().await;
    assert_eq!(
        (head.status, body.as_str()),
        (400, "the request body could not be read")
    );
    assert_eq!(read_until_closed(&mut at_backend).await, "");

    let address = http2_backend(|mut request, _respond| async move {
        while let Some(Ok(_)) = request.body_mut().data().await {}
    })
    .await;
    let front = super::front(ReverseProxy::new(pool(Via::Http2, address))).await;
    let mut client = front.connect().await;
    let request = ["POST / HTTP/1.1", "Host: test", CHUNKED];
    client
        .send(crate::support::head(&request) + "not a chunk\r\n")
        .await;
    assert_eq!(client.response().await.0.status, 400);
}
