//! Bodies of plain requests and responses.

use crate::{
    raw::{Client, DATA, End, HEADERS, fields, frame, get, headers, section},
    server_fn,
    support::{h3::Server, soon, until},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::mpsc;
use tower::service_fn;
use tower_upgrade::{BoxError, http3};

const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "test"),
    (":path", "/"),
];

/// Echoes the body, part by part, with its trailers.
async fn echo_parts() -> Server {
    Server::start(service_fn(|request: Request<http3::Body>| async {
        Ok::<_, BoxError>(Response::new(request.into_body()))
    }))
    .await
}

#[tokio::test]
async fn body_is_streamed_both_ways_with_trailers() {
    let server = echo_parts().await;
    let client = Client::connect(&server).await;
    let mut stream = client.request(&POST).await;
    assert_eq!(stream.status().await, 200);
    for part in ["one", "two"] {
        stream.write(&frame(DATA as u8, part.as_bytes())).await;
        assert_eq!(stream.data().await, part.as_bytes());
    }
    stream
        .write(&frame(HEADERS as u8, &section(&[("sum", "6")])))
        .await;
    stream.send.finish().expect("an open stream");
    let trailers = stream.frame().await;
    let Ok((HEADERS, trailers)) = trailers else {
        panic!("no trailers: {trailers:?}");
    };
    assert_eq!(fields(&trailers)["sum"], "6");
    assert_eq!(stream.frame().await, Err(End::Finished));
}

#[tokio::test]
async fn too_large_trailers_reset_the_stream() {
    let server = echo_parts().await;
    let client = Client::connect(&server).await;
    let large = "x".repeat(15 * 1024);
    let larger = "x".repeat(16 * 1024);
    for (value, is_sent) in [(&large, true), (&larger, false)] {
        let mut stream = client.request(&POST).await;
        assert_eq!(stream.status().await, 200);
        let trailers = frame(HEADERS as u8, &section(&[("sum", value)]));
        stream.write(&trailers).await;
        let _ = stream.send.finish();
        let end = stream.frame().await;
        assert_eq!(end.is_ok(), is_sent, "{end:?}");
    }
    client.expect_alive().await;
}

#[tokio::test]
async fn trailers_of_a_response_are_sent() {
    let server = Server::start(service_fn(|_: Request<http3::Body>| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let parts = [
            Ok::<_, BoxError>(Frame::data(Bytes::from("data"))),
            Ok(Frame::trailers(trailers)),
        ];
        Ok::<_, BoxError>(Response::new(StreamBody::new(stream::iter(parts))))
    }))
    .await;
    let client = Client::connect(&server).await;
    let mut stream = client.request(&crate::raw::GET).await;
    assert!(!stream.head().await.contains_key("content-length"));
    assert_eq!(stream.data().await, b"data");
    let Ok((HEADERS, trailers)) = stream.frame().await else {
        panic!("no trailers");
    };
    assert_eq!(fields(&trailers)["grpc-status"], "0");
    assert_eq!(stream.frame().await, Err(End::Finished));
}

#[tokio::test]
async fn e8_length_that_differs_from_content_length_resets_the_stream() {
    let server = server_fn(|request| async {
        request.into_body().collect().await?;
        Ok(Response::new(Full::default()))
    })
    .await;
    let client = Client::connect(&server).await;
    for body in ["", "x", "xxx"] {
        let fields = [&POST[..], &[("content-length", "2")]].concat();
        let mut stream = client.request(&fields).await;
        stream.write(&frame(DATA as u8, body.as_bytes())).await;
        let _ = stream.send.finish();
        // The service fails with the error of the body.
        assert_eq!(stream.frame().await, Err(End::Reset(0x102)), "{body}");
    }
    let fields = [&POST[..], &[("content-length", "2")]].concat();
    // The end arrives with the head: the service does not see the request.
    let mut stream = client.request_and_finish(&fields).await;
    assert_eq!(stream.frame().await, Err(End::Reset(0x10e)));
    let mut stream = client.request(&fields).await;
    stream.write(&frame(DATA as u8, b"xx")).await;
    stream.send.finish().expect("an open stream");
    assert_eq!(stream.status().await, 200);
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_read() {
    let (proceed, is_ready) = tokio::sync::oneshot::channel();
    let is_ready = Arc::new(std::sync::Mutex::new(Some(is_ready)));
    let server = server_fn(move |request| {
        let is_ready = is_ready.lock().expect("no panic").take();
        async {
            if let Some(is_ready) = is_ready {
                is_ready.await?;
            }
            let body = request.into_body().collect().await?.to_bytes();
            Ok(Response::new(Full::new(body)))
        }
    })
    .await;
    let client = Client::connect(&server).await;
    let fields = [&POST[..], &[("expect", "100-Continue")]].concat();
    let mut stream = client.request(&fields).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let early = futures_util::FutureExt::now_or_never(stream.recv.read_chunk(1, true));
    assert!(early.is_none(), "the body is not read yet");
    proceed.send(()).expect("a service");
    assert_eq!(stream.status().await, 100);
    stream.write(&frame(DATA as u8, b"body")).await;
    stream.send.finish().expect("an open stream");
    assert_eq!(stream.status().await, 200);
    assert_eq!(stream.data().await, b"body");
}

#[tokio::test]
async fn unread_body_is_stopped_without_an_error() {
    let server = server_fn(|_| async { Ok(Response::new(Full::from("done"))) }).await;
    let client = Client::connect(&server).await;
    let mut stream = client.request(&POST).await;
    assert_eq!(stream.status().await, 200);
    assert_eq!(stream.rest().await, (b"done".to_vec(), End::Finished));
    assert_eq!(stream.stopped().await, Some(0x100));
}

#[tokio::test]
async fn cancelled_request_drops_the_service_and_the_response_body() {
    let held = Arc::new(AtomicUsize::new(0));
    struct Held(Arc<AtomicUsize>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let server = Server::start(service_fn({
        let held = Arc::clone(&held);
        move |request: Request<http3::Body>| {
            held.fetch_add(1, Ordering::SeqCst);
            let guard = Held(Arc::clone(&held));
            async move {
                if request.uri().path() == "/hangs" {
                    let _guard = guard;
                    return std::future::pending().await;
                }
                // A body that never ends.
                let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
                let parts = stream::unfold((receiver, guard, sender), |mut state| async {
                    state.0.recv().await.map(|part| (part, state))
                });
                Ok::<_, BoxError>(Response::new(StreamBody::new(parts)))
            }
        }
    }))
    .await;
    let client = Client::connect(&server).await;
    for path in ["/hangs", "/body"] {
        let mut stream = client.request(&get(path)).await;
        until(|| held.load(Ordering::SeqCst) == 1).await;
        if path == "/body" {
            assert_eq!(stream.status().await, 200);
        }
        stream.recv.stop(0x10cu32.into()).expect("an open stream");
        until(|| held.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn failed_service_and_failed_body_reset_the_stream() {
    let server = Server::start(service_fn(|request: Request<http3::Body>| async move {
        match request.uri().path() {
            "/error" => Err(BoxError::from("on purpose")),
            "/panic" => panic!("on purpose"),
            "/switch" => {
                let response = Response::builder().status(101);
                let parts = [Ok(Frame::data(Bytes::new())), Ok(Frame::data(Bytes::new()))];
                Ok(response.body(StreamBody::new(stream::iter(parts)))?)
            }
            "/" => Ok(Response::new(StreamBody::new(stream::iter([
                Ok(Frame::data(Bytes::new())),
                Ok(Frame::data(Bytes::new())),
            ])))),
            _ => {
                let parts = [
                    Ok(Frame::data(Bytes::from("part"))),
                    Err(BoxError::from("on purpose")),
                ];
                Ok(Response::new(StreamBody::new(stream::iter(parts))))
            }
        }
    }))
    .await;
    let client = Client::connect(&server).await;
    for path in ["/error", "/panic", "/body", "/switch"] {
        let mut stream = client.request(&get(path)).await;
        let end = loop {
            match stream.frame().await {
                Ok(_) => {}
                Err(end) => break end,
            }
        };
        assert_eq!(end, End::Reset(0x102), "{path}");
    }
    client.expect_alive().await;
}

#[tokio::test]
async fn response_without_content_has_no_data() {
    let server = server_fn(|request| async move {
        let status = request
            .uri()
            .path()
            .trim_start_matches('/')
            .parse::<u16>()?;
        let response = Response::builder().status(status);
        Ok(response.body(Full::from("ignored"))?)
    })
    .await;
    let client = Client::connect(&server).await;
    for path in ["/204", "/304"] {
        let mut stream = client.request(&get(path)).await;
        assert!(
            !stream.head().await.contains_key("content-length"),
            "{path}"
        );
        assert_eq!(stream.frame().await, Err(End::Finished), "{path}");
    }
}

/// A large body both ways, through windows much smaller than the body.
#[tokio::test]
async fn large_bodies_pass_in_order() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let server = echo_parts().await;
    let client = Client::connect(&server).await;
    let mut stream = client.open(&headers(&POST)).await;
    assert_eq!(stream.status().await, 200);
    let body: Vec<u8> = (0..LENGTH).map(|at| (at / 7) as u8).collect();
    let (mut send, mut recv) = (stream.send, stream.recv);
    let writing = async {
        for part in body.chunks(10_000) {
            send.write_all(&frame(DATA as u8, part))
                .await
                .expect("open");
        }
        send.finish().expect("open");
    };
    let (echo, ()) = soon(async { tokio::join!(data_to_end(&mut recv), writing) }).await;
    assert!(echo == body);
}

/// Reads raw DATA frames to the end.
async fn data_to_end(recv: &mut quinn::RecvStream) -> Vec<u8> {
    let bytes = recv.read_to_end(64 * 1024 * 1024).await.expect("an end");
    let mut rest = &bytes[..];
    let mut data = Vec::new();
    while !rest.is_empty() {
        assert_eq!(rest[0], 0, "a DATA frame");
        let size = 1 << (rest[1] >> 6);
        let mut length = usize::from(rest[1] & 0x3f);
        for byte in &rest[2..1 + size] {
            length = length << 8 | usize::from(*byte);
        }
        data.extend_from_slice(&rest[1 + size..1 + size + length]);
        rest = &rest[1 + size + length..];
    }
    data
}
