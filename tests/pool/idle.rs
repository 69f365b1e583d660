//! The end of connections.

use crate::{
    backend::{BOTH, Backend, Version, exchange, get, reflect, settle},
    support::soon,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;
use tower::{ServiceExt as _, service_fn};
use tower_upgrade::client::Body;

const LARGE: usize = 1024 * 1024;

async fn large(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from(vec![0; LARGE]))))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_after_the_timeout() {
    for version in BOTH {
        let backend = Backend::serve(version, service_fn(reflect));
        let pool = backend.pool(version);
        exchange(&pool, get("/")).await;
        sleep(seconds(60)).await;
        // The time begins again with each request.
        exchange(&pool, get("/")).await;
        sleep(seconds(89)).await;
        assert_eq!(backend.open(), 1, "{version:?}");
        sleep(seconds(2)).await;
        assert_eq!(backend.open(), 0, "{version:?}");
        assert_eq!(backend.opened(), 1, "{version:?}");

        // The task that closes connections starts again.
        exchange(&pool, get("/")).await;
        assert_eq!(backend.opened(), 2, "{version:?}");
        sleep(seconds(91)).await;
        assert_eq!(backend.open(), 0, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_can_be_set() {
    for version in BOTH {
        for (timeout, is_open) in [
            (Some(Duration::ZERO), false),
            (Some(seconds(10)), false),
            (None, true),
            (Some(Duration::MAX - seconds(1)), true),
        ] {
            let backend = Backend::serve(version, service_fn(reflect));
            let pool = backend.pool(version).idle_timeout(timeout);
            exchange(&pool, get("/")).await;
            sleep(seconds(11)).await;
            assert_eq!(backend.open() == 1, is_open, "{version:?} {timeout:?}");
            sleep(seconds(3600)).await;
            assert_eq!(backend.open() == 1, is_open, "{version:?} {timeout:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connection_in_use_is_not_idle() {
    for version in BOTH {
        let backend = Backend::serve(version, service_fn(large));
        let pool = backend.pool(version);
        let response = soon(pool.clone().oneshot(get("/"))).await;
        sleep(seconds(600)).await;
        assert_eq!(backend.open(), 1, "{version:?}");
        let body = response.expect("a response").into_body();
        let body = body.collect().await.expect("a body").to_bytes();
        assert_eq!(body.len(), LARGE);
        // The clock advances also while data is under way, so that this is no exact time.
        sleep(seconds(80)).await;
        assert_eq!(backend.open(), 1, "{version:?}");
        sleep(seconds(20)).await;
        assert_eq!(backend.open(), 0, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_clone_closes_idle_connections() {
    for version in BOTH {
        let backend = Backend::serve(version, service_fn(reflect));
        let pool = backend.pool(version);
        exchange(&pool, get("/")).await;
        let another = pool.clone();
        drop(pool);
        settle().await;
        assert_eq!(backend.open(), 1, "{version:?}");
        drop(another);
        settle().await;
        assert_eq!(backend.open(), 0, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn response_outlives_the_pool() {
    for version in BOTH {
        let backend = Backend::serve(version, service_fn(large));
        let pool = backend.pool(version);
        let response = soon(pool.oneshot(get("/"))).await.expect("a response");
        settle().await;
        let body = soon(response.into_body().collect()).await.expect("a body");
        assert_eq!(body.to_bytes().len(), LARGE, "{version:?}");
        settle().await;
        assert_eq!(backend.open(), 0, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn http1_connection_of_an_unread_body_is_closed() {
    let backend = Backend::serve(Version::Http1, service_fn(large));
    let pool = backend.pool(Version::Http1);
    let response = soon(pool.clone().oneshot(get("/"))).await;
    assert!(response.is_ok(), "{response:?}");
    // The connection in use takes no other request.
    assert_eq!(exchange(&pool, get("/")).await.len(), LARGE);
    assert_eq!(backend.opened(), 2);
    drop(response);
    settle().await;
    assert_eq!(backend.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn pool_keeps_64_idle_http1_connections() {
    let backend = Backend::serve(Version::Http1, service_fn(reflect));
    let pool = backend.pool(Version::Http1);
    let requests = (0..70).map(|_| exchange(&pool, get("/")));
    futures_util::future::join_all(requests).await;
    assert_eq!(backend.opened(), 70);
    assert_eq!(backend.open(), 64);
}

/// A service that never answers, and the number of its calls that the server has not dropped.
fn silent() -> (
    Arc<AtomicUsize>,
    impl Fn(
        Request<Incoming>,
    ) -> futures_util::future::BoxFuture<'static, Result<Response<Body>, Infallible>>
    + Clone,
) {
    struct Call(Arc<AtomicUsize>);
    impl Drop for Call {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let service = move |_request| -> futures_util::future::BoxFuture<'static, _> {
        count.fetch_add(1, Ordering::SeqCst);
        let call = Call(Arc::clone(&count));
        Box::pin(async move {
            let _call = call;
            pending().await
        })
    };
    (calls, service)
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_cancels_the_request() {
    for (version, open) in [(Version::Http1, 0), (Version::Http2(None), 1)] {
        let (calls, service) = silent();
        let backend = Backend::serve(version, service_fn(service));
        let pool = backend.pool(version);
        let request = tokio::spawn(pool.clone().oneshot(get("/")));
        settle().await;
        assert_eq!(calls.load(Ordering::SeqCst), 1, "{version:?}");
        request.abort();
        settle().await;
        assert_eq!(calls.load(Ordering::SeqCst), 0, "{version:?}");
        assert_eq!(backend.open(), open, "{version:?}");
        // The stream of the canceled request is not counted as open.
        sleep(seconds(91)).await;
        assert_eq!(backend.open(), 0, "{version:?}");
    }
}
