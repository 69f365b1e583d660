//! Connections that the server closes.

use crate::{
    backend::{BOTH, Backend, Version, exchange, get, post, reflect, settle},
    support::soon,
};
use http_body_util::BodyExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tower::{ServiceExt as _, service_fn};
use tower_upgrade::client::ErrorKind;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(start_paused = true)]
async fn closed_http1_connection_is_replaced() {
    // The pool takes the request before or after hyper has read the end of the connection.
    for is_noticed in [true, false] {
        let (backend, mut accepted) = Backend::raw();
        let pool = backend.pool(Version::Http1);
        let server = tokio::spawn(async move {
            let mut first = accepted.recv().await.expect("a connection");
            first.request_head().await;
            first.send(ANSWER).await;
            (first, accepted)
        });
        assert_eq!(exchange(&pool, get("/")).await, "ok");
        let (first, mut accepted) = server.await.expect("no panic");
        drop(first);
        if is_noticed {
            settle().await;
        }
        let server = tokio::spawn(async move {
            let mut second = accepted.recv().await.expect("a connection");
            let head = second.request_head().await;
            let body = second.exactly(4).await;
            second.send(ANSWER).await;
            (head, body, second)
        });
        assert_eq!(exchange(&pool, post("/post", "body")).await, "ok");
        let (head, body, _second) = server.await.expect("no panic");
        assert!(head.starts_with("POST /post HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: backend:80\r\n"), "{head}");
        assert_eq!(body, b"body");
        assert_eq!(backend.opened(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn closed_http2_connection_is_replaced() {
    for is_noticed in [true, false] {
        let (backend, mut accepted) = Backend::raw();
        let pool = backend.pool(Version::Http2(None));
        let mut serve = async || {
            let io = accepted.recv().await.expect("a connection").io;
            let service = TowerToHyperService::new(service_fn(reflect));
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // The caller has the server: it can close the connection without a wait.
            let ended = http2.serve_connection(TokioIo::new(io), service).await;
            panic!("the connection ended: {ended:?}");
        };
        let answer = tokio::select! {
            answer = exchange(&pool, get("/")) => answer,
            () = serve() => unreachable!(),
        };
        assert_eq!(answer, "GET backend:80 / ");
        if is_noticed {
            settle().await;
        }
        let mut request = post("/post", "body");
        let host = http::HeaderValue::from_static("user.test");
        request.headers_mut().insert("host", host);
        let answer = tokio::select! {
            answer = exchange(&pool, request) => answer,
            () = serve() => unreachable!(),
        };
        assert_eq!(answer, "POST user.test /post body");
        assert_eq!(backend.opened(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn connection_after_goaway_gets_no_request() {
    let (backend, mut accepted) = Backend::raw();
    let pool = backend.pool(Version::Http2(None));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let mut stopped = Some(stopped);
        while let Some(peer) = accepted.recv().await {
            let service = TowerToHyperService::new(service_fn(reflect));
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let connection = http2.serve_connection(TokioIo::new(peer.io), service);
            let stopped = stopped.take();
            tokio::spawn(async move {
                let mut connection = std::pin::pin!(connection);
                if let Some(stopped) = stopped {
                    tokio::select! {
                        _ = &mut connection => return,
                        _ = stopped => connection.as_mut().graceful_shutdown(),
                    }
                }
                let _ = connection.await;
            });
        }
    });
    assert_eq!(exchange(&pool, get("/1")).await, "GET backend:80 /1 ");
    stop.send(()).expect("a connection");
    settle().await;
    assert_eq!(exchange(&pool, get("/2")).await, "GET backend:80 /2 ");
    assert_eq!(exchange(&pool, get("/3")).await, "GET backend:80 /3 ");
    assert_eq!(backend.opened(), 2);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn request_is_not_sent_twice() {
    let (backend, mut accepted) = Backend::raw();
    let pool = backend.pool(Version::Http1);
    let server = tokio::spawn(async move {
        let mut first = accepted.recv().await.expect("a connection");
        first.request_head().await;
        first.send(ANSWER).await;
        // Reads the second request and closes the connection.
        first.request_head().await;
        accepted
    });
    assert_eq!(exchange(&pool, get("/1")).await, "ok");
    let error = soon(pool.clone().oneshot(get("/2"))).await;
    let error = error.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Transport);
    settle().await;
    let mut accepted = server.await.expect("no panic");
    assert!(accepted.try_recv().is_err(), "a second connection");
}

/// No request may loop over a server that closes all connections.
#[tokio::test(start_paused = true)]
async fn request_on_a_new_connection_is_not_retried() {
    for version in BOTH {
        let (backend, mut accepted) = Backend::raw();
        let server = tokio::spawn(async move { while accepted.recv().await.is_some() {} });
        let pool = backend.pool(version);
        let error = soon(pool.oneshot(get("/"))).await.expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::Transport, "{version:?}");
        assert_eq!(backend.opened(), 1, "{version:?}");
        server.abort();
    }
}

/// Otherwise a server could answer a request before it is made, and requests get the answers of others.
#[tokio::test(start_paused = true)]
async fn connection_with_an_unsolicited_response_is_not_reused() {
    for is_noticed in [true, false] {
        let (backend, mut accepted) = Backend::raw();
        let pool = backend.pool(Version::Http1);
        let server = tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Some(mut peer) = accepted.recv().await {
                peer.request_head().await;
                peer.send(ANSWER).await;
                peer.send(ANSWER.replace("ok", "no")).await;
                connections.push(peer);
            }
        });
        for opened in 1..4 {
            let response = soon(pool.clone().oneshot(get("/"))).await;
            let body = response.expect("a response").into_body();
            let body = soon(body.collect()).await.expect("a body");
            assert_eq!(body.to_bytes(), "ok");
            assert_eq!(backend.opened(), opened);
            if is_noticed {
                settle().await;
            }
        }
        server.abort();
    }
}
