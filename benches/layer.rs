//! The cost of the layer for a request that it passes to the inner service.
//!
//! Services are called and polled by hand, without a runtime or a socket. The inner service answers at once and
//! drops the request, so `bare` measures dropping a request and making an empty response. The layer's cost is
//! the difference to `bare`.
//!
//! ```text
//! cargo bench --bench layer
//! ```

use bytes::Bytes;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main,
    measurement::WallTime,
};
use futures_util::FutureExt as _;
use http::{Request, Response, header};
use http_body_util::Empty;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Waker},
};
use tower::{Layer as _, Service, service_fn};
use tower_upgrade::{PendingUpgrade, Upgrade, UpgradeLayer, handler_fn};

type Body = Empty<Bytes>;

/// Plain requests with a minimal head and with a browser's head, in which the layer looks for `Upgrade`.
fn passthrough(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("passthrough");
    for (name, request) in [("plain", plain()), ("browser", browser())] {
        compare(&mut group, name, || request.clone());
    }
    group.finish();
}

/// Upgrade requests without a supported protocol, which the layer passes to the inner service.
///
/// - `layer`: the layer checks the head and parses its offers twice, takes the request apart and puts it
///   together again, and allocates a slot for inner layers in the request's extensions.
/// - `layer, head only`: the request has no upgrade in its extensions. The layer checks and parses the head
///   once, and passes on the whole request.
fn negotiation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("negotiation");
    for offers in [1, 16] {
        let head = offering(offers);
        let mut whole = head.clone();
        let upgrade = PendingUpgrade::new(async { Err("this upgrade is not used".into()) });
        whole.extensions_mut().insert(upgrade);

        let name = format!("{offers} offered");
        compare(&mut group, &name, || whole.clone());
        measure(&mut group, "layer, head only", &name, layer(), || {
            head.clone()
        });
    }
    group.finish();
}

fn compare(group: &mut BenchmarkGroup<WallTime>, name: &str, request: impl Fn() -> Request<Body>) {
    measure(group, "bare", name, service_fn(inner), &request);
    measure(group, "layer", name, layer(), &request);
}

/// Measures a service. Making requests and dropping responses is not measured.
fn measure<S, B>(
    group: &mut BenchmarkGroup<WallTime>,
    service_name: &str,
    request_name: &str,
    mut service: S,
    request: impl Fn() -> Request<Body>,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let id = BenchmarkId::new(service_name, request_name);
    group.bench_function(id, |bencher| {
        bencher.iter_batched(
            &request,
            |request| {
                let mut context = Context::from_waker(Waker::noop());
                assert!(service.poll_ready(&mut context).is_ready());
                service.call(request).now_or_never()
            },
            BatchSize::SmallInput,
        );
    });
}

fn layer() -> Upgrade<
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = impl Send>,
> {
    let echo = handler_fn(|_session| async { Ok(()) });
    UpgradeLayer::new()
        .protocol("echo", echo)
        .layer(service_fn(inner))
}

fn inner(_request: Request<Body>) -> Ready<Result<Response<Body>, Infallible>> {
    ready(Ok(Response::new(Empty::new())))
}

fn plain() -> Request<Body> {
    request(&[("host", "example.com")])
}

fn browser() -> Request<Body> {
    request(&[
        ("host", "example.com"),
        ("connection", "keep-alive"),
        ("cache-control", "max-age=0"),
        ("upgrade-insecure-requests", "1"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-user", "?1"),
        ("sec-fetch-dest", "document"),
        ("referer", "https://example.com/articles"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-US,en;q=0.5"),
        (
            "cookie",
            "session=0123456789abcdef0123456789abcdef; theme=dark",
        ),
    ])
}

fn offering(offers: usize) -> Request<Body> {
    let offers: Vec<_> = (1..=offers)
        .map(|version| format!("chat/{version}"))
        .collect();
    request(&[
        ("host", "example.com"),
        (header::CONNECTION.as_str(), "upgrade"),
        (header::UPGRADE.as_str(), &offers.join(", ")),
    ])
}

fn request(headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get("/articles/today");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).expect("a valid request")
}

criterion_group!(benches, passthrough, negotiation);
criterion_main!(benches);
