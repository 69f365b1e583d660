//! The server of the larger examples without the feature `http3`.

use http::HeaderValue;
use std::{net::SocketAddr, time::Duration};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tower_upgrade::BoxError;

pub(crate) struct Http3 {
    pub(crate) alt_svc: HeaderValue,
}

impl Http3 {
    pub(crate) fn bind(_: SocketAddr, _: &ServerConfig) -> Result<Self, BoxError> {
        Err("HTTP/3 requires the feature `http3`".into())
    }

    pub(crate) async fn serve<S>(self, _app: S, _closing: CancellationToken, _grace: Duration) {}
}
