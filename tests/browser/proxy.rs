//! Chromium through `ConnectProxy`, to a host that only the proxy can resolve.

use crate::{
    shared::{
        Server, Via,
        tls::Tls,
        tunnel::{Resolver, loopback},
    },
    support::Driver,
};
use axum::{Router, response::Html, routing::get};
use http::{Method, Request, Version};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tower::{ServiceExt as _, service_fn};
use tower_upgrade::{
    Session, UpgradeLayer,
    tunnel::{ConnectProxy, Policy},
    websocket::{Message, WebSocket, WebSocketConfig, websocket},
};

/// A page that shows the echo of its message, and the close code and reason.
const PAGE: &str = "<!doctype html><p id=said></p><p id=ended></p><script>
    const socket = new WebSocket('wss://' + location.host + '/socket', ['other', 'chat']);
    socket.onopen = () => socket.send('hello over ' + socket.protocol);
    socket.onmessage = (event) => {
        said.textContent = event.data;
        socket.close(4001, 'enough');
    };
    socket.onclose = (event) => ended.textContent = event.code + ' ' + event.reason;
</script>";

async fn tls_server<S, B>(alpn: &[&str], service: S) -> Server
where
    S: tower::Service<Request<Incoming>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<tower_upgrade::BoxError>,
{
    let tls = Tls::with_alpn(alpn);
    Server::start_with(Via::Auto, service, move |io| {
        let acceptor = tls.acceptor.clone();
        async move { acceptor.accept(io).await }
    })
    .await
}

/// Starts a TLS server with the page and a WebSocket echo.
async fn origin(alpn: &[&str]) -> Server {
    let echo = websocket(|mut socket: WebSocket, _: Session| async move {
        while let Some(message) = socket.recv().await {
            if let message @ Message::Text(_) = message? {
                socket.send(message).await?;
            }
        }
        Ok(())
    });
    let layer = UpgradeLayer::new().protocol(
        "websocket",
        echo.config(WebSocketConfig::new().subprotocols(["chat"])),
    );
    let pages = Router::new().route("/", get(async || Html(PAGE)));
    tls_server(alpn, pages.layer(layer)).await
}

/// The version, method and target of each request to a proxy.
type Requests = Arc<Mutex<Vec<(Version, Method, String)>>>;

/// Starts a proxy that its clients reach over TLS, and records its requests.
async fn proxy(policy: Policy) -> (Server, Requests) {
    let connect = ConnectProxy::new(policy).resolver(Resolver::of(&["127.0.0.1"]));
    let proxy = UpgradeLayer::new().connect(connect).into_service();
    let requests = Requests::default();
    let service = service_fn({
        let requests = Arc::clone(&requests);
        move |request: Request<Incoming>| {
            let target = request.uri().to_string();
            let line = (request.version(), request.method().clone(), target);
            requests.lock().expect("no panic").push(line);
            proxy.clone().oneshot(request)
        }
    });
    (tls_server(&["h2", "http/1.1"], service).await, requests)
}

#[tokio::test]
async fn chromium_loads_page_and_websocket_through_http2_tunnels() {
    // Over HTTP/1.1 the WebSocket needs a second tunnel. Over HTTP/2 it may share the tunnel of the page.
    for (alpn, tunnels) in [(&["http/1.1"][..], 2), (&["h2", "http/1.1"], 1)] {
        let origin = origin(alpn).await;
        let port = origin.address.port();
        let (proxy, requests) = proxy(loopback(port).hosts(["target.test"])).await;
        let driver = Driver::start_behind(&format!("https://{}", proxy.address)).await;

        let page = driver.page(&format!("https://target.test:{port}/")).await;
        page.until_texts("#said", &["hello over chat"]).await;
        page.until_texts("#ended", &["4001 enough"]).await;

        let target = format!("target.test:{port}");
        let requests = requests.lock().expect("no panic").clone();
        let tunneled = (Version::HTTP_2, Method::CONNECT, target.clone());
        let found = requests
            .iter()
            .filter(|request| **request == tunneled)
            .count();
        assert!(found >= tunnels, "{alpn:?}: {requests:?}");
        // No request for the target uses another version, or a method other than CONNECT.
        let others = requests
            .iter()
            .filter(|request| request.2.contains("target.test"));
        assert_eq!(others.count(), found, "{alpn:?}: {requests:?}");
    }
}

#[tokio::test]
async fn chromium_reports_refused_tunnel() {
    let origin = origin(&["http/1.1"]).await;
    let port = origin.address.port();
    let (proxy, requests) = proxy(loopback(port).hosts(["target.test"])).await;
    let driver = Driver::start_behind(&format!("https://{}", proxy.address)).await;
    for host in ["denied.test", "192.0.2.1"] {
        let url = format!("https://{host}:{port}/");
        let error = driver.visit(&url).await.err().expect("a refused tunnel");
        let error = error.to_string();
        assert!(error.contains("ERR_TUNNEL_CONNECTION_FAILED"), "{error}");
    }
    let requests = requests.lock().expect("no panic").clone();
    let denied = (
        Version::HTTP_2,
        Method::CONNECT,
        format!("denied.test:{port}"),
    );
    assert!(requests.contains(&denied), "{requests:?}");
}
