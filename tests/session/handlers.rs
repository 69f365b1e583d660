//! Handlers from functions, boxed handlers, and protocols from several types of names.

use crate::support::{
    Server,
    handlers::{echo, run_echo},
    offer, plain,
};
use http::{StatusCode, request::Parts};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, BoxHandler, Protocol, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest,
    accept_fn,
};

/// Sends an offer of `protocol`, with the header `token` if one is given, and returns the status.
async fn status(server: &Server, protocol: &str, token: Option<&str>) -> u16 {
    let mut peer = server.connect().await;
    let token = token.map(|token| format!("token: {token}"));
    peer.send(offer(protocol, token.as_deref().as_slice()))
        .await;
    let head = peer.head().await;
    if head.status == 101 {
        head.assert_upgraded(protocol);
        peer.expect_echo(b"hello").await;
    }
    head.status
}

async fn server(layer: UpgradeLayer) -> Server {
    Server::start(layer.layer(service_fn(plain))).await
}

async fn with_token(request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    let body = request.read_body(16).await?;
    assert!(body.is_empty());
    if !request.headers().contains_key("token") {
        return Err(StatusCode::UNAUTHORIZED.into());
    }
    Ok(Accept::new(run_echo))
}

#[tokio::test]
async fn accept_fn_takes_an_async_fn_that_borrows_the_request() {
    let server = server(UpgradeLayer::new().protocol("echo", accept_fn(with_token))).await;
    assert_eq!(status(&server, "echo", None).await, 401);
    assert_eq!(status(&server, "echo", Some("a")).await, 101);
}

#[tokio::test]
async fn accept_fn_takes_a_closure_with_state() {
    let decided = Arc::new(AtomicUsize::new(0));
    let handler = accept_fn({
        let decided = Arc::clone(&decided);
        move |request: &mut UpgradeRequest| {
            let token = request.headers().get("token").cloned();
            let decided = Arc::clone(&decided);
            async move {
                tokio::task::yield_now().await;
                decided.fetch_add(1, Ordering::SeqCst);
                token.ok_or(StatusCode::UNAUTHORIZED)?;
                Ok(Accept::new(run_echo))
            }
        }
    });
    let server = server(UpgradeLayer::new().protocol("echo", handler.clone())).await;
    assert_eq!(status(&server, "echo", None).await, 401);
    assert_eq!(status(&server, "echo", Some("a")).await, 101);
    assert_eq!(decided.load(Ordering::SeqCst), 2);
    assert!(format!("{handler:?}").starts_with("AcceptFn("));
}

#[tokio::test]
async fn boxed_handlers_of_several_types_decide_and_decline() {
    let has_token = |parts: &Parts| parts.headers.contains_key("token");
    let handlers = [
        ("decides", BoxHandler::new(accept_fn(with_token))),
        ("declines", BoxHandler::new(echo().when(has_token))),
    ];
    let mut layer = UpgradeLayer::new();
    for (protocol, handler) in handlers {
        layer = layer.protocol(protocol, handler.clone());
    }
    let server = server(layer).await;
    assert_eq!(status(&server, "decides", None).await, 401);
    assert_eq!(status(&server, "decides", Some("a")).await, 101);
    assert_eq!(status(&server, "declines", None).await, 200);
    assert_eq!(status(&server, "declines", Some("a")).await, 101);
}

/// A boxed handler inside another handler is called through `ProtocolHandler`, not by the layer.
#[tokio::test]
async fn boxed_handler_can_be_wrapped() {
    let declines = BoxHandler::new(echo().when(|_| false));
    let accepts = BoxHandler::new(Arc::new(BoxHandler::new(accept_fn(with_token))));
    let layer = UpgradeLayer::new()
        .protocol("echo", declines.when(|_| true))
        .protocol("echo", accepts.when(|_| true));
    let server = server(layer).await;
    assert_eq!(status(&server, "echo", None).await, 401);
    assert_eq!(status(&server, "echo", Some("a")).await, 101);
}

#[tokio::test]
async fn layer_takes_protocols_of_several_types() {
    let chat: Protocol = "chat/1".parse().expect("a protocol");
    let layer = UpgradeLayer::new()
        .protocol(&chat, echo())
        .protocol(String::from("chat/2"), echo())
        .try_protocol(chat.name(), echo())
        .expect("a protocol");
    let server = server(layer).await;
    for protocol in ["chat/1", "chat/2", "chat/3"] {
        assert_eq!(status(&server, protocol, None).await, 101);
    }
    let invalid = UpgradeLayer::new().try_protocol(String::from("a b"), echo());
    assert!(
        invalid
            .expect_err("a space")
            .to_string()
            .contains("\"a b\"")
    );
}
