//! The type-erased client of a backend.

use crate::{
    client::{self, Body, Request, Session},
    error::{BoxError, BoxFuture},
    service,
    time::within,
};
use http::Response;
use std::time::Duration;
use tower_layer::Layer as _;
use tower_service::Service;

pub(super) trait Backend: Send + Sync {
    /// Requests an upgrade. `None` if the client is not ready within `limit`; the same limit then applies to the
    /// handshake.
    fn upgrade(
        &self,
        request: Request<Body>,
        limit: Duration,
    ) -> BoxFuture<Option<Result<Session, BoxError>>>;

    /// Sends a plain request.
    fn send(&self, request: http::Request<Body>) -> BoxFuture<Result<Response<Body>, BoxError>>;
}

impl<S, B> Backend for S
where
    S: Service<http::Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn upgrade(
        &self,
        request: Request<Body>,
        limit: Duration,
    ) -> BoxFuture<Option<Result<Session, BoxError>>> {
        let layer = client::UpgradeLayer::new().handshake_timeout(limit);
        let mut client = layer.layer(self.clone());
        Box::pin(within(limit, async move {
            let session = service::call(&mut client, request).await;
            session.map_err(Into::into)
        }))
    }

    fn send(&self, request: http::Request<Body>) -> BoxFuture<Result<Response<Body>, BoxError>> {
        let mut client = self.clone();
        Box::pin(async move {
            let response = service::call(&mut client, request).await;
            response
                .map(|response| response.map(Body::new))
                .map_err(Into::into)
        })
    }
}
