//! A connector through a proxy.

use super::{Error, Request, ResponseFuture, Session, request::has_no_user};
use crate::{error::BoxError, session::upgraded::Upgraded};
use http::{
    HeaderMap, HeaderValue, Uri,
    header::{self, IntoHeaderName},
    uri::Authority,
};
use hyper_util::client::legacy::connect::{Connected, Connection};
use std::task::{Context, Poll};
use tower_service::Service;

/// A connector for hyper-util's `Client`, hyper-rustls or [`Dial`](super::Dial) that connects through a proxy with
/// CONNECT.
///
/// `S` is the service that sends the CONNECT: an [`Upgrade`](super::Upgrade) around a client that connects to the
/// proxy, over HTTP/1.1 or HTTP/2. The tunnel carries no data before the proxy's 2xx. The first reads return the bytes
/// that arrived together with that response.
///
/// # Errors
///
/// Returns an [`Error`]. If the proxy refuses, the kind is [`ProxyRefused`](super::ErrorKind::ProxyRefused), and the
/// error holds the proxy's response. An [`Upgrade`](super::Upgrade) service whose client connects through the tunnel
/// returns the same error. Other clients wrap it: search the [sources](std::error::Error::source) of their errors.
///
/// ```no_run
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use hyper_rustls::HttpsConnectorBuilder;
/// use hyper_util::{
///     client::legacy::{Client, connect::HttpConnector},
///     rt::TokioExecutor,
/// };
/// use tokio_rustls::rustls::ClientConfig;
/// use tower::Layer as _;
/// use tower_upgrade::client;
///
/// # async fn example(tls: ClientConfig) -> Result<(), tower_upgrade::BoxError> {
/// let proxy = client::Dial::new(HttpConnector::new()).destination("http://ann:secret@proxy.example:3128".parse()?);
/// let proxy = client::UpgradeLayer::new().layer(proxy);
/// let tunnel = client::Tunnel::new(proxy);
///
/// let https = HttpsConnectorBuilder::new()
///     .with_tls_config(tls)
///     .https_or_http()
///     .enable_http1()
///     .wrap_connector(tunnel);
/// let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(https);
/// let response = client.get("https://example.com/".parse()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tunnel<S> {
    client: S,
    headers: HeaderMap,
}

impl<S> Tunnel<S> {
    /// Creates a connector that requests tunnels with `client`.
    pub fn new(client: S) -> Self {
        Self {
            client,
            headers: HeaderMap::new(),
        }
    }

    /// Appends a header to each CONNECT. The value of `Proxy-Authorization` is marked as sensitive.
    ///
    /// # Panics
    ///
    /// If `name` is a `&'static str` that is not a valid header name in lower case.
    #[must_use]
    pub fn header<K: IntoHeaderName>(mut self, name: K, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        if let header::Entry::Occupied(mut credentials) =
            self.headers.entry(header::PROXY_AUTHORIZATION)
        {
            credentials
                .iter_mut()
                .for_each(|value| value.set_sensitive(true));
        }
        self
    }
}

impl<S> Service<Uri> for Tunnel<S>
where
    S: Service<Request, Response = Session>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Upgraded;
    type Error = Error;
    type Future = ResponseFuture<Upgraded>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.client.poll_ready(cx).map_err(Error::tunnel)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Err(error) = has_no_user(&uri) {
            return ResponseFuture::error(error);
        }
        let Some(target) = target(&uri) else {
            return ResponseFuture::error(Error::no_host());
        };
        let mut request = Request::connect(target);
        *request.http_mut().headers_mut() = self.headers.clone();
        let session = self.client.call(request);
        ResponseFuture::new(async move { Ok(session.await.map_err(Error::tunnel)?.into_io()) })
    }
}

/// Returns the host and the port of a URI; the default port is 443 for `https` and `wss`, else 80.
fn target(uri: &Uri) -> Option<Authority> {
    let port = match uri.port_u16() {
        Some(port) => port,
        None if uri
            .scheme()
            .is_some_and(|own| *own == *"https" || *own == *"wss") =>
        {
            443
        }
        None => 80,
    };
    format!("{}:{port}", uri.host()?).parse().ok()
}

impl Connection for Upgraded {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
