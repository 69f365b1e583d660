//! A client connection of HTTP/1.1.

use super::{Error, ResponseFuture, request::has_no_user};
use crate::message::target;
use bytes::Bytes;
use http::{Method, Request, Response, uri::PathAndQuery};
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
/// The client sends the request target in the form that HTTP/1.1 requires (RFC 9112 §3.2), and adds a missing `Host`.
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
pub struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
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

    pub(super) async fn on<T>(io: T) -> Result<Self, Error>
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(io).await.map_err(Error::transport)?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender.into())
    }
}

impl From<http1::SendRequest<Full<Bytes>>> for Http1 {
    /// Converts the request sender of a hyper connection. The caller has to run the connection, with
    /// hyper's `with_upgrades`.
    fn from(sender: http1::SendRequest<Full<Bytes>>) -> Self {
        Self { sender }
    }
}

impl Service<Request<Full<Bytes>>> for Http1 {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = ResponseFuture<Response<Incoming>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.sender.poll_ready(cx).map_err(Error::transport)
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        if let Err(error) = address(&mut request) {
            return ResponseFuture::error(error);
        }
        let response = self.sender.send_request(request);
        ResponseFuture::new(async move { response.await.map_err(Error::transport) })
    }
}

/// Sets the request target and `Host` as HTTP/1.1 requires (RFC 9112 §3.2).
fn address<B>(request: &mut Request<B>) -> Result<(), Error> {
    has_no_user(request.uri())?;
    if !target::set_host(request) {
        return Err(Error::no_host());
    }
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

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").finish_non_exhaustive()
    }
}
