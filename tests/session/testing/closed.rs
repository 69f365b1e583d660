//! `testing::Exchange::closed`, which reports the end of a session.

use crate::support::{
    handlers::{Counted, echo},
    plain, soon,
};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Layer as _, ServiceBuilder, service_fn};
use tower_upgrade::{
    BoxError, Closed, Session, UpgradeKind, UpgradeLayer, Upgraded, handler_fn,
    testing::{self, Exchange},
};

async fn ask(layer: &UpgradeLayer, request: http::request::Builder) -> Exchange {
    let request = request.body(String::new()).expect("a request");
    let exchange = testing::upgrade(layer.layer(service_fn(plain)), request).await;
    exchange.expect("a response")
}

/// Sends a text, shuts down the write side, and reads to EOF.
async fn send(mut peer: Upgraded, text: &str) -> String {
    peer.write_all(text.as_bytes())
        .await
        .expect("an open session");
    peer.shutdown().await.expect("an open session");
    let mut back = String::new();
    peer.read_to_string(&mut back)
        .await
        .expect("an open session");
    back
}

#[tokio::test]
async fn closed_resolves_for_every_kind_of_session() {
    let layer = UpgradeLayer::new().protocol("echo", echo()).connect(echo());
    for (request, kind) in [
        (testing::request("echo"), UpgradeKind::Upgrade),
        (
            testing::extended_connect("echo"),
            UpgradeKind::ExtendedConnect,
        ),
        (testing::connect("test:1"), UpgradeKind::Connect),
        (
            testing::connect("test:1").version(http::Version::HTTP_2),
            UpgradeKind::Connect,
        ),
    ] {
        let exchange = ask(&layer, request).await;
        let closed = exchange.closed();
        let peer = match kind {
            UpgradeKind::Connect => exchange.expect_connected(),
            _ => exchange.expect_upgraded("echo"),
        };
        assert_eq!(soon(send(peer, "hello")).await, "hello");
        let closed = soon(closed).await;
        assert_eq!(closed.kind(), kind);
        assert_eq!(closed.reason().as_str(), "finished");
        assert_eq!((closed.bytes_read(), closed.bytes_written()), (5, 5));
    }
}

#[tokio::test]
async fn closed_has_the_error_of_the_handler() {
    let fail = handler_fn(|_: Session| async { Err::<(), BoxError>("no more".into()) });
    let layer = UpgradeLayer::new().protocol("fail", fail);
    let exchange = ask(&layer, testing::request("fail")).await;
    let closed = soon(exchange.closed()).await;
    assert_eq!(closed.reason().to_string(), "failed: no more");
}

#[tokio::test(start_paused = true)]
async fn closed_has_the_duration_in_paused_time() {
    let limit = Duration::from_secs(3600);
    let layer = UpgradeLayer::new()
        .idle_timeout(Some(limit))
        .protocol("echo", echo());
    for request in [testing::request("echo"), testing::extended_connect("echo")] {
        let exchange = ask(&layer, request).await;
        let closed = exchange.closed();
        let _peer = exchange.expect_upgraded("echo");
        let closed = closed.await;
        assert_eq!(closed.reason().as_str(), "idle");
        assert_eq!(closed.duration(), limit);
    }
}

/// A handler may exchange datagrams with the peer, beside the stream.
#[tokio::test(start_paused = true)]
async fn recorded_bytes_count_and_are_activity() {
    const MINUTE: Duration = Duration::from_secs(60);
    let record = handler_fn(|mut session: Session| async move {
        for (read, written) in [(7, 0), (0, 5), (0, 0)] {
            tokio::time::sleep(MINUTE * 9 / 10).await;
            match written {
                0 => session.io_mut().record_read(read),
                _ => session.io_mut().record_written(written),
            }
        }
        std::future::pending::<Result<(), BoxError>>().await
    });
    let layer = UpgradeLayer::new()
        .idle_timeout(MINUTE)
        .protocol("record", record);
    let exchange = ask(&layer, testing::request("record")).await;
    let closed = exchange.closed();
    let _peer = exchange.expect_upgraded("record");
    let closed = closed.await;
    assert_eq!(closed.reason().as_str(), "idle");
    assert_eq!((closed.bytes_read(), closed.bytes_written()), (7, 5));
    assert_eq!(closed.duration().as_secs(), 3 * 54 + 60);
}

/// Returns a layer with an `on_close` that adds its name to the list.
fn recording(name: &'static str, notes: &Arc<Mutex<Vec<&'static str>>>) -> UpgradeLayer {
    let notes = Arc::clone(notes);
    UpgradeLayer::new().on_close(move |_: &Closed| {
        notes.lock().expect("no panic").push(name);
    })
}

#[tokio::test]
async fn closed_resolves_after_on_close_of_the_layer() {
    let notes = Arc::default();
    let layer = recording("own", &notes).protocol("echo", echo());
    let exchange = ask(&layer, testing::request("echo")).await;
    let closed = exchange.closed();
    drop(exchange);
    soon(closed).await;
    assert_eq!(*notes.lock().expect("no panic"), ["own"]);
}

#[tokio::test]
async fn closed_does_not_replace_on_close_of_the_inner_layer() {
    let notes = Arc::default();
    let stack = ServiceBuilder::new()
        .layer(recording("outer", &notes))
        .layer(recording("inner", &notes).protocol("echo", echo()))
        .service(service_fn(plain));
    let request = testing::request("echo").body(String::new());
    let exchange = testing::upgrade(stack, request.expect("a request")).await;
    let exchange = exchange.expect("a response");
    let closed = exchange.closed();
    drop(exchange);
    soon(closed).await;
    assert_eq!(*notes.lock().expect("no panic"), ["inner"]);
}

/// Without an outermost `UpgradeLayer` a session starts although the client is refused. `testing::upgrade` must
/// not hide that.
#[tokio::test]
async fn exchange_is_not_an_outermost_layer() {
    let handler = Counted::default();
    let stack = ServiceBuilder::new()
        .map_response(|mut response: Response<_>| {
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        })
        .layer(UpgradeLayer::new().protocol("echo", handler.clone()))
        .service(service_fn(plain));
    let request = testing::request("echo").body(String::new());
    let exchange = testing::upgrade(stack, request.expect("a request")).await;
    let exchange = exchange.expect("a response");
    let closed = exchange.closed();
    assert_eq!(exchange.expect_passed().status(), StatusCode::FORBIDDEN);
    soon(closed).await;
    assert_eq!(handler.started(), 1);
}

#[tokio::test]
async fn closed_can_be_called_more_than_once() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let exchange = ask(&layer, testing::request("echo")).await;
    let (one, other) = (exchange.closed(), exchange.closed());
    drop(exchange.closed());
    drop(exchange);
    let (one, other) = soon(async { tokio::join!(one, other) }).await;
    assert_eq!(one.id(), other.id());
}

#[tokio::test]
#[should_panic(expected = "no `UpgradeLayer` started a session: the response has status 501")]
async fn closed_panics_for_a_refused_request() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let exchange = ask(&layer, testing::extended_connect("other")).await;
    soon(exchange.closed()).await;
}

#[tokio::test]
#[should_panic(expected = "no `UpgradeLayer` started a session: the response has status 200")]
async fn closed_panics_for_a_passed_request() {
    let layer = UpgradeLayer::new().protocol("echo", echo());
    let exchange = ask(&layer, testing::request("other")).await;
    soon(exchange.closed()).await;
}

/// Upgrades with hyper alone.
async fn foreign(mut request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _io = upgrade.await;
        std::future::pending::<()>().await;
    });
    Ok(Response::new(String::new()))
}

#[tokio::test]
#[should_panic(expected = "no `UpgradeLayer` started a session: the response has status 200")]
async fn closed_panics_for_a_foreign_upgrader() {
    let request = testing::extended_connect("echo").body(String::new());
    let exchange = testing::upgrade(service_fn(foreign), request.expect("a request")).await;
    let exchange = exchange.expect("a response");
    let closed = exchange.closed();
    let _peer = exchange.expect_upgraded("echo");
    soon(closed).await;
}
