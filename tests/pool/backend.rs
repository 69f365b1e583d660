//! A backend in memory, and its connector.

use crate::support::{Peer, soon};
use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt as _};
use tower_upgrade::{
    BoxError, Upgraded, UpgradedParts,
    client::{Body, Dial, Error, Pool},
};

pub(crate) const BOTH: [Version; 2] = [Version::Http1, Version::Http2(None)];

/// The version of HTTP; over HTTP/2 with the maximum of concurrent streams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    Http1,
    Http2(Option<u32>),
}

type Accept = dyn Fn(DuplexStream) -> io::Result<()> + Send + Sync;

/// A connector whose connections lead to a server in memory. Counts the connections.
#[derive(Clone)]
pub(crate) struct Backend {
    accept: Arc<Accept>,
    opened: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Backend {
    /// A hyper server.
    pub(crate) fn serve<S, B>(version: Version, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let closed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&closed);
        let accept = move |io| {
            let service = TowerToHyperService::new(service.clone());
            let io = TokioIo::new(io);
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                // The tests check the end of a connection by its number.
                let _: Result<(), hyper::Error> = match version {
                    Version::Http1 => {
                        let http1 = hyper::server::conn::http1::Builder::new();
                        http1.serve_connection(io, service).with_upgrades().await
                    }
                    Version::Http2(max_streams) => {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .enable_connect_protocol()
                            .max_concurrent_streams(max_streams.or(Some(200)))
                            .serve_connection(io, service)
                            .await
                    }
                };
                count.fetch_add(1, Ordering::SeqCst);
            });
            Ok(())
        };
        Self {
            closed,
            ..Self::new(accept)
        }
    }

    /// The test is the server of each connection.
    pub(crate) fn raw() -> (Self, mpsc::UnboundedReceiver<Peer<DuplexStream>>) {
        let (send, receive) = mpsc::unbounded_channel();
        let accept = move |io| send.send(Peer::new(io)).map_err(io::Error::other);
        (Self::new(accept), receive)
    }

    /// Refuses all connections.
    pub(crate) fn refusing() -> Self {
        Self::new(|_| Err(io::ErrorKind::ConnectionRefused.into()))
    }

    fn new(accept: impl Fn(DuplexStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self {
            accept: Arc::new(accept),
            opened: Arc::default(),
            closed: Arc::default(),
        }
    }

    pub(crate) fn pool(&self, version: Version) -> Pool<Self> {
        let dial = Dial::new(self.clone()).destination(uri("http://backend:80"));
        Pool::new(match version {
            Version::Http1 => dial,
            Version::Http2(_) => dial.http2_only(),
        })
    }

    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// The number of open connections of a hyper server.
    pub(crate) fn open(&self) -> usize {
        self.opened() - self.closed.load(Ordering::SeqCst)
    }
}

impl Service<Uri> for Backend {
    type Response = Upgraded;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Upgraded>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        assert_eq!(uri, "http://backend:80/");
        self.opened.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let accepted = (self.accept)(theirs);
        Box::pin(async move {
            // Concurrent requests overlap, as on a network.
            tokio::task::yield_now().await;
            accepted.map(|()| Upgraded::from_parts(UpgradedParts::new(ours, Bytes::new())))
        })
    }
}

pub(crate) fn uri(uri: &str) -> Uri {
    uri.parse().expect(uri)
}

/// Waits until no task has work left: only then does the paused clock advance.
pub(crate) async fn settle() {
    let start = Instant::now();
    sleep(Duration::from_millis(1)).await;
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "the clock is paused"
    );
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect(path)
}

pub(crate) fn post(path: &str, body: &'static str) -> Request<Body> {
    let body = Body::new(http_body_util::Full::new(Bytes::from(body)));
    Request::post(path).body(body).expect(path)
}

/// Sends a request, and reads the response to its end. Returns once the connection is idle.
#[track_caller]
pub(crate) fn exchange<S>(pool: &S, request: Request<Body>) -> impl Future<Output = String>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Error> + Clone,
{
    let answer = soon(pool.clone().oneshot(request));
    async move {
        let response = answer.await.expect("a response");
        let body = response.into_body().collect().await.expect("a body");
        settle().await;
        crate::support::text(&body.to_bytes())
    }
}

/// Answers with the method, the host, the path and the body.
pub(crate) async fn reflect(
    request: Request<Incoming>,
) -> Result<Response<http_body_util::Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    // hyper's server puts `:authority` into the URI.
    let host = match head.uri.authority() {
        Some(authority) => authority.to_string(),
        None => crate::support::text(head.headers[header::HOST].as_bytes()),
    };
    let body = match body.collect().await {
        Ok(body) => crate::support::text(&body.to_bytes()),
        Err(error) => error.to_string(),
    };
    let answer = format!("{} {host} {} {body}", head.method, head.uri.path());
    Ok(Response::new(answer.into()))
}
