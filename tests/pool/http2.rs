//! Shared HTTP/2 connections, and the version that TLS negotiates.

use crate::{
    backend::{Backend, Version, exchange, get, reflect, settle},
    support::{Server, Via, soon, tls::Tls},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tower::{ServiceExt as _, service_fn};
use tower_upgrade::client::{Body, Dial, ErrorKind, Pool};

const HTTP2: Version = Version::Http2(None);

#[tokio::test(start_paused = true)]
async fn concurrent_first_requests_share_a_connection() {
    let backend = Backend::serve(HTTP2, service_fn(reflect));
    let pool = backend.pool(HTTP2);
    join_all((0..20).map(|_| exchange(&pool, get("/")))).await;
    assert_eq!(backend.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_share_a_failed_attempt() {
    let backend = Backend::refusing();
    let pool = backend.pool(HTTP2);
    let requests = (0..5).map(|_| pool.clone().oneshot(get("/")));
    for result in soon(join_all(requests)).await {
        let error = result.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
    assert_eq!(backend.opened(), 1);
    let error = soon(pool.clone().oneshot(get("/"))).await;
    error.expect_err("refused");
    assert_eq!(backend.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn canceled_attempt_passes_to_a_waiting_request() {
    let (backend, mut accepted) = Backend::raw();
    let pool = backend.pool(HTTP2);
    let first = tokio::spawn(pool.clone().oneshot(get("/1")));
    let second = tokio::spawn(pool.clone().oneshot(get("/2")));
    settle().await;
    // The first request waits for the settings, and the second for the first.
    let _silent = accepted.recv().await.expect("a connection");
    assert_eq!(backend.opened(), 1);
    first.abort();
    settle().await;
    assert_eq!(backend.opened(), 2);
    let io = accepted.recv().await.expect("a connection").io;
    let service = hyper_util::service::TowerToHyperService::new(service_fn(reflect));
    let http2 = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    tokio::spawn(http2.serve_connection(hyper_util::rt::TokioIo::new(io), service));
    let response = soon(second).await.expect("no panic").expect("a response");
    assert_eq!(response.status(), 200);
}

/// Sends 4 MiB, more than the client takes without a reader.
async fn long(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from(vec![0; 4 << 20]))))
}

#[tokio::test(start_paused = true)]
async fn connection_at_its_maximum_of_streams_gets_no_request() {
    let version = Version::Http2(Some(1));
    let backend = Backend::serve(version, service_fn(long));
    let pool = backend.pool(version);
    let call = || async {
        soon(pool.clone().oneshot(get("/")))
            .await
            .expect("a response")
    };
    let first = call().await;
    let second = call().await;
    assert_eq!(backend.opened(), 2);
    let body = soon(first.into_body().collect()).await.expect("a body");
    assert_eq!(body.to_bytes().len(), 4 << 20);
    // The first connection is free again.
    let third = call().await;
    assert_eq!(backend.opened(), 2);
    // A stream whose body is dropped is free as well.
    drop(third);
    settle().await;
    let _fourth = call().await;
    assert_eq!(backend.opened(), 2);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn stream_is_open_until_the_request_body_has_ended() {
    let version = Version::Http2(Some(1));
    let service = service_fn(|request: Request<Incoming>| async move {
        // Answers at once, and goes on to read the body.
        tokio::spawn(request.into_body().collect());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let backend = Backend::serve(version, service);
    let pool = backend.pool(version);
    let (end, ended) = tokio::sync::oneshot::channel::<Infallible>();
    let last = futures_util::stream::once(async {
        let _ = ended.await;
        Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"end")))
    });
    let body = Body::new(http_body_util::StreamBody::new(Box::pin(last)));
    let request = Request::post("/").body(body).expect("a request");
    exchange(&pool, request).await;
    exchange(&pool, get("/")).await;
    assert_eq!(backend.opened(), 2);
    drop(end);
    settle().await;
    let requests = (0..2).map(|_| exchange(&pool, get("/")));
    join_all(requests).await;
    assert_eq!(backend.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_open_as_many_connections_as_needed() {
    let version = Version::Http2(Some(2));
    let backend = Backend::serve(version, service_fn(long));
    let pool = backend.pool(version);
    let requests = (0..6).map(|_| pool.clone().oneshot(get("/")));
    let responses = soon(join_all(requests)).await;
    assert!(responses.iter().all(Result::is_ok), "{responses:?}");
    assert_eq!(backend.opened(), 3);
}

#[tokio::test]
async fn tls_negotiates_the_version() {
    for (alpn, is_http2) in [
        (&["h2", "http/1.1"][..], true),
        (&["http/1.1"], false),
        (&[], false),
    ] {
        let tls = Tls::with_alpn(alpn);
        let acceptor = tls.acceptor.clone();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let service = service_fn(|request: Request<Incoming>| async move {
            let answer = format!("{:?} {:?}", request.version(), request.uri().authority());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer))))
        });
        let server = Server::start_with(Via::Auto, service, move |io| {
            count.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            async move { acceptor.accept(io).await }
        });
        let server = server.await;
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls.client_config())
            .https_only()
            .enable_all_versions()
            .build();
        let destination = format!("https://localhost:{}", server.address.port());
        let dial = Dial::new(https).destination(destination.parse().expect("a URI"));
        let pool = Pool::new(dial);
        let requests = (0..3).map(|_| async {
            let response = soon(pool.clone().oneshot(get("http://user.test/"))).await;
            let body = response.expect("a response").into_body();
            crate::support::text(&body.collect().await.expect("a body").to_bytes())
        });
        for answer in join_all(requests).await {
            match is_http2 {
                true => assert_eq!(answer, "HTTP/2.0 Some(user.test)"),
                false => assert_eq!(answer, "HTTP/1.1 None", "{alpn:?}"),
            }
        }
        if is_http2 {
            assert_eq!(accepted.load(Ordering::SeqCst), 1);
        }
    }
}
