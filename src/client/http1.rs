//! A client connection of HTTP/1.1.

use super::{Error, ResponseFuture, error::Unsent, request::has_no_user};
use crate::{error::BoxError, message::target, negotiate::http1::connection_has};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, uri::PathAndQuery};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    fmt,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

/// An HTTP client on one HTTP/1.1 connection that the caller has opened, to wrap in
/// [`UpgradeLayer`](super::UpgradeLayer).
///
/// The client sends the request target in the form that HTTP/1.1 requires (RFC 9112 §3.2), adds a missing `Host`, and
/// lists `TE` in `Connection` if the request has this field (RFC 9110 §10.1.4). `B` is the type of the request body.
/// If the server refuses the upgrade, the connection can carry the next request. After an upgrade the session owns the
/// connection, and [`poll_ready`](Service::poll_ready) fails.
///
/// ```no_run
/// use tokio::net::TcpStream;
/// use tower::{Layer as _, Service as _};
/// use tower_upgrade::client;
///
/// # async fn example() -> Result<(), tower_upgrade::BoxError> {
/// let io = TcpStream::connect("127.0.0.1:3000").await?;
/// io.set_nodelay(true)?; // or each small write may wait 40 ms for an acknowledgement
/// let connection = client::Http1::handshake(io).await?;
/// let mut client = client::UpgradeLayer::new().layer(connection);
///
/// let request = client::Request::get("http://localhost/".parse()?).protocol("echo");
/// let session = client.call(request).await?;
/// # Ok(())
/// # }
/// ```
pub struct Http1<B = Full<Bytes>> {
    sender: http1::SendRequest<B>,
}

impl Http1 {
    /// Creates an HTTP/1.1 client on a connection, and spawns a task that runs the connection.
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`Transport`](super::ErrorKind::Transport) if hyper cannot set up the connection. This
    /// method sends nothing to the server.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub async fn handshake<T>(io: T) -> Result<Self, Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::on(TokioIo::new(io)).await
    }
}

impl<B> Http1<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Does the same as [`handshake`](Self::handshake), for requests with bodies of type `B`.
    ///
    /// # Errors
    ///
    /// The same as of `handshake`.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub async fn handshake_with_body<T>(io: T) -> Result<Self, Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::on(TokioIo::new(io)).await
    }

    pub(super) async fn on<T>(io: T) -> Result<Self, Error>
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(io).await.map_err(Error::transport)?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender.into())
    }

    /// Sends a request, and returns an unsent request with the error.
    pub(super) async fn try_send(
        &mut self,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, Unsent<B>> {
        address(&mut request)?;
        Ok(self.sender.try_send_request(request).await?)
    }

    /// Returns whether the connection is open and can take a request at once.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }
}

impl<B> From<http1::SendRequest<B>> for Http1<B> {
    /// Converts the request sender of a hyper connection. The caller has to run the connection, with
    /// hyper's `with_upgrades`.
    fn from(sender: http1::SendRequest<B>) -> Self {
        Self { sender }
    }
}

impl<B> Service<Request<B>> for Http1<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = ResponseFuture<Response<Incoming>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.sender.poll_ready(cx).map_err(Error::transport)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Err(error) = address(&mut request) {
            return ResponseFuture::error(error);
        }
        let response = self.sender.send_request(request);
        ResponseFuture::new(async move { response.await.map_err(Error::transport) })
    }
}

/// Sets the request target and `Host` as HTTP/1.1 requires (RFC 9112 §3.2), and lists `TE` in `Connection`.
fn address<B>(request: &mut Request<B>) -> Result<(), Error> {
    has_no_user(request.uri())?;
    if !target::set_host(request) {
        return Err(Error::no_host());
    }
    list_te(request.headers_mut());
    let uri = std::mem::take(request.uri_mut()).into_parts();
    *request.uri_mut() = if *request.method() == Method::CONNECT {
        uri.authority.ok_or_else(Error::no_host)?.into()
    } else {
        let path = uri.path_and_query;
        path.unwrap_or_else(|| PathAndQuery::from_static("/"))
            .into()
    };
    Ok(())
}

/// Lists `TE` in `Connection` if the request has this field (RFC 9110 §10.1.4). Without `TE: trailers`, a server may
/// leave out the trailers of its response, which gRPC needs.
fn list_te(headers: &mut HeaderMap) {
    if !headers.contains_key(header::TE) || connection_has(headers, "te") {
        return;
    }
    match headers.get_mut(header::CONNECTION) {
        // Some servers read only one `Connection` line.
        Some(options) => {
            let list = [options.as_bytes(), b", TE"].concat();
            *options = HeaderValue::try_from(list).expect("a valid value and a token");
        }
        None => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        }
    }
}

impl<B> fmt::Debug for Http1<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").finish_non_exhaustive()
    }
}
