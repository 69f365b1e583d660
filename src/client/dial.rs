//! A client that makes a connection for each request.

use super::{Error, Http1, Http2, ResponseFuture, request::has_no_user};
use crate::{error::BoxError, io::box_io::BoxIo, service};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, Method, Request, Response, Uri, header,
    uri::{Authority, Scheme},
};
use hyper::body::Incoming;
use hyper_util::{client::legacy::connect::Connection, rt::TokioIo};
use percent_encoding::percent_decode_str;
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// An HTTP client that opens a connection for each request with a hyper-util connector, to wrap in
/// [`UpgradeLayer`](super::UpgradeLayer).
///
/// `Dial` does not pool connections. A pool could not reuse an upgraded connection, and hyper-util's pool does not
/// report whether an HTTP/2 server allows extended CONNECT. For other requests to the same server, wrap `Dial` in a
/// [`Pool`](super::Pool). For many sessions on one HTTP/2 connection, use [`Http2`].
///
/// `Dial` sends the request over HTTP/2 if TLS negotiated HTTP/2 (ALPN), and otherwise over HTTP/1.1. The connector's
/// connections report the negotiated version through hyper-util's trait `Connection`, which they must implement: see
/// [connectors](super#connectors).
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
pub struct Dial<C: Service<Uri>> {
    connector: C,
    fallback: Option<C>,
    /// The destination, without its user.
    destination: Option<Uri>,
    /// The user of the destination, as `Basic` credentials.
    credentials: Option<HeaderValue>,
    is_http2: bool,
    map_io: Option<Arc<MapIo<C::Response>>>,
}

type MapIo<T> = dyn Fn(T) -> BoxIo + Send + Sync;

impl<C: Service<Uri>> Dial<C> {
    /// Creates a client that dials the URI of each request with `connector`.
    ///
    /// A [destination](Self::destination) is required for a [CONNECT](super::Request::connect), and for a request whose
    /// URI is only a path. Without a destination the connector gets a URI without a scheme, and the call fails with
    /// kind [`Connector`](super::ErrorKind::Connector).
    pub fn new(connector: C) -> Self {
        Self {
            connector,
            fallback: None,
            destination: None,
            credentials: None,
            is_http2: false,
            map_io: None,
        }
    }

    /// Connects to `destination` instead of the host in the request's URI: to a proxy, for requests with
    /// [CONNECT](super::Request::connect), or to a backend. The URI of a request may then be only a path; for such a
    /// request, `Host` defaults to the destination's host.
    ///
    /// The URI of a proxy may have a user, as in `http://user:password@proxy:3128`. `Dial` percent-decodes the user and
    /// password, and sends them with each CONNECT as `Proxy-Authorization: Basic` (RFC 7617), unless the request
    /// already has this field. Other requests to a destination with a user fail with kind
    /// [`Request`](super::ErrorKind::Request): for these, use a destination without a user, and send `Authorization`.
    #[must_use]
    pub fn destination(mut self, destination: Uri) -> Self {
        let (destination, credentials) = without_user(destination);
        self.destination = Some(destination);
        self.credentials = credentials;
        self
    }

    /// Uses HTTP/2 on every connection without negotiation, for a server that supports HTTP/2 without TLS.
    #[must_use]
    pub fn http2_only(mut self) -> Self {
        self.is_http2 = true;
        self
    }

    /// Sets a second connector, which negotiates only HTTP/1.1. `Dial` connects with it if the first connection is
    /// HTTP/2 and cannot carry the upgrade.
    ///
    /// An HTTP/2 connection carries an upgrade only if the server allows extended CONNECT and the request is a GET
    /// without a body. Without a fallback, other requests fail with kind
    /// [`Unsupported`](super::ErrorKind::Unsupported).
    #[must_use]
    pub fn fallback(mut self, connector: C) -> Self {
        self.fallback = Some(connector);
        self
    }

    /// Converts each connection to a [`BoxIo`], after `Dial` has read the negotiated HTTP version. Applies to the
    /// connections of the [fallback](Self::fallback) as well.
    ///
    /// A [relay](crate::tunnel::Relay#the-socket-of-a-connection) resets and splices sockets. The relay finds the
    /// socket in a connection of `HttpConnector`, but not in a connection of a TLS connector: expose that socket with
    /// `map_io`:
    ///
    #[cfg_attr(feature = "tunnel", doc = "```")]
    #[cfg_attr(not(feature = "tunnel"), doc = "```ignore")]
    /// use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
    /// use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
    /// use tokio::net::TcpStream;
    /// use tower_upgrade::{BoxIo, client::Dial};
    ///
    /// fn dial(https: HttpsConnector<HttpConnector>) -> Dial<HttpsConnector<HttpConnector>> {
    ///     Dial::new(https).map_io(|io: MaybeHttpsStream<TokioIo<TcpStream>>| match io {
    ///         MaybeHttpsStream::Http(tcp) => BoxIo::new(tcp.into_inner()),
    ///         MaybeHttpsStream::Https(tls) => {
    ///             BoxIo::over(tls.into_inner(), |tls| tls.get_ref().0.inner().inner())
    ///         }
    ///     })
    /// }
    /// ```
    #[must_use]
    pub fn map_io(mut self, map_io: impl Fn(C::Response) -> BoxIo + Send + Sync + 'static) -> Self {
        self.map_io = Some(Arc::new(map_io));
        self
    }
}

impl<C: Service<Uri> + Clone> Clone for Dial<C> {
    fn clone(&self) -> Self {
        Self {
            connector: self.connector.clone(),
            fallback: self.fallback.clone(),
            destination: self.destination.clone(),
            credentials: self.credentials.clone(),
            is_http2: self.is_http2,
            map_io: self.map_io.clone(),
        }
    }
}

impl<C: Service<Uri> + fmt::Debug> fmt::Debug for Dial<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("connector", &self.connector)
            .field("fallback", &self.fallback)
            .field("destination", &self.destination)
            .field("credentials", &self.credentials)
            .field("is_http2", &self.is_http2)
            .finish_non_exhaustive()
    }
}

/// A new connection, of the negotiated version.
pub(super) enum Connected<B> {
    Http1(Http1<B>),
    Http2(Http2<B>),
}

impl<C> Dial<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + Connection + Send + Unpin + 'static,
    C::Future: Send,
    C::Error: Into<BoxError>,
{
    pub(super) fn has_destination(&self) -> bool {
        self.destination.is_some()
    }

    /// Returns whether the first connection is expected to be HTTP/1.1. TLS may negotiate another version.
    pub(super) fn expects_http1(&self) -> bool {
        let scheme = self.destination.as_ref().and_then(Uri::scheme);
        !self.is_http2 && scheme == Some(&Scheme::HTTP)
    }

    /// Completes a request, and returns the URI to connect to.
    pub(super) fn prepare<B>(&self, request: &mut Request<B>) -> Result<Uri, Error> {
        has_no_user(request.uri())?;
        authorize(request, &self.credentials)?;
        if let Some(destination) = &self.destination {
            complete(request.uri_mut(), destination);
        }
        Ok(self.destination.as_ref().unwrap_or(request.uri()).clone())
    }

    /// Opens a connection with the connector, which must be ready.
    pub(super) fn connect<B>(
        &mut self,
        destination: Uri,
    ) -> impl Future<Output = Result<Connected<B>, Error>> + Send + use<C, B>
    where
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let io = self.connector.call(destination);
        let is_http2 = self.is_http2;
        let map_io = self.map_io.clone();
        async move {
            let io = io.await.map_err(Error::connect)?;
            Ok(if is_http2 || io.connected().is_negotiated_h2() {
                Connected::Http2(match &map_io {
                    Some(map_io) => Http2::on(TokioIo::new(map_io(io))).await?,
                    None => Http2::on(io).await?,
                })
            } else {
                Connected::Http1(http1(io, map_io.as_deref()).await?)
            })
        }
    }
}

impl<C, B> Service<Request<B>> for Dial<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + Connection + Send + Unpin + 'static,
    C::Future: Send,
    C::Error: Into<BoxError>,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = ResponseFuture<Response<Incoming>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(cx).map_err(Error::connect)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let destination = match self.prepare(&mut request) {
            Ok(destination) => destination,
            Err(error) => return ResponseFuture::error(error),
        };
        let connected = self.connect(destination.clone());
        let fallback = self.fallback.clone();
        let map_io = self.map_io.clone();
        ResponseFuture::new(async move {
            let mut http1 = match connected.await? {
                Connected::Http1(http1) => http1,
                Connected::Http2(mut http2) => match (http2.supports(&request), fallback) {
                    (Err(_), Some(mut fallback)) => {
                        drop(http2);
                        let io = service::call(&mut fallback, destination).await;
                        http1(io.map_err(Error::connect)?, map_io.as_deref()).await?
                    }
                    _ => return http2.call(request).await,
                },
            };
            service::call(&mut http1, request).await
        })
    }
}

async fn http1<T, B>(io: T, map_io: Option<&MapIo<T>>) -> Result<Http1<B>, Error>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    match map_io {
        Some(map_io) => Http1::on(TokioIo::new(map_io(io))).await,
        None => Http1::on(io).await,
    }
}

/// Completes a URI that is only a path with the destination's scheme and authority. HTTP/2 has to send both, and the
/// scheme appears nowhere else.
fn complete(uri: &mut Uri, destination: &Uri) {
    if uri.authority().is_some() {
        return;
    }
    let mut parts = destination.clone().into_parts();
    parts.path_and_query = uri.path_and_query().cloned();
    // The connector fails for a destination without a scheme.
    if let Ok(complete) = Uri::from_parts(parts) {
        *uri = complete;
    }
}

/// Splits the user off a URI (RFC 3986 §3.2.1), and returns it as credentials.
fn without_user(uri: Uri) -> (Uri, Option<HeaderValue>) {
    let user = uri
        .authority()
        .and_then(|own| own.as_str().rsplit_once('@'));
    let Some((user, host)) = user else {
        return (uri, None);
    };
    // A parsed authority without its user is valid.
    let Ok(host) = Authority::try_from(host) else {
        return (uri, None);
    };
    let credentials = (!user.is_empty()).then(|| basic(user));
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(host);
    match Uri::from_parts(parts) {
        Ok(uri) => (uri, credentials),
        Err(_) => (uri, None),
    }
}

/// Encodes the `user:password` of a URI as `Basic` credentials (RFC 7617 §2).
fn basic(user: &str) -> HeaderValue {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let mut decoded: Vec<u8> = percent_decode_str(user).collect();
    decoded.push(b':');
    decoded.extend(percent_decode_str(password));
    let basic = format!("Basic {}", STANDARD.encode(decoded));
    let mut basic = HeaderValue::try_from(basic).expect("base64 is valid in a header");
    basic.set_sensitive(true);
    basic
}

/// Adds the destination's user to a CONNECT. Any other request is an error: it would be sent without the user.
fn authorize<B>(request: &mut Request<B>, credentials: &Option<HeaderValue>) -> Result<(), Error> {
    let Some(credentials) = credentials else {
        return Ok(());
    };
    if *request.method() != Method::CONNECT {
        return Err(Error::request(
            "the destination has a user, which is sent only with CONNECT: send `Authorization` instead",
        ));
    }
    let headers = request.headers_mut();
    if !headers.contains_key(header::PROXY_AUTHORIZATION) {
        headers.insert(header::PROXY_AUTHORIZATION, credentials.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::client::legacy::connect::HttpConnector;

    #[test]
    fn user_of_uri_becomes_credentials() {
        for (uri, rest, decoded) in [
            ("http://proxy:3128", "http://proxy:3128/", None),
            ("http://@proxy:3128", "http://proxy:3128/", None),
            ("http://ann@proxy/a?b", "http://proxy/a?b", Some("ann:")),
            ("http://ann:@proxy", "http://proxy/", Some("ann:")),
            ("http://:secret@proxy", "http://proxy/", Some(":secret")),
            (
                "https://ann:a:b@[::1]:1",
                "https://[::1]:1/",
                Some("ann:a:b"),
            ),
            (
                "http://a%40b:%3A%2f%25@proxy",
                "http://proxy/",
                Some("a@b::/%"),
            ),
        ] {
            let (found, credentials) = without_user(uri.parse().expect(uri));
            assert_eq!(found, rest);
            let expected = decoded.map(|decoded| format!("Basic {}", STANDARD.encode(decoded)));
            let credentials = credentials.as_ref().map(|value| value.as_bytes());
            assert_eq!(
                credentials,
                expected.as_ref().map(|value| value.as_bytes()),
                "{uri}"
            );
        }
    }

    #[test]
    fn password_is_not_in_debug_output() {
        let dial = Dial::new(HttpConnector::new())
            .destination("http://ann:secret@proxy".parse().expect("a URI"));
        let shown = format!("{dial:?}");
        assert!(
            !shown.contains("ann") && !shown.contains("secret"),
            "{shown}"
        );
        assert!(shown.contains("Sensitive"), "{shown}");
    }
}
