//! Other inner clients: hyper's `SendRequest`, and a client without a connection.

use crate::support::{Peer, clients::expect_session, handlers::echo, plain, soon};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::sync::Arc;
use tokio::sync::Mutex;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::{auth::AddAuthorizationLayer, trace::TraceLayer};
use tower_upgrade::{
    BoxError, PendingUpgrade, Protocol, Upgraded, UpgradedParts,
    client::{Http1, Request, UpgradeLayer},
};

fn request() -> Request {
    Request::get("http://test/".parse().expect("a URI")).protocol("echo")
}

/// A server in memory, and the client's end of a connection to it.
fn server() -> tokio::io::DuplexStream {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let app = tower_upgrade::UpgradeLayer::new()
        .protocol("echo", echo())
        .layer(service_fn(plain));
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(server), TowerToHyperService::new(app))
        .with_upgrades();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn in_memory_connection_upgrades() {
    let connection = Http1::handshake(server()).await.expect("a connection");
    let result = UpgradeLayer::new()
        .layer(connection)
        .oneshot(request())
        .await;
    expect_session(result).expect_echo(b"hello").await;
}

#[tokio::test]
async fn connection_with_a_custom_handshake_upgrades() {
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(server()))
        .await
        .expect("a connection");
    tokio::spawn(connection.with_upgrades());
    let result = UpgradeLayer::new()
        .layer(Http1::from(sender))
        .oneshot(request())
        .await;
    expect_session(result).expect_echo(b"hello").await;
}

#[tokio::test]
async fn hyper_send_request_upgrades() {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(server()))
        .await
        .expect("a connection");
    tokio::spawn(connection.with_upgrades());
    let sender = Arc::new(Mutex::new(sender));
    let client = UpgradeLayer::new().layer(service_fn(
        move |mut request: http::Request<Full<Bytes>>| {
            let sender = Arc::clone(&sender);
            request
                .headers_mut()
                .insert(header::HOST, HeaderValue::from_static("test"));
            async move { sender.lock().await.send_request(request).await }
        },
    ));
    expect_session(client.oneshot(request()).await)
        .expect_echo(b"hello")
        .await;
}

#[tokio::test]
async fn inner_client_is_accessible() {
    let mut upgrade = UpgradeLayer::new().layer(vec!["inner"]);
    upgrade.get_mut().push("client");
    assert_eq!(upgrade.get_ref(), &["inner", "client"]);
    assert_eq!(upgrade.into_inner(), ["inner", "client"]);
}

#[tokio::test]
async fn request_offers_protocols_of_several_types() {
    let echo: Protocol = "echo".parse().expect("a protocol");
    let request = Request::get("http://test/".parse().expect("a URI"))
        .protocol(String::from("chess"))
        .protocol(&echo);
    let connection = Http1::handshake(server()).await.expect("a connection");
    let client = UpgradeLayer::new().layer(connection);
    expect_session(client.oneshot(request.clone()).await)
        .expect_echo(b"hello")
        .await;
    assert_eq!(request.protocols()[1], echo);
    let error = request.try_protocol("a b").expect_err("a space");
    assert!(error.to_string().contains("\"a b\""), "{error}");
}

#[tokio::test]
async fn layers_inside_the_upgrade_layer_work() {
    let connection = Http1::handshake(server()).await.expect("a connection");
    let client = ServiceBuilder::new()
        .layer(UpgradeLayer::new())
        .layer(TraceLayer::new_for_http())
        .layer(AddAuthorizationLayer::bearer("of-good-news"))
        .service(connection);
    expect_session(client.oneshot(request()).await)
        .expect_echo(b"hello")
        .await;
}

#[tokio::test]
async fn pending_upgrade_of_another_client_is_used() {
    let (io, peer) = tokio::io::duplex(1024);
    let io = std::sync::Mutex::new(Some(io));
    let client = UpgradeLayer::new().layer(service_fn(move |_: http::Request<Full<Bytes>>| {
        let io = io.lock().expect("no panic").take().expect("one call");
        let upgrade = PendingUpgrade::new(async move {
            Ok(Upgraded::from_parts(UpgradedParts::new(io, "early")))
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "echo")
            .extension(upgrade)
            .body(String::new());
        async { Ok::<_, BoxError>(response?) }
    }));
    let mut session = expect_session(soon(client.oneshot(request())).await);
    assert_eq!(session.exactly(5).await, b"early");
    session.send("ping").await;
    assert_eq!(Peer::new(peer).exactly(4).await, b"ping");
}
