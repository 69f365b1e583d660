//! HTTP/3 on the wire (rule E8), with a client that sends and reads raw frames.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod early_data;
mod flow;
mod heads;
mod listener;
mod raw;
mod resets;
mod reverse_proxy;
mod shutdown;
mod streams;

use http::{Request, Response};
use http_body_util::Full;
use support::{h3::Server, handlers::echo, plain};
use tower::{Layer as _, service_fn};
use tower_upgrade::{UpgradeLayer, http3};

type Plain = Response<Full<bytes::Bytes>>;

/// A server with an echo for the protocol `test` and for CONNECT.
async fn server() -> Server {
    let layer = UpgradeLayer::new().protocol("test", echo()).connect(echo());
    Server::start(layer.layer(service_fn(plain))).await
}

/// A server with a function as its service.
async fn server_fn<F, Fut>(function: F) -> Server
where
    F: FnMut(Request<http3::Body>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Plain, tower_upgrade::BoxError>> + Send + 'static,
{
    Server::start(service_fn(function)).await
}
