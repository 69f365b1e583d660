//! The requests that arrive, and their errors.

use crate::{
    backend::{BOTH, Backend, Version, exchange, get, post, reflect, uri},
    support::soon,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use std::{convert::Infallible, future::ready};
use tower::{ServiceExt as _, service_fn};
use tower_upgrade::client::{Body, Dial, ErrorKind, Pool};

#[tokio::test(start_paused = true)]
async fn requests_share_a_connection_and_keep_their_host() {
    for version in BOTH {
        let backend = Backend::serve(version, service_fn(reflect));
        let pool = backend.pool(version);
        for (target, host, expected) in [
            ("/a", None, "POST backend:80 /a body"),
            ("/b", Some("user.test"), "POST user.test /b body"),
            ("http://made-up.test/c", None, "POST made-up.test /c body"),
            (
                "http://made-up.test/d",
                Some("user.test:1"),
                "POST user.test:1 /d body",
            ),
        ] {
            let mut request = post(target, "body");
            if let Some(host) = host {
                let host = HeaderValue::from_static(host);
                request.headers_mut().insert(header::HOST, host);
            }
            // A proxy forwards requests of any version. With HTTP/1.0, hyper would close the connection.
            *request.version_mut() = match host {
                Some(_) => http::Version::HTTP_10,
                None => http::Version::HTTP_2,
            };
            assert_eq!(exchange(&pool, request).await, expected, "{version:?}");
        }
        assert_eq!(backend.opened(), 1, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn protocol_extension_of_a_plain_request_is_not_sent() {
    let version = Version::Http2(None);
    let backend = Backend::serve(version, service_fn(reflect));
    let mut request = get("/a");
    let protocol = hyper::ext::Protocol::from_static("chat");
    request.extensions_mut().insert(protocol);
    let answer = exchange(&backend.pool(version), request).await;
    assert_eq!(answer, "GET backend:80 /a ");
}

/// Answers with `Connection` and `TE`, and with a trailer.
async fn trailers(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let field = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    let fields = format!("{:?}", (field(header::CONNECTION), field(header::TE)));
    let mut status = HeaderMap::new();
    status.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from(fields)), Frame::trailers(status)];
    let frames = futures_util::stream::iter(frames).map(Ok::<_, Infallible>);
    let response = Response::builder().header(header::TRAILER, "grpc-status");
    let body = Body::new(StreamBody::new(frames));
    Ok(response.body(body).expect("a response"))
}

#[tokio::test(start_paused = true)]
async fn te_is_listed_in_connection_and_brings_trailers() {
    let listed = format!("{:?}", (Some(b"TE"), Some(b"trailers")));
    let by_caller = format!("{:?}", (Some(b"te"), Some(b"trailers")));
    let one_line = format!("{:?}", (Some(b"x-hop, TE"), Some(b"trailers")));
    let http2 = format!("{:?}", (None::<()>, Some(b"trailers")));
    for (version, connection, expected) in [
        (Version::Http1, None, listed),
        (Version::Http1, Some("te"), by_caller),
        (Version::Http1, Some("x-hop"), one_line),
        (Version::Http2(None), None, http2),
    ] {
        let backend = Backend::serve(version, service_fn(trailers));
        let mut request = get("/");
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(connection) = connection {
            headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
        }
        let response = soon(backend.pool(version).oneshot(request)).await;
        let body = response.expect("a response").into_body();
        let body = soon(body.collect()).await.expect("a body");
        let trailers = body.trailers().expect("trailers");
        assert_eq!(trailers["grpc-status"], "0", "{version:?}");
        assert_eq!(body.to_bytes(), expected, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn call_without_destination_fails() {
    let backend = Backend::refusing();
    let pool = Pool::new(Dial::new(backend.clone()));
    let upgrade = Request::get("http://backend:80/")
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Body::empty())
        .expect("a request");
    for request in [get("http://backend:80/"), upgrade] {
        let error = soon(pool.clone().oneshot(request)).await;
        let error = error.expect_err("no destination");
        assert_eq!(error.kind(), ErrorKind::Connector);
    }
    assert_eq!(backend.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn errors_have_the_kind_of_dial() {
    for version in BOTH {
        let pool = Backend::refusing().pool(version);
        let error = soon(pool.oneshot(get("/"))).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{version:?}");
    }
    let pool = Backend::refusing().pool(Version::Http1);
    let with_user = get("http://user@backend/");
    let error = soon(pool.oneshot(with_user)).await.expect_err("a user");
    assert_eq!(error.kind(), ErrorKind::Request);

    let unknown = service_fn(|_| ready(Err::<tower_upgrade::Upgraded, _>("unknown scheme")));
    let dial = Dial::new(unknown).destination(uri("ftp://backend"));
    let error = soon(Pool::new(dial).oneshot(get("/"))).await;
    let error = error.expect_err("the connector fails");
    assert_eq!(error.kind(), ErrorKind::Connector);
}
