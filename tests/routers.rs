//! The layer behind axum's router, which matches methods: an extended CONNECT does not match GET routes.

#[path = "support/mod.rs"]
mod support;

use axum::{
    Router,
    body::Body,
    routing::{MethodFilter, any_service, get, get_service, on_service},
};
use http::{Method, Request, Response};
use std::convert::Infallible;
use support::{
    Peer,
    h2::{Answer, Client, connect, extended_connect},
    handlers::echo,
    head, offer,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::{Layer as _, Service, ServiceExt as _, util::MapRequestLayer};
use tower_upgrade::{BoxError, ProtocolHandler as _, Unsupported, UpgradeLayer};

/// A server started with `axum::serve`, which enables extended CONNECT.
struct Served {
    address: std::net::SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn router(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let serving = tokio::spawn(async { axum::serve(listener, app).await });
        Self { address, serving }
    }

    /// Serves a stack around a router. `axum::serve` requires axum's `Body` as the response body.
    async fn stack<S, B>(app: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let app = app.map_response(|response| response.map(Body::new));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let app = axum::ServiceExt::<Request<Body>>::into_make_service(app);
        let serving = tokio::spawn(async { axum::serve(listener, app).await });
        Self { address, serving }
    }

    async fn connect(&self) -> Peer<TcpStream> {
        Peer::new(TcpStream::connect(self.address).await.expect("loopback"))
    }

    /// Sends an extended CONNECT to `/ws`.
    async fn ask(&self) -> Answer {
        let mut client = Client::connect(self.connect().await).await;
        let request = extended_connect("echo").uri("http://test/ws").body(());
        client.ask(request.expect("a request")).await
    }

    async fn assert_echoes_on_both_versions(&self) {
        let mut peer = self.connect().await;
        peer.send(offer("echo", &[]).replacen("GET / ", "GET /ws ", 1))
            .await;
        peer.head().await.assert_upgraded("echo");
        peer.expect_echo(b"hello").await;
        self.ask()
            .await
            .expect_upgraded()
            .expect_echo(b"hello")
            .await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn layer() -> UpgradeLayer {
    UpgradeLayer::new().protocol("echo", echo())
}

fn index() -> Router {
    Router::new().route("/ws", get(|| async { "index" }))
}

#[tokio::test]
async fn layer_around_get_routes_serves_extended_connect() {
    Served::router(index().layer(layer()))
        .await
        .assert_echoes_on_both_versions()
        .await;
    Served::router(index().route_layer(layer()))
        .await
        .assert_echoes_on_both_versions()
        .await;
    Served::stack(layer().layer(index()))
        .await
        .assert_echoes_on_both_versions()
        .await;
    let only_this_route = Router::new().route("/ws", get(|| async { "index" }).layer(layer()));
    Served::router(only_this_route)
        .await
        .assert_echoes_on_both_versions()
        .await;
}

#[tokio::test]
async fn leaf_at_any_method_route_serves_extended_connect() {
    let leaf = layer().into_service();
    let app = Router::new().route_service("/ws", leaf.clone());
    Served::router(app)
        .await
        .assert_echoes_on_both_versions()
        .await;
    let app = Router::new().route("/ws", any_service(leaf));
    Served::router(app)
        .await
        .assert_echoes_on_both_versions()
        .await;
}

#[tokio::test]
async fn leaf_at_get_route_answers_extended_connect_with_405() {
    let app = Router::new().route("/ws", get_service(layer().into_service()));
    let (status, _) = Served::router(app).await.ask().await.refused().await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn leaf_at_get_and_connect_route_serves_extended_connect() {
    let methods = MethodFilter::GET.or(MethodFilter::CONNECT);
    let app = Router::new().route("/ws", on_service(methods, layer().into_service()));
    Served::router(app)
        .await
        .assert_echoes_on_both_versions()
        .await;
}

/// Rewrites an extended CONNECT to GET, in front of a router with GET routes only.
fn connect_as_get<B>(mut request: Request<B>) -> Request<B> {
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    if protocol.is_some_and(|protocol| protocol.as_str() == "echo") {
        *request.method_mut() = Method::GET;
    }
    request
}

#[tokio::test]
async fn leaf_at_get_route_serves_extended_connect_rewritten_to_get() {
    let router = Router::new().route("/ws", get_service(layer().into_service()));
    for outermost in [UpgradeLayer::new(), layer().unsupported(Unsupported::Pass)] {
        let app = tower::ServiceBuilder::new()
            .layer(outermost)
            .layer(MapRequestLayer::new(connect_as_get))
            .service(router.clone());
        Served::stack(app)
            .await
            .assert_echoes_on_both_versions()
            .await;
    }
    // The same works without an `UpgradeLayer` in front.
    let app = MapRequestLayer::new(connect_as_get).layer(router);
    Served::stack(app)
        .await
        .assert_echoes_on_both_versions()
        .await;
}

/// A CONNECT target has no path that a route could match.
#[tokio::test]
async fn connect_reaches_layer_around_all_routes() {
    for app in [
        index().layer(UpgradeLayer::new().connect(echo())),
        Router::new().fallback_service(UpgradeLayer::new().connect(echo()).into_service()),
    ] {
        let served = Served::router(app).await;
        let mut peer = served.connect().await;
        peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
            .await;
        assert_eq!(peer.head().await.status, 200);
        peer.expect_echo(b"hello").await;
        let mut client = Client::connect(served.connect().await).await;
        let answer = client
            .ask(connect("test:1").body(()).expect("a request"))
            .await;
        answer.expect_upgraded().expect_echo(b"hello").await;
    }
}

/// axum's `Router::layer` covers only the routes and the fallback that were set before.
#[tokio::test]
async fn fallback_set_after_layer_is_not_covered() {
    let layer = || UpgradeLayer::new().connect(echo());
    let fallback = || async { "nothing here" };
    for (app, status) in [
        (index().fallback(fallback).layer(layer()), 200),
        (index().layer(layer()).fallback(fallback), 501),
    ] {
        // The outermost `UpgradeLayer` goes around the router, and answers requests that the inner one does not
        // see.
        let served = Served::stack(UpgradeLayer::new().layer(app)).await;
        let mut peer = served.connect().await;
        peer.send(head(&["CONNECT test:1 HTTP/1.1", "Host: test:1"]))
            .await;
        assert_eq!(peer.head().await.status, status);
    }
}

/// axum's `WebSocketUpgrade` works over HTTP/2 inside a layer that passes the request on.
#[tokio::test]
async fn axum_websocket_works_inside_the_layer_over_http2() {
    use axum::{extract::ws::WebSocketUpgrade, routing::any};
    let own = Router::new().route(
        "/ws",
        any(|upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move {
                let _ = socket.send("hello".into()).await;
            })
        }),
    );
    for layer in [
        UpgradeLayer::new(),
        UpgradeLayer::new().connect(echo()),
        layer().unsupported(Unsupported::Pass),
    ] {
        let served = Served::router(own.clone().layer(layer)).await;
        let mut client = Client::connect(served.connect().await).await;
        let request = extended_connect("websocket")
            .uri("http://test/ws")
            .header("sec-websocket-version", "13")
            .body(());
        let mut peer = client
            .ask(request.expect("a request"))
            .await
            .expect_upgraded();
        // An unmasked text frame (RFC 6455 §5.2).
        assert_eq!(peer.exactly(7).await, b"\x81\x05hello");
    }
}

/// axum removes the prefix of a nested router from the path.
#[tokio::test]
async fn layer_on_nested_router_sees_path_without_prefix() {
    let at_inner = echo().when(|parts| parts.uri.path() == "/inner");
    let nested = Router::new()
        .route("/inner", get(|| async { "plain" }))
        .layer(UpgradeLayer::new().protocol("chat", at_inner));
    let served = Served::router(Router::new().nest("/outer", nested)).await;
    let mut peer = served.connect().await;
    peer.send(offer("chat", &[]).replacen('/', "/outer/inner", 1))
        .await;
    peer.head().await.assert_upgraded("chat");
    peer.expect_echo(b"hello").await;
}

#[tokio::test]
async fn route_layer_does_not_see_other_paths() {
    let app = index().route_layer(UpgradeLayer::new().protocol("chat", echo()));
    let served = Served::router(app).await;
    let mut peer = served.connect().await;
    peer.send(offer("chat", &[]).replacen('/', "/nowhere", 1))
        .await;
    assert_eq!(peer.response().await.0.status, 404);
    peer.send(offer("chat", &[]).replacen('/', "/ws", 1)).await;
    peer.head().await.assert_upgraded("chat");
}

/// A module `axum` in the crate would shadow the crate `axum` here.
mod glob {
    use tower_upgrade::*;

    #[test]
    fn glob_import_does_not_shadow_the_crate_axum() {
        let _: axum::Router = axum::Router::new().layer(UpgradeLayer::new());
    }
}
