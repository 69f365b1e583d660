//! The WebSocket extractor.

use super::{ask, opening, speak};
use crate::support::{
    Server, Via,
    h2::{self, Client},
    offer, until,
    websocket::{Frame, TEXT},
};
use axum::{
    Router,
    http::{HeaderValue, StatusCode},
    response::Response,
    routing::any,
};
use std::time::Duration;
use tower_upgrade::{
    Identity, Sessions, UpgradeLayer,
    extract::WebSocketUpgrade,
    websocket::{RateLimit, WebSocketConfig},
};

#[tokio::test]
async fn websocket_extractor_selects_the_subprotocol() {
    async fn chat(upgrade: WebSocketUpgrade) -> Response {
        let upgrade = upgrade.config(
            WebSocketConfig::new()
                .subprotocols(["b", "a"])
                .max_message_size(10),
        );
        let offered: Vec<_> = upgrade.requested_protocols().collect();
        let seen = format!("{offered:?} {:?}", upgrade.selected_protocol());
        upgrade.on_upgrade(move |mut socket| async move {
            socket
                .send(format!("{seen} {:?}", socket.subprotocol()))
                .await?;
            speak(socket).await
        })
    }
    let app = Router::new()
        .route("/", any(chat))
        .layer(UpgradeLayer::new());
    let server = Server::start_via(Via::Auto, app).await;
    let request = opening(&["Sec-WebSocket-Protocol: x, a, b"]);
    let (head, mut peer) = ask(&server, request).await;
    head.assert_upgraded("websocket");
    assert_eq!(head.get("sec-websocket-protocol").as_deref(), Some("a"));
    let seen = r#"["x", "a", "b"] Some("a") Some("a")"#;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, seen));
    peer.send(Frame::new(TEXT, "0123456789a").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1009, ""));

    let own = any(|upgrade: WebSocketUpgrade| async {
        let upgrade = upgrade.config(
            WebSocketConfig::new()
                .subprotocols(["b", "a"])
                .prefer_own_subprotocols(),
        );
        assert_eq!(upgrade.selected_protocol(), Some("b"));
        upgrade.on_upgrade(speak)
    });
    let app = Router::new().route("/", own).layer(UpgradeLayer::new());
    let by_server = Server::start(app).await;
    let (head, _) = ask(&by_server, opening(&["Sec-WebSocket-Protocol: x, a, b"])).await;
    assert_eq!(head.get("sec-websocket-protocol").as_deref(), Some("b"));

    let mut client = Client::connect(server.connect().await).await;
    let request = h2::extended_connect("websocket")
        .uri("http://test/")
        .header("sec-websocket-version", HeaderValue::from_static("13"));
    let answer = client.ask(request.body(()).expect("a request")).await;
    let mut peer = answer.expect_upgraded();
    let seen = r#"[] None None"#;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, seen));
}

#[tokio::test]
async fn invalid_handshake_is_rejected_before_the_route() {
    async fn chat(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .config(WebSocketConfig::new().origins(["https://app.example"]))
            .on_upgrade(speak)
    }
    let app = Router::new()
        .route("/", any(chat))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    for (request, status) in [
        (offer("websocket", &[]), 426),
        (offer("websocket", &["Sec-WebSocket-Version: 13"]), 400),
        (offer("chess", &[]), 426),
        (opening(&["Origin: http://test"]), 403),
        (opening(&["Origin: https://app.example"]), 101),
    ] {
        let (head, _) = ask(&server, &request).await;
        assert_eq!(head.status, status, "{request}");
        if status != 101 && status != 426 {
            head.assert_no_handshake();
        }
    }
}

#[tokio::test]
async fn panic_in_on_failed_upgrade_leaves_the_connection_open() {
    async fn chat(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .on_failed_upgrade(|| panic!("what now?"))
            .on_upgrade(speak)
    }
    async fn refuse(mut response: Response) -> Response {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    }
    let app = Router::new()
        .route("/", any(chat))
        .layer(axum::middleware::map_response(refuse))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let (head, _) = ask(&server, opening(&[])).await;
    assert_eq!(head.status, 403);
}

#[tokio::test]
async fn websocket_settings_of_a_route_apply() {
    async fn any_page(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .config(WebSocketConfig::new().any_origin().max_message_size(10))
            .on_upgrade(speak)
    }
    async fn pinged(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .config(WebSocketConfig::new().keep_alive(Duration::from_millis(1)))
            .on_upgrade(speak)
    }
    async fn limited(upgrade: WebSocketUpgrade) -> Response {
        let limit = RateLimit::new(1).burst(Duration::ZERO).close();
        upgrade
            .config(WebSocketConfig::new().rate_limit(limit))
            .on_upgrade(speak)
    }
    let app = Router::new()
        .route("/", any(any_page))
        .route("/pinged", any(pinged))
        .route("/limited", any(limited))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let (head, mut peer) = ask(&server, opening(&["Origin: null"])).await;
    head.assert_upgraded("websocket");
    peer.send(Frame::new(TEXT, "0123456789a").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1009, ""));
    let request = opening(&[]).replace("GET / ", "GET /pinged ");
    let (_, mut peer) = ask(&server, request).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(9, ""));
    let request = opening(&[]).replace("GET / ", "GET /limited ");
    let (_, mut peer) = ask(&server, request).await;
    peer.send(Frame::new(TEXT, "hello").masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1008, ""));
}

#[tokio::test]
async fn websocket_session_has_the_identity_and_lifetime_of_its_route() {
    async fn ann(upgrade: WebSocketUpgrade) -> Response {
        upgrade.identity(Identity::new("ann")).on_upgrade(speak)
    }
    async fn short(upgrade: WebSocketUpgrade) -> Response {
        upgrade.lifetime(Duration::from_millis(1)).on_upgrade(speak)
    }
    let sessions = Sessions::new();
    let app = Router::new()
        .route("/", any(ann))
        .route("/short", any(short))
        .layer(UpgradeLayer::new().sessions(sessions.clone()));
    let server = Server::start(app).await;
    let (_, _peer) = ask(&server, opening(&[])).await;
    until(|| sessions.count_of(&Identity::new("ann")) == 1).await;
    let request = opening(&[]).replace("GET / ", "GET /short ");
    let (_, mut peer) = ask(&server, request).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::close(1001, ""));
}

#[tokio::test]
async fn handshake_with_a_long_body_closes_the_connection() {
    let route = any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(speak) });
    let layer = UpgradeLayer::new().body_limit(10);
    let server = Server::start(Router::new().route("/", route).layer(layer)).await;
    let mut peer = server.connect().await;
    peer.send(opening(&["Content-Length: 11"]) + "0123456789a" + &opening(&[]))
        .await;
    let (head, _) = peer.response().await;
    assert_eq!(head.status, 413);
    assert_eq!(head.get("connection").as_deref(), Some("close"));
    peer.expect_end().await;
}

#[cfg(feature = "deflate")]
#[tokio::test]
async fn w7_websocket_extractor_negotiates_compression() {
    use tower_upgrade::websocket::Deflate;

    async fn chat(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .config(WebSocketConfig::new().deflate(Deflate::new()))
            .on_upgrade(speak)
    }
    let app = Router::new()
        .route("/", any(chat))
        .layer(UpgradeLayer::new());
    let server = Server::start(app).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let (head, mut peer) = ask(&server, opening(&[offer])).await;
    let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let answer = head.get("sec-websocket-extensions");
    assert_eq!(answer.as_deref(), Some(agreed));
    // `Hello` (RFC 7692 §7.2.3.1).
    let hello = Frame::part(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    peer.send(hello.masked()).await;
    assert_eq!(Frame::read(&mut peer).await, Frame::new(TEXT, "Hello"));
}
