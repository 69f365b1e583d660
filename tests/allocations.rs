//! A request that is not an upgrade request costs no allocation in the layer.

#[path = "support/mod.rs"]
mod support;

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::Full;
use std::{convert::Infallible, hint::black_box};
use support::handlers::echo;
use tower::{Layer, Service, layer::util::Identity, service_fn};
use tower_upgrade::UpgradeLayer;

/// Returns the number of allocations of one request through `layer`, with its response.
fn allocations<L>(layer: L, request: Request<Full<Bytes>>) -> u64
where
    L: Layer<Inner>,
    L::Service: Service<Request<Full<Bytes>>, Error = Infallible>,
{
    let mut service = layer.layer(inner());
    let mut request = Some(request);
    let info = measure(|| {
        let request = request.take().expect("measured once");
        let response = service
            .call(request)
            .now_or_never()
            .expect("inner is ready");
        let _ = black_box(response);
    });
    info.count_total
}

type Inner = tower::util::ServiceFn<
    fn(Request<Full<Bytes>>) -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>>,
>;

/// Allocates itself, so that the test does not compare two zeros.
fn inner() -> Inner {
    service_fn(|request| {
        let text = format!("{} {}", request.method(), request.uri());
        std::future::ready(Ok(Response::new(Full::new(Bytes::from(text)))))
    })
}

fn requests() -> Vec<(&'static str, Request<Full<Bytes>>)> {
    let build = |builder: http::request::Builder| builder.body(Full::default()).expect("a request");
    vec![
        ("bare", build(Request::get("/"))),
        (
            "a browser's",
            build(
                Request::get("/index.html?query")
                    .header("host", "example.com")
                    .header("connection", "keep-alive")
                    .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
                    .header("accept", "text/html,application/xhtml+xml")
                    .header("cookie", "session=1234"),
            ),
        ),
        (
            "with a list of options",
            build(
                Request::get("/")
                    .header("connection", "keep-alive, te")
                    .header("connection", "x"),
            ),
        ),
        (
            "with an offer that `Connection` does not list",
            build(
                Request::get("/")
                    .header("upgrade", "echo")
                    .header("connection", "keep-alive"),
            ),
        ),
        (
            "with a malformed offer",
            build(
                Request::get("/")
                    .header("upgrade", "echo, /")
                    .header("connection", "upgrade"),
            ),
        ),
        (
            "with an offer, but without an upgrade extension",
            build(
                Request::get("/")
                    .header("upgrade", "echo")
                    .header("connection", "upgrade"),
            ),
        ),
        (
            "on HTTP/2",
            build(Request::get("/").version(http::Version::HTTP_2)),
        ),
    ]
}

#[test]
fn plain_request_allocates_no_more_than_through_identity_layer() {
    let upgrade = UpgradeLayer::new()
        .protocol("echo", echo())
        .protocol("chat/2", echo());
    let mut seen = 0;
    for ((name, request), (_, same)) in requests().into_iter().zip(requests()) {
        let identity = allocations(Identity::new(), request);
        assert_eq!(allocations(upgrade.clone(), same), identity, "{name}");
        seen += identity;
    }
    assert!(seen > 0, "the allocation counter does not work");
}
