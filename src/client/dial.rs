//! A connection for each request.

use super::{Error, Http1, Http2};
use crate::{BoxError, handler::BoxFuture};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header, uri::Authority};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::Connection;
use percent_encoding::percent_decode_str;
use std::{
    fmt,
    task::{Context, Poll},
};
use tower_service::Service;

/// Makes a connection for each request, with a connector of hyper-util's kind: a service of HTTP, for
/// [`UpgradeLayer`](super::UpgradeLayer) to be put around.
///
/// A connection that leaves HTTP is of no use to a pool, and a pool does not tell whether an HTTP/2 server
/// allows extended CONNECT. So this has none. Where the connector says that HTTP/2 was negotiated, as one for
/// TLS does with ALPN, the request is sent over HTTP/2, else over HTTP/1.1. To have many sessions on one
/// connection of HTTP/2 make an [`Http2`].
///
/// ```no_run
/// use hyper_rustls::HttpsConnectorBuilder;
/// use tokio_rustls::rustls::ClientConfig;
/// use tower::{Layer as _, Service as _};
/// use tower_upgrade::client;
///
/// # async fn example(tls: ClientConfig) -> Result<(), tower_upgrade::BoxError> {
/// let https = || HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
/// // HTTP/2 if the server wants it and allows extended CONNECT, and HTTP/1.1 if not.
/// let dial = client::Dial::new(https().enable_all_versions().build())
///     .fallback(https().enable_http1().build());
/// let mut client = client::UpgradeLayer::new().layer(dial);
///
/// let request = client::Request::get("https://example.com/chat".parse()?).protocol("chat");
/// let session = client.call(request).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dial<C> {
    connector: C,
    fallback: Option<C>,
    destination: Option<Uri>,
    is_http2: bool,
}

impl<C> Dial<C> {
    /// Dials with `connector` what a request is for.
    ///
    /// A request whose URI is a path alone, and a [CONNECT](super::Request::connect), need a
    /// [destination](Self::to). Without one the connector is asked for a URI that has no scheme, and fails: an error
    /// of kind [`Connect`](super::ErrorKind::Connect).
    pub fn new(connector: C) -> Self {
        Self {
            connector,
            fallback: None,
            destination: None,
            is_http2: false,
        }
    }

    /// Dials `destination` for every request: a proxy that is asked with [CONNECT](super::Request::connect), or a
    /// backend. A request whose URI is a path alone is for the destination, unless it has a `Host`.
    ///
    /// The user and password of a proxy's URI, `http://ann:secret@proxy:3128`, are percent-decoded and sent as
    /// `Proxy-Authorization: Basic` (RFC 7617) with a CONNECT that has no `Proxy-Authorization` yet. A request other
    /// than CONNECT fails with kind [`Request`](super::ErrorKind::Request) if the destination has a user: send
    /// `Authorization` instead.
    #[must_use]
    pub fn to(mut self, destination: Uri) -> Self {
        self.destination = Some(destination);
        self
    }

    /// Speaks HTTP/2 whatever the connector says: with a server that is known to, without TLS.
    #[must_use]
    pub fn http2_only(mut self) -> Self {
        self.is_http2 = true;
        self
    }

    /// Dials a second time, with a connector for HTTP/1.1 only, where the first connection is HTTP/2 and
    /// cannot ask for the upgrade: the server does not allow extended CONNECT, or the request is not a GET
    /// without a body. Without it such a request is an error of kind
    /// [`Unsupported`](super::ErrorKind::Unsupported).
    #[must_use]
    pub fn fallback(mut self, connector: C) -> Self {
        self.fallback = Some(connector);
        self
    }
}

impl<C> Service<Request<Full<Bytes>>> for Dial<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + Connection + Send + Unpin + 'static,
    C::Future: Send,
    C::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = BoxFuture<Result<Response<Incoming>, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(cx).map_err(Error::connect)
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let destination = match self.destination_of(&mut request) {
            Ok(destination) => destination,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let io = self.connector.call(destination.clone());
        let fallback = self.fallback.clone();
        let is_http2 = self.is_http2;
        Box::pin(async move {
            let io = io.await.map_err(Error::connect)?;
            let mut http1 = if is_http2 || io.connected().is_negotiated_h2() {
                let mut http2 = Http2::on(io).await?;
                match (http2.supports(&request), fallback) {
                    (Err(_), Some(mut fallback)) => {
                        drop(http2);
                        super::ready(&mut fallback).await.map_err(Error::connect)?;
                        let io = fallback.call(destination).await;
                        Http1::on(io.map_err(Error::connect)?).await?
                    }
                    _ => return http2.call(request).await,
                }
            } else {
                Http1::on(io).await?
            };
            super::ready(&mut http1).await?;
            http1.call(request).await
        })
    }
}

impl<C> Dial<C> {
    /// The URI that is dialed for a request, without a user.
    ///
    /// The user of a destination is for a proxy, which is asked with CONNECT.
    fn destination_of(&self, request: &mut Request<Full<Bytes>>) -> Result<Uri, Error> {
        let Some(destination) = &self.destination else {
            return Ok(request.uri().clone());
        };
        let (destination, user) = split_user(destination)?;
        if let Some(credentials) = user {
            if *request.method() != Method::CONNECT {
                return Err(Error::request(
                    "the destination's URI has a user, which is sent to proxies only: send `Authorization`",
                ));
            }
            let headers = request.headers_mut();
            if !headers.contains_key(header::PROXY_AUTHORIZATION) {
                headers.insert(header::PROXY_AUTHORIZATION, credentials);
            }
        }
        complete(request.uri_mut(), &destination);
        Ok(destination)
    }
}

/// Takes `user:password` off a URI, as credentials of the scheme `Basic` (RFC 7617).
fn split_user(uri: &Uri) -> Result<(Uri, Option<HeaderValue>), Error> {
    let authority = uri.authority().map(Authority::as_str);
    let Some((user, host)) = authority.and_then(|authority| authority.rsplit_once('@')) else {
        return Ok((uri.clone(), None));
    };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (name, password) = (decoded(name), decoded(password));
    if name.contains(&b':') {
        // The server would end the name there (RFC 7617 §2).
        return Err(Error::request(
            "the user of the destination's URI has a colon",
        ));
    }
    let user = [&name[..], b":", &password].concat();
    let mut credentials = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user)))
        .expect("base64 is valid in a header");
    credentials.set_sensitive(true);
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(host.parse().map_err(|_| Error::no_host())?);
    let uri = Uri::from_parts(parts).map_err(|_| Error::no_host())?;
    Ok((uri, Some(credentials)))
}

/// Adds to a path alone where it is. HTTP/2 has to say that, and the scheme is said nowhere else.
fn complete(uri: &mut Uri, destination: &Uri) {
    if uri.authority().is_some() {
        return;
    }
    let mut parts = destination.clone().into_parts();
    parts.path_and_query = uri.path_and_query().cloned();
    // A destination without a scheme is not one that can be dialed.
    if let Ok(complete) = Uri::from_parts(parts) {
        *uri = complete;
    }
}

impl<C: fmt::Debug> fmt::Debug for Dial<C> {
    /// Without the user and password of a destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = self.destination.as_ref().map(|uri| match split_user(uri) {
            Ok((uri, _user)) => uri.to_string(),
            Err(_) => "invalid".to_owned(),
        });
        f.debug_struct("Dial")
            .field("connector", &self.connector)
            .field("fallback", &self.fallback)
            .field("destination", &destination)
            .field("is_http2", &self.is_http2)
            .finish()
    }
}
