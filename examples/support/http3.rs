//! HTTP/3 for the server of the larger examples.

use super::Body;
use http::{HeaderValue, Request, Response};
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt as _};
use tower_upgrade::{
    BoxError,
    http3::{self, Builder, Listener},
};

pub(crate) struct Http3 {
    listener: Listener,
    /// The value of `Alt-Svc` in responses of the other versions: the same host also serves HTTP/3 (RFC 9114 §3.1.1).
    pub(crate) alt_svc: HeaderValue,
}

impl Http3 {
    /// Listens on the UDP port of `address`, with the certificate of `tls`.
    pub(crate) fn bind(address: SocketAddr, tls: &ServerConfig) -> Result<Self, BoxError> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let tls = QuicServerConfig::try_from(tls)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(Arc::new(http3::transport_config()));
        let endpoint = Endpoint::server(config, address)
            .map_err(|error| format!("cannot listen on {address} of UDP: {error}"))?;
        let alt_svc = format!("h3=\":{}\"; ma=86400", address.port());
        Ok(Self {
            listener: Listener::new(endpoint),
            alt_svc: alt_svc.try_into()?,
        })
    }

    /// Serves `app` until `closing` is cancelled, then waits until the connections have closed, at most for `grace`.
    pub(crate) async fn serve<S, B>(mut self, app: S, closing: CancellationToken, grace: Duration)
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let app = app.map_request(|request: Request<http3::Body>| request.map(Body::new));
        let connections = TaskTracker::new();
        while let Some(Some(connection)) = closing.run_until_cancelled(self.listener.accept()).await
        {
            let peer = connection.remote_address();
            let mut connection = Builder::new().serve_connection(connection, app.clone());
            let closing = closing.clone();
            connections.spawn(async move {
                let ended = match closing.run_until_cancelled(&mut connection).await {
                    Some(ended) => ended,
                    None => {
                        connection.graceful_shutdown(grace);
                        connection.await
                    }
                };
                if let Err(error) = ended {
                    eprintln!("the connection from {peer} failed: {error:?}");
                }
            });
        }

        let endpoint = self.listener.endpoint();
        // Refuses new connections.
        endpoint.set_server_config(None);
        connections.close();
        connections.wait().await;
        // The process must not exit before the last packets were sent.
        endpoint.wait_idle().await;
    }
}
