//! The other end: ask a server for an upgrade.

mod body;
mod dial;
mod error;
mod http1;
mod http2;
mod layer;
mod request;
mod service;
mod session;
mod tunnel;

pub use self::{
    body::Body,
    dial::Dial,
    error::{Error, ErrorKind},
    http1::Http1,
    http2::Http2,
    layer::UpgradeLayer,
    request::Request,
    service::{ResponseFuture, Upgrade},
    session::Session,
    tunnel::Tunnel,
};

use std::future::poll_fn;
use tower_service::Service;

/// Waits until a service takes a request.
async fn ready<S: Service<R>, R>(service: &mut S) -> Result<(), S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await
}
