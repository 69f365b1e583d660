//! tower-http's layers between the `UpgradeLayer` that decides and the one that commits, and around both.
//! The client sends another request, asks to close the connection, or disconnects before the response.

use crate::support::{Head, Peer, Server, Via, handlers::run_echo, head, plain, soon, until};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpStream;
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _, service_fn, util::BoxCloneService};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, timeout::TimeoutLayer,
    trace::TraceLayer, validate_request::ValidateRequestHeaderLayer,
};
use tower_upgrade::{Accept, BoxError, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest};

pub(crate) type Boxed =
    BoxCloneService<Request<Incoming>, Response<UnsyncBoxBody<Bytes, BoxError>>, Infallible>;

/// Boxes a service. The response keeps its head and its extensions.
pub(crate) fn boxed<S, B>(service: S) -> Boxed
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    BoxCloneService::new(
        service.map_response(|response| response.map(|b| b.map_err(Into::into).boxed_unsync())),
    )
}

/// A layer and the outcome expected with it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) wrap: fn(Boxed) -> Boxed,
    /// Header lines of the request that make the layer act.
    pub(crate) lines: &'static [&'static str],
    pub(crate) status: u16,
    /// Whether the handler's `accept` never completes.
    pub(crate) undecided: bool,
    /// Whether the handler's `accept` is called.
    pub(crate) reaches_handler: bool,
    /// Whether to test the layer around the committing layer as well. There a layer may refuse the request
    /// or time out, but the committing layer does not see how it changes the response.
    pub(crate) around: bool,
}

fn rewrite(inner: Boxed, change: fn(&mut Response<UnsyncBoxBody<Bytes, BoxError>>)) -> Boxed {
    boxed(inner.map_response(move |mut response| {
        change(&mut response);
        response
    }))
}

fn timeout(status: StatusCode) -> TimeoutLayer {
    TimeoutLayer::with_status_code(status, Duration::from_millis(1))
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "TimeoutLayer answers 504",
        wrap: |inner| boxed(timeout(StatusCode::GATEWAY_TIMEOUT).layer(inner)),
        lines: &[],
        status: 504,
        undecided: true,
        reaches_handler: true,
        around: true,
    },
    Row {
        name: "TimeoutLayer answers 408",
        wrap: |inner| boxed(timeout(StatusCode::REQUEST_TIMEOUT).layer(inner)),
        lines: &[],
        status: 408,
        undecided: true,
        reaches_handler: true,
        around: true,
    },
    Row {
        name: "CompressionLayer answers 406",
        wrap: |inner| boxed(CompressionLayer::new().layer(inner)),
        lines: &["Accept-Encoding: identity;q=0"],
        status: 406,
        undecided: false,
        reaches_handler: true,
        around: false,
    },
    Row {
        name: "map_response rewrites the status",
        wrap: |inner| {
            rewrite(inner, |response| {
                *response.status_mut() = StatusCode::FORBIDDEN
            })
        },
        lines: &[],
        status: 403,
        undecided: false,
        reaches_handler: true,
        around: false,
    },
    Row {
        name: "map_response replaces the response",
        wrap: |inner| {
            rewrite(inner, |response| {
                *response = Response::new(Default::default());
                *response.status_mut() = StatusCode::FORBIDDEN;
            })
        },
        lines: &[],
        status: 403,
        undecided: false,
        reaches_handler: true,
        around: false,
    },
    Row {
        name: "map_response moves the head into a refusal",
        wrap: |inner| {
            rewrite(inner, |response| {
                let headers = std::mem::take(response.headers_mut());
                *response = Response::new(Default::default());
                *response.status_mut() = StatusCode::IM_A_TEAPOT;
                *response.headers_mut() = headers;
            })
        },
        lines: &[],
        status: 418,
        undecided: false,
        reaches_handler: true,
        around: false,
    },
    Row {
        name: "map_response makes it a success",
        wrap: |inner| rewrite(inner, |response| *response.status_mut() = StatusCode::OK),
        lines: &[],
        status: 200,
        undecided: false,
        reaches_handler: true,
        around: false,
    },
    Row {
        name: "CatchPanicLayer answers 500",
        wrap: |inner| {
            let panics = inner.map_response(|response| {
                let is_101 = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if is_101 || response.headers().contains_key("handshake") {
                    panic!("a layer panics");
                }
                response
            });
            boxed(CatchPanicLayer::new().layer(panics))
        },
        lines: &[],
        status: 500,
        undecided: false,
        reaches_handler: true,
        around: false,
    },
    Row {
        name: "ValidateRequestHeaderLayer answers 406",
        wrap: |inner| boxed(ValidateRequestHeaderLayer::accept("text/html").layer(inner)),
        lines: &["Accept: text/plain"],
        status: 406,
        undecided: false,
        reaches_handler: false,
        around: true,
    },
    Row {
        name: "TraceLayer, with a rewriting layer inside",
        wrap: |inner| {
            let inner = rewrite(inner, |response| {
                *response.status_mut() = StatusCode::UNAUTHORIZED
            });
            boxed(TraceLayer::new_for_http().layer(inner))
        },
        lines: &[],
        status: 401,
        undecided: false,
        reaches_handler: true,
        around: false,
    },
];

/// An echo handler that counts its sessions. Each holds a token from the call of `accept` on.
#[derive(Clone)]
pub(crate) struct Handler {
    undecided: bool,
    asked: Arc<AtomicUsize>,
    started: Arc<AtomicUsize>,
    token: Arc<()>,
}

impl Handler {
    pub(crate) fn new(undecided: bool) -> Self {
        Self {
            undecided,
            asked: Arc::default(),
            started: Arc::default(),
            token: Arc::default(),
        }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Returns the number of `accept` calls and sessions, pending or running, that hold the token.
    pub(crate) fn held(&self) -> usize {
        // Subtract the tokens of this handler and of its registered clone.
        Arc::strong_count(&self.token) - 2
    }
}

impl ProtocolHandler for Handler {
    async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let token = Arc::clone(&self.token);
        if self.undecided {
            std::future::pending::<()>().await;
        }
        let started = Arc::clone(&self.started);
        Ok(Accept::new(move |session| async move {
            let _token = token;
            started.fetch_add(1, Ordering::SeqCst);
            run_echo(session).await
        })
        .header("handshake", HeaderValue::from_static("by the handler")))
    }
}

/// Puts the row's layer between the committing and the deciding layer, or around a layer that does both.
pub(crate) fn stack(row: &Row, around: bool, handler: &Handler) -> Boxed {
    let handler = Arc::new(handler.clone());
    let decides = UpgradeLayer::new()
        .protocol("echo", Arc::clone(&handler))
        .connect(handler);
    let decides = boxed(decides.layer(service_fn(plain)));
    if around {
        (row.wrap)(decides)
    } else {
        boxed(UpgradeLayer::new().layer((row.wrap)(decides)))
    }
}

fn request(row: &Row, connection: &str) -> String {
    let connection = format!("Connection: {connection}");
    let mut lines = vec!["GET / HTTP/1.1", "Host: test", &connection, "Upgrade: echo"];
    lines.extend(row.lines);
    head(&lines)
}

async fn refused(peer: &mut Peer<TcpStream>, row: &Row, handler: &Handler) -> Head {
    let head = peer.head().await;
    let length = head
        .get("content-length")
        .and_then(|l| l.parse().ok())
        .unwrap_or(0);
    peer.exactly(length).await;
    head.assert_no_handshake();
    assert_eq!(head.status, row.status, "{}", row.name);
    assert_eq!(head.get("handshake"), None, "{}", row.name);
    assert_eq!(
        handler.held(),
        0,
        "{}: not dropped before the response",
        row.name
    );
    head
}

pub(crate) fn cases() -> impl Iterator<Item = (&'static Row, bool)> {
    ROWS.iter().flat_map(|row| {
        let around = row.around.then_some((row, true));
        [Some((row, false)), around].into_iter().flatten()
    })
}

#[tokio::test]
async fn replaced_101_starts_no_session_on_keep_alive_connection() {
    for via in [Via::Http1, Via::Auto] {
        for (row, around) in cases() {
            let handler = Handler::new(row.undecided);
            let server = Server::start_via(via, stack(row, around, &handler)).await;
            let mut peer = server.connect().await;
            for _ in 0..2 {
                peer.send(request(row, "Upgrade")).await;
                refused(&mut peer, row, &handler).await;
            }
            // hyper reads the client's next bytes as HTTP.
            peer.send(head(&[
                "GET /next HTTP/1.1",
                "Host: test",
                "Accept: text/html",
            ]))
            .await;
            let next = peer.head().await;
            let length = next
                .get("content-length")
                .and_then(|l| l.parse().ok())
                .unwrap_or(0);
            peer.exactly(length).await;
            peer.finish().await;
            peer.expect_end().await;
            server.connections_ended().await;
            assert_eq!((handler.started(), handler.held()), (0, 0), "{}", row.name);
        }
    }
}

#[tokio::test]
async fn replaced_101_starts_no_session_on_closing_connection() {
    for (row, around) in cases() {
        let handler = Handler::new(row.undecided);
        let server = Server::start(stack(row, around, &handler)).await;
        let mut peer = server.connect().await;
        peer.send(request(row, "close, Upgrade") + "bytes of the protocol")
            .await;
        let head = refused(&mut peer, row, &handler).await;
        assert_eq!(
            head.get("connection").as_deref(),
            Some("close"),
            "{}",
            row.name
        );
        peer.expect_end().await;
        server.connections_ended().await;
        assert_eq!((handler.started(), handler.held()), (0, 0), "{}", row.name);
    }
}

#[tokio::test]
async fn client_disconnect_drops_handler_and_session() {
    for (row, around) in cases() {
        for early in ["", "bytes of the protocol"] {
            let handler = Handler::new(row.undecided);
            let stack = stack(row, around, &handler);
            let (server, mut has_read) = Server::start_metered(Via::Http1, stack).await;
            let mut peer = server.connect().await;
            let request = request(row, "Upgrade") + early;
            peer.send(&request).await;
            // By now the request has reached the handler, or the layer that refuses it.
            soon(has_read.wait_for(|total| *total == request.len()))
                .await
                .expect("a server");
            assert_eq!(
                handler.asked(),
                usize::from(row.reaches_handler),
                "{}",
                row.name
            );
            drop(peer);
            server.connections_ended().await;
            until(|| handler.held() == 0).await;
        }
    }
}

#[tokio::test]
async fn layers_that_keep_the_101_do_not_break_the_session() {
    let around = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            Duration::from_secs(60),
        ))
        .layer(UpgradeLayer::new())
        .layer(TraceLayer::new_for_http())
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            Duration::from_secs(60),
        ))
        .layer(CompressionLayer::new())
        .layer(ValidateRequestHeaderLayer::accept("text/html"));
    for connection in ["Upgrade", "close, upgrade"] {
        let handler = Handler::new(false);
        let decides = UpgradeLayer::new().protocol("echo", handler.clone());
        let service = around.clone().layer(decides).service(service_fn(plain));
        let server = Server::start(service).await;
        let mut peer = server.connect().await;
        let connection = format!("Connection: {connection}");
        peer.send(head(&[
            "GET / HTTP/1.1",
            "Host: test",
            &connection,
            "Upgrade: echo",
            "Accept-Encoding: gzip",
        ]))
        .await;
        let head = peer.head().await;
        head.assert_upgraded("echo");
        assert_eq!(head.get(header::CONTENT_ENCODING.as_str()), None);
        peer.expect_echo(b"hello").await;
        assert_eq!((handler.started(), handler.held()), (1, 1));
        peer.finish().await;
        peer.expect_end().await;
        until(|| handler.held() == 0).await;
    }
}
