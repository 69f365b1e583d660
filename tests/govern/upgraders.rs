//! The foreign upgraders that the tests govern. Each echoes.

use crate::{
    matrix::{Boxed, boxed},
    support::head,
};
use axum::{
    Router,
    extract::ws::{self, WebSocketUpgrade},
    routing::any,
};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tower::service_fn;

/// Counts the sessions that upgraders have started.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A WebSocket server of another crate.
pub(crate) type Upgrader = fn(Count) -> Boxed;

pub(crate) const WEBSOCKETS: &[(&str, Upgrader)] = &[
    ("axum", axum_websocket),
    ("hyper-tungstenite", hyper_tungstenite),
    ("fastwebsockets", fastwebsockets),
    ("yawc", yawc),
];

pub(crate) fn axum_websocket(count: Count) -> Boxed {
    let handler = move |upgrade: WebSocketUpgrade| async move {
        upgrade
            .protocols(["chat"])
            .on_upgrade(move |mut socket| async move {
                count.add();
                while let Some(Ok(message)) = socket.recv().await {
                    if let ws::Message::Text(_) | ws::Message::Binary(_) = message {
                        if socket.send(message).await.is_err() {
                            break;
                        }
                    }
                }
            })
    };
    boxed(Router::new().fallback(any(handler)))
}

fn hyper_tungstenite(count: Count) -> Boxed {
    boxed(service_fn(move |mut request: Request<Incoming>| {
        let count = count.clone();
        async move {
            let (response, socket) = hyper_tungstenite::upgrade(&mut request, None).expect("valid");
            tokio::spawn(async move {
                let Ok(mut socket) = socket.await else { return };
                count.add();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
            Ok::<_, Infallible>(response)
        }
    }))
}

fn fastwebsockets(count: Count) -> Boxed {
    boxed(service_fn(move |mut request: Request<Incoming>| {
        let count = count.clone();
        async move {
            let (response, socket) =
                fastwebsockets::upgrade::upgrade(&mut request).expect("a valid request");
            tokio::spawn(async move {
                let Ok(socket) = socket.await else { return };
                count.add();
                let mut socket = fastwebsockets::FragmentCollector::new(socket);
                while let Ok(frame) = socket.read_frame().await {
                    let is_text = frame.opcode == fastwebsockets::OpCode::Text;
                    let is_closed = frame.opcode == fastwebsockets::OpCode::Close;
                    if is_closed || is_text && socket.write_frame(frame).await.is_err() {
                        break;
                    }
                }
            });
            Ok::<_, Infallible>(response)
        }
    }))
}

fn yawc(count: Count) -> Boxed {
    boxed(service_fn(move |mut request: Request<Incoming>| {
        let count = count.clone();
        async move {
            let (response, socket) = yawc::WebSocket::upgrade(&mut request).expect("valid");
            tokio::spawn(async move {
                let Ok(mut socket) = socket.await else { return };
                count.add();
                while let Some(frame) = socket.next().await {
                    let is_text = frame.opcode() == yawc::OpCode::Text;
                    if is_text && socket.send(frame).await.is_err() {
                        break;
                    }
                }
            });
            Ok::<_, Infallible>(response)
        }
    }))
}

/// Upgrades to any protocol, as in hyper's example: the spawned task owns the request.
pub(crate) fn raw(count: Count) -> Boxed {
    boxed(service_fn(move |mut request: Request<Incoming>| {
        let count = count.clone();
        async move {
            let protocol = request.headers().get(header::UPGRADE).cloned();
            tokio::spawn(async move {
                let Ok(io) = hyper::upgrade::on(&mut request).await else {
                    return;
                };
                count.add();
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(io));
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            let mut response = Response::new(Empty::<Bytes>::new());
            if let Some(protocol) = protocol {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, protocol);
            }
            Ok::<_, Infallible>(response)
        }
    }))
}

/// Upgrades to WebSocket, and runs a function on the bytes.
pub(crate) fn websocket<F, Fut>(run: F) -> Boxed
where
    F: Fn(TokioIo<hyper::upgrade::Upgraded>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    boxed(service_fn(move |mut request: Request<Incoming>| {
        let run = run.clone();
        async move {
            tokio::spawn(async move {
                if let Ok(io) = hyper::upgrade::on(&mut request).await {
                    run(TokioIo::new(io)).await;
                }
            });
            Ok::<_, Infallible>(
                Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header(header::CONNECTION, "upgrade")
                    .header(header::UPGRADE, "websocket")
                    .body(Empty::<Bytes>::new())
                    .expect("a response"),
            )
        }
    }))
}

/// Returns the opening handshake of a WebSocket, with more header lines.
pub(crate) fn handshake(more: &[&str]) -> String {
    let mut lines = vec![
        "GET / HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    lines.extend(more);
    head(&lines)
}
