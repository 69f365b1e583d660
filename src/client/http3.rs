//! A client connection of HTTP/3.

use super::{
    Error, ResponseFuture,
    http2::{address, ask, is_upgrade},
};
use crate::{error::BoxError, http3, http3::call::ClientConnection};
use bytes::Bytes;
use http::{Method, Request, Response, Version, uri::Scheme};
use http_body_util::Full;
use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};
use tower_service::Service;

/// An HTTP client on one QUIC connection that the caller has opened, for many sessions, to wrap in
/// [`UpgradeLayer`](super::UpgradeLayer).
///
/// The client sends an `Upgrade` as an extended CONNECT (RFC 9220), if the server allows it. `B` is the type of the
/// request body.
///
/// All clones use the same connection, which closes when all clones have been dropped and its last session has ended.
/// Configure quinn with the protocol `h3` (ALPN), and with [`http3::transport_config`], which bounds the memory of the
/// connection.
///
/// ```no_run
/// use tower::{Layer as _, Service as _};
/// use tower_upgrade::client;
///
/// # async fn example(endpoint: quinn::Endpoint) -> Result<(), tower_upgrade::BoxError> {
/// let quic = endpoint.connect("[::1]:443".parse()?, "localhost")?.await?;
/// let connection = client::Http3::handshake(quic).await?;
/// let mut client = client::UpgradeLayer::new().layer(connection);
///
/// let request = client::Request::get("https://localhost/".parse()?).protocol("echo");
/// let session = client.call(request.clone()).await?;
/// let another = client.call(request).await?;
/// # Ok(())
/// # }
/// ```
pub struct Http3<B = Full<Bytes>> {
    connection: ClientConnection,
    allows_extended_connect: bool,
    _body: PhantomData<fn(B)>,
}

impl Http3 {
    /// Starts HTTP/3 on a connection, and waits for the server's `SETTINGS`. A spawned task runs the connection.
    ///
    /// The handshake has no time limit: wrap it in `tokio::time::timeout`.
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`Transport`](super::ErrorKind::Transport) if the connection breaks, or if the server
    /// violates HTTP/3.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn handshake(connection: quinn::Connection) -> Result<Self, Error> {
        Self::handshake_with_body(connection).await
    }
}

impl<B> Http3<B> {
    /// Does the same as [`handshake`](Http3::handshake), for requests with bodies of type `B`.
    ///
    /// # Errors
    ///
    /// The same as of `handshake`.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn handshake_with_body(connection: quinn::Connection) -> Result<Self, Error> {
        let connection = ClientConnection::start(connection).await;
        let connection = connection.map_err(Error::transport)?;
        let settings = connection.shared.peer.get();
        Ok(Self {
            allows_extended_connect: settings.is_some_and(|peer| peer.enable_connect_protocol),
            connection,
            _body: PhantomData,
        })
    }

    /// Returns whether the server allows extended CONNECT (`SETTINGS_ENABLE_CONNECT_PROTOCOL`, RFC 9220 §3).
    #[must_use]
    pub fn allows_extended_connect(&self) -> bool {
        self.allows_extended_connect
    }
}

impl<B: http_body::Body> Http3<B> {
    /// Checks that this connection can carry the request.
    fn supports(&self, request: &Request<B>) -> Result<(), Error> {
        if !is_upgrade(request) {
            Ok(())
        } else if !self.allows_extended_connect {
            Err(Error::unsupported(
                "the HTTP/3 server does not allow extended CONNECT",
            ))
        } else if *request.method() != Method::GET || !request.body().is_end_stream() {
            Err(Error::unsupported(
                "over HTTP/3 only a GET without a body can request an upgrade",
            ))
        } else {
            Ok(())
        }
    }
}

impl<B> Clone for Http3<B> {
    fn clone(&self) -> Self {
        Self {
            connection: self.connection.clone(),
            allows_extended_connect: self.allows_extended_connect,
            _body: PhantomData,
        }
    }
}

impl<B> Service<Request<B>> for Http3<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<http3::Body>;
    type Error = Error;
    type Future = ResponseFuture<Response<http3::Body>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(self.connection.check().map_err(Error::transport))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let asked = match self.supports(&request) {
            Ok(()) => address(&mut request, Scheme::HTTPS).map(|()| ask(&mut request)),
            Err(error) => Err(error),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return ResponseFuture::error(error),
        };
        *request.version_mut() = Version::HTTP_3;
        let response = self.connection.clone().call(request);
        ResponseFuture::new(async move {
            let mut response = response.await.map_err(Error::transport)?;
            if let Some(asked) = asked {
                response.extensions_mut().insert(asked);
            }
            Ok(response)
        })
    }
}

impl<B> fmt::Debug for Http3<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http3")
            .field("allows_extended_connect", &self.allows_extended_connect)
            .finish_non_exhaustive()
    }
}
