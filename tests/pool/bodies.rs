//! Streamed bodies: the sender stalls while the receiver does not read.

use crate::{
    backend::{BOTH, Backend, get, settle},
    support::soon,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;
use tower::{ServiceExt as _, service_fn};
use tower_upgrade::client::Body;

const CHUNK: usize = 64 * 1024;
const TOTAL: usize = 64 * 1024 * 1024;
/// More than the windows and buffers of both sides.
const BUFFERED: usize = 8 * 1024 * 1024;

/// A body of 64 MiB, and the number of its bytes that the sender has taken.
fn body() -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let chunk = Bytes::from(vec![7; CHUNK]);
    let frames = (0..TOTAL / CHUNK).map(move |_| {
        count.fetch_add(CHUNK, Ordering::SeqCst);
        Ok::<_, Infallible>(Frame::data(chunk.clone()))
    });
    let body = StreamBody::new(futures_util::stream::iter(frames));
    (Body::new(body), taken)
}

async fn length(
    mut body: impl http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin,
) -> usize {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.expect("a frame").data_ref().map_or(0, Bytes::len);
    }
    length
}

#[track_caller]
fn assert_stalls(taken: &AtomicUsize) {
    let taken = taken.load(Ordering::SeqCst);
    assert!((1..BUFFERED).contains(&taken), "{taken} bytes");
}

#[tokio::test(start_paused = true)]
async fn response_body_is_streamed() {
    for version in BOTH {
        let (body, taken) = body();
        let body = Arc::new(std::sync::Mutex::new(Some(body)));
        let service = service_fn(move |_request: Request<Incoming>| {
            let body = body.lock().expect("no panic").take().expect("one request");
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let backend = Backend::serve(version, service);
        let response = soon(backend.pool(version).oneshot(get("/"))).await;
        settle().await;
        assert_stalls(&taken);
        let body = response.expect("a response").into_body();
        assert_eq!(length(body).await, TOTAL, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn request_body_is_streamed() {
    for version in BOTH {
        let read = Arc::new(Notify::new());
        let reading = Arc::clone(&read);
        let service = service_fn(move |request: Request<Incoming>| {
            let reading = Arc::clone(&reading);
            async move {
                reading.notified().await;
                let length = length(request.into_body()).await;
                Ok::<_, Infallible>(Response::new(length.to_string()))
            }
        });
        let backend = Backend::serve(version, service);
        let (body, taken) = body();
        assert!(!body.is_end_stream());
        let request = Request::post("/").body(body).expect("a request");
        let response = tokio::spawn(backend.pool(version).oneshot(request));
        settle().await;
        assert_stalls(&taken);
        read.notify_one();
        let response = response.await.expect("no panic").expect("a response");
        let answer = response.into_body().collect().await.expect("a body");
        assert_eq!(answer.to_bytes(), TOTAL.to_string(), "{version:?}");
    }
}
