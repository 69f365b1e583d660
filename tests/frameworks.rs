//! The layer in axum, hyper-util and plain tower stacks, with any body types.

#[path = "support/mod.rs"]
mod support;

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::BoxBody};
use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use support::{
    Server, Via,
    handlers::{Counted, echo},
    head, offer, plain, soon,
};
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::timeout::TimeoutLayer;
use tower_upgrade::{
    Accept, BoxError, PendingUpgrade, ProtocolHandler, Rejection, ResponseBody, UpgradeLayer,
    UpgradeRequest,
};

async fn assert_echoes(server: &Server, path: &str) {
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[]).replacen("GET / ", &format!("GET {path} "), 1))
        .await;
    peer.head().await.assert_upgraded("echo");
    peer.expect_echo(b"hello").await;
}

async fn get_text(server: &Server, path: &str) -> (u16, String) {
    let mut peer = server.connect().await;
    peer.send(head(&[&format!("GET {path} HTTP/1.1"), "Host: test"]))
        .await;
    let (head, body) = peer.response().await;
    (head.status, body)
}

fn router() -> Router {
    Router::new().route("/", get(|| async { "index" }))
}

#[tokio::test]
async fn layer_on_axum_router_serves_all_paths() {
    let app = router().layer(UpgradeLayer::new().protocol("echo", echo()));
    for via in [Via::Http1, Via::Auto] {
        let server = Server::start_via(via, app.clone()).await;
        assert_echoes(&server, "/").await;
        // `Router::layer` also covers the fallback.
        assert_echoes(&server, "/anywhere").await;
        assert_eq!(get_text(&server, "/").await, (200, "index".into()));
        assert_eq!(get_text(&server, "/anywhere").await.0, 404);
    }
}

#[tokio::test]
async fn route_layer_on_axum_router_serves_its_routes() {
    let app = router().route_layer(UpgradeLayer::new().protocol("echo", echo()));
    let server = Server::start_via(Via::Auto, app).await;
    assert_echoes(&server, "/").await;
    assert_eq!(get_text(&server, "/").await, (200, "index".into()));
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[]).replacen("GET / ", "GET /anywhere ", 1))
        .await;
    assert_eq!(peer.head().await.status, 404);
}

#[tokio::test]
async fn leaf_at_axum_route_serves_its_path() {
    let leaf = UpgradeLayer::new().protocol("echo", echo()).into_service();
    let app = router().route_service("/echo", leaf);
    let server = Server::start_via(Via::Auto, app).await;
    assert_echoes(&server, "/echo").await;
    assert_eq!(get_text(&server, "/").await, (200, "index".into()));
    assert_eq!(get_text(&server, "/echo").await.0, 426);
}

#[tokio::test]
async fn session_over_axum_serve_echoes_early_bytes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let address = listener.local_addr().expect("bound");
    let app = router().layer(UpgradeLayer::new().protocol("echo", echo()));
    let server = tokio::spawn(axum::serve(listener, app).into_future());
    let io = tokio::net::TcpStream::connect(address)
        .await
        .expect("loopback");
    let mut peer = support::Peer::new(io);
    peer.send(offer("echo", &[]) + "early").await;
    peer.head().await.assert_upgraded("echo");
    assert_eq!(peer.exactly(5).await, b"early");
    peer.finish().await;
    peer.expect_end().await;
    server.abort();
}

/// A handler that uses axum's `Path` extractor on the request.
#[derive(Clone)]
struct Room;

impl ProtocolHandler for Room {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        use axum::extract::{FromRequestParts as _, Path};
        let Path(room): Path<u32> = Path::from_request_parts(request.parts_mut(), &())
            .await
            .map_err(|error| Rejection::new(error.status(), error.body_text()))?;
        Ok(Accept::new(|_session| async { Ok(()) }).header("room", room.into()))
    }
}

#[tokio::test]
async fn axum_extractors_work_on_upgrade_request() {
    let leaf = UpgradeLayer::new().protocol("chat", Room).into_service();
    let server = Server::start(Router::new().route_service("/rooms/{room}", leaf)).await;
    for (path, status, room) in [("/rooms/7", 101, Some("7")), ("/rooms/x", 400, None)] {
        let mut peer = server.connect().await;
        peer.send(offer("chat", &[]).replacen("GET /", &format!("GET {path}"), 1))
            .await;
        let head = peer.head().await;
        assert_eq!((head.status, head.get("room").as_deref()), (status, room));
    }
}

#[tokio::test]
async fn plain_tower_stack_works_on_hyper_and_hyper_util() {
    let app = ServiceBuilder::new()
        .layer(UpgradeLayer::new().protocol("echo", echo()))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            secs(60),
        ))
        .service(service_fn(plain));
    for via in [Via::Http1, Via::Auto] {
        let server = Server::start_via(via, app.clone()).await;
        assert_echoes(&server, "/x").await;
        assert_eq!(get_text(&server, "/x").await, (200, "plain GET /x".into()));
    }
}

fn secs(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

#[tokio::test]
async fn plain_request_reaches_inner_service_unchanged() {
    let inner = service_fn(|request: Request<String>| async move {
        assert_eq!(request.method(), "PUT");
        assert_eq!(request.uri(), "/x?y=z");
        assert_eq!(request.version(), http::Version::HTTP_11);
        let headers: Vec<_> = request.headers().iter().collect();
        assert_eq!(headers.len(), 4, "{headers:?}");
        assert_eq!(request.headers()["upgrade"], "echo");
        assert_eq!(request.extensions().len(), 1);
        assert_eq!(request.extensions().get::<u8>(), Some(&7));
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let service = UpgradeLayer::new().protocol("echo", echo()).layer(inner);
    // The request has `Upgrade`, but `Connection` does not list it.
    let mut request = Request::put("/x?y=z")
        .header("upgrade", "echo")
        .header("connection", "keep-alive")
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .body(String::from("the body"))
        .expect("a request");
    request.extensions_mut().insert(7_u8);
    let response = service.oneshot(request).await.expect("infallible");
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "the body");
}

/// The error of an inner service, which is also the error of the layer's service.
#[derive(Debug, PartialEq)]
struct Inner;

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inner")
    }
}

impl Error for Inner {}

#[tokio::test]
async fn error_of_inner_service_is_returned() {
    let fails = service_fn(|_: Request<String>| async { Err::<Response<String>, _>(Inner) });
    let service = UpgradeLayer::new().protocol("echo", echo()).layer(fails);
    let response: Result<_, Inner> = service.oneshot(Request::new(String::new())).await;
    assert_eq!(response.err(), Some(Inner));
}

/// Is not ready at first, and fails at the second `poll_ready`.
#[derive(Clone)]
struct Unready {
    asked: usize,
}

impl Service<Request<String>> for Unready {
    type Response = Response<String>;
    type Error = Inner;
    type Future = std::future::Ready<Result<Response<String>, Inner>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Inner>> {
        self.asked += 1;
        if self.asked == 1 {
            Poll::Pending
        } else {
            Poll::Ready(Err(Inner))
        }
    }

    fn call(&mut self, _request: Request<String>) -> Self::Future {
        panic!("called before it is ready")
    }
}

#[test]
fn poll_ready_forwards_to_inner_service() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let mut service = layer.layer(Unready { asked: 0 });
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert_eq!(service.poll_ready(&mut cx), Poll::Pending);
    assert_eq!(service.poll_ready(&mut cx), Poll::Ready(Err(Inner)));
}

#[tokio::test]
async fn leaf_offers_upgrade_on_http1_only() {
    let leaf = UpgradeLayer::new().protocol("echo", echo()).into_service();
    for (version, status, upgrade) in [
        (Version::HTTP_11, 426, Some("echo")),
        (Version::HTTP_2, 400, None),
        (Version::HTTP_3, 400, None),
    ] {
        let mut request = Request::new(String::new());
        *request.version_mut() = version;
        let response = leaf.clone().oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), status, "{version:?}");
        let headers = response.headers();
        let value = headers.get("upgrade").map(|value| value.as_bytes());
        assert_eq!(value, upgrade.map(str::as_bytes), "{version:?}");
        assert_eq!(headers.contains_key("connection"), upgrade.is_some());
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn error_of_inner_service_starts_no_session() {
    let handler = Counted::default();
    let decides = UpgradeLayer::new()
        .protocol("echo", handler.clone())
        .layer(service_fn(plain));
    let fails = service_fn(move |request: Request<hyper::body::Incoming>| {
        let accepted = decides.clone().oneshot(request);
        async move {
            let _switch = accepted.await;
            Err::<Response<String>, _>(Inner)
        }
    });
    let server = Server::start(UpgradeLayer::new().layer(fails)).await;
    let mut peer = server.connect().await;
    peer.send(offer("echo", &[])).await;
    assert!(peer.rest().await.unwrap_or_default().is_empty());
    server.connections_ended().await;
    assert_eq!(
        (handler.accepted(), handler.started(), handler.held()),
        (1, 0, 0)
    );
}

#[test]
fn layer_accepts_any_body_types_with_the_usual_bounds() {
    fn check<S, ReqBody, ResBody>(_: S)
    where
        S: Service<Request<ReqBody>, Response = Response<ResponseBody<ResBody>>> + Clone,
        S::Future: Send,
        ResponseBody<ResBody>: http_body::Body<Data = Bytes, Error = BoxError> + Default,
    {
    }
    fn service<A, B: Default>() -> impl Service<
        Request<A>,
        Response = Response<B>,
        Error = Infallible,
        Future = std::future::Ready<Result<Response<B>, Infallible>>,
    > + Clone {
        service_fn(|_| std::future::ready(Ok(Response::new(B::default()))))
    }
    let layer = UpgradeLayer::new().protocol("echo", echo());
    check::<_, String, Body>(layer.layer(service()));
    check::<_, Body, Full<VecDeque<u8>>>(layer.layer(service()));
    check::<_, Empty<Bytes>, String>(layer.layer(service()));
    check::<_, BoxBody<Bytes, BoxError>, Empty<VecDeque<u8>>>(layer.layer(service()));
    check::<_, hyper::body::Incoming, BoxBody<Bytes, Infallible>>(layer.layer(service()));
    check::<_, StreamBody<futures_util::stream::Empty<Result<_, std::io::Error>>>, String>(
        layer.layer(service::<
            StreamBody<
                futures_util::stream::Empty<Result<http_body::Frame<Bytes>, std::io::Error>>,
            >,
            String,
        >()),
    );
}

#[test]
fn public_types_are_send_and_sync() {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<UpgradeLayer>();
    send_and_sync::<tower_upgrade::Upgrade<()>>();
    send_and_sync::<UpgradeRequest>();
    send_and_sync::<tower_upgrade::Session>();
    send_and_sync::<tower_upgrade::Upgraded>();
    send_and_sync::<tower_upgrade::BoxIo>();
    send_and_sync::<Rejection>();
    send_and_sync::<ResponseBody<String>>();
    send_and_sync::<tower_upgrade::PendingUpgrade>();
}

/// A body of one frame that panics if it is polled after its end.
struct OnceOnly {
    /// Whether `is_end_stream` is true after the frame. Otherwise the body ends at the next poll.
    announces_end: bool,
    asked: usize,
}

impl http_body::Body for OnceOnly {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        assert!(!self.is_end_stream(), "polled after its end");
        self.asked += 1;
        match self.asked {
            1 => Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"x"))))),
            2 => Poll::Ready(None),
            _ => panic!("polled after its end"),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.announces_end && self.asked > 0
    }
}

#[tokio::test]
async fn request_body_is_not_polled_after_its_end() {
    struct ReadAll;
    impl ProtocolHandler for ReadAll {
        async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            let body = request.read_body(10).await?;
            assert_eq!(body, "x");
            assert!(http_body::Body::is_end_stream(request.body_mut()));
            Ok(Accept::new(|_session| async { Ok(()) }))
        }
    }
    for announces_end in [false, true] {
        let mut request = Request::get("/")
            .header("connection", "upgrade")
            .header("upgrade", "echo")
            .body(OnceOnly {
                announces_end,
                asked: 0,
            })
            .expect("a request");
        let never = std::future::pending();
        request.extensions_mut().insert(PendingUpgrade::new(never));
        let inner = service_fn(|_: Request<OnceOnly>| async {
            Ok::<_, Infallible>(Response::new(String::new()))
        });
        let layer = UpgradeLayer::new().protocol("echo", ReadAll);
        let response = layer.layer(inner).oneshot(request).await;
        assert_eq!(response.expect("infallible").status(), 101);
    }
}

#[tokio::test]
async fn rejection_without_body_is_end_of_stream() {
    struct Refuse;
    impl ProtocolHandler for Refuse {
        async fn accept(&self, _request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
            Err(Response::new(String::new()).into())
        }
    }
    let mut request = Request::get("/")
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(String::new())
        .expect("a request");
    let never = std::future::pending();
    request.extensions_mut().insert(PendingUpgrade::new(never));
    let layer = UpgradeLayer::new().protocol("echo", Refuse);
    let response = layer.layer(service_fn(plain)).oneshot(request).await;
    let body = response.expect("infallible").into_body();
    assert!(http_body::Body::is_end_stream(&body));
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(0));
}

#[tokio::test]
async fn non_contiguous_buffers_of_inner_body_are_passed_whole() {
    let inner = service_fn(|_: Request<String>| async {
        let body = Full::new(VecDeque::from(b"not contiguous".to_vec()));
        Ok::<_, Infallible>(Response::new(body))
    });
    let service = UpgradeLayer::new().layer(inner);
    let response = service
        .oneshot(Request::new(String::new()))
        .await
        .expect("infallible");
    let size = http_body::Body::size_hint(response.body()).exact();
    assert_eq!(size, Some(14));
    let body = soon(response.into_body().collect())
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(body, "not contiguous");
}

#[test]
#[should_panic(expected = "\"no token\" is not a protocol")]
fn protocol_panics_on_invalid_name() {
    let _ = UpgradeLayer::new().protocol("no token", echo());
}

#[test]
#[should_panic(expected = "a service of upgrades needs a handler")]
fn into_service_without_handler_panics() {
    let _ = UpgradeLayer::new().into_service();
}

#[test]
fn try_protocol_returns_error_on_invalid_name() {
    let error = UpgradeLayer::new()
        .try_protocol("a/b/c", echo())
        .expect_err("no protocol");
    assert!(error.to_string().contains("\"a/b/c\""), "{error}");
}
