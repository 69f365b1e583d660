//! Connections in memory between a client and a server of hyper.

use crate::{error::BoxError, message::target};
use http::{
    Method, Request, Response, Version, header,
    uri::{Authority, Scheme},
};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    server,
    service::HttpService,
};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// How many bytes may be in flight in each direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// The client side of a connection to a service.
pub(super) enum Connection<B> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

impl<B> Connection<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Connects to a service over HTTP/2 or HTTP/1.1.
    ///
    /// Over HTTP/2 the client does not wait for the settings of the server, which is known to allow extended
    /// CONNECT.
    pub(super) async fn open<S, ResBody>(version: Version, service: S) -> Result<Self, BoxError>
    where
        S: HttpService<Incoming, ResBody = ResBody, Error: Into<BoxError>> + Send + 'static,
        S::Future: Send,
        ResBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let (client_io, server_io) = tokio::io::duplex(BUFFER_BYTES);
        let (client_io, server_io) = (TokioIo::new(client_io), TokioIo::new(server_io));
        match version {
            Version::HTTP_2 => {
                let server = server::conn::http2::Builder::new(TokioExecutor::new())
                    .enable_connect_protocol()
                    .serve_connection(server_io, service);
                tokio::spawn(server);
                let client = http2::handshake(TokioExecutor::new(), client_io).await;
                let (sender, connection) = client?;
                tokio::spawn(connection);
                Ok(Self::Http2(sender))
            }
            _ => {
                let server = server::conn::http1::Builder::new()
                    .serve_connection(server_io, service)
                    .with_upgrades();
                tokio::spawn(server);
                let (sender, connection) = http1::handshake(client_io).await?;
                tokio::spawn(connection.with_upgrades());
                Ok(Self::Http1(sender))
            }
        }
    }

    pub(super) async fn send(
        &mut self,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, BoxError> {
        let response = match self {
            Self::Http1(sender) => {
                // A request without a host is sent unchanged: a server has to reject it.
                let _has_host = target::set_host(&mut request);
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                address(&mut request)?;
                sender.send_request(request).await
            }
        };
        Ok(response?)
    }
}

/// Returns the HTTP version to send a request over: HTTP/2 for a request with a `:protocol`, even if its own
/// version is HTTP/1.1.
pub(super) fn version<B>(request: &Request<B>) -> Result<Version, BoxError> {
    let has_protocol = request.extensions().get::<hyper::ext::Protocol>().is_some();
    match request.version() {
        Version::HTTP_3 => Err("requests of version HTTP/3 cannot be sent".into()),
        Version::HTTP_2 => Ok(Version::HTTP_2),
        _ if has_protocol => Ok(Version::HTTP_2),
        _ => Ok(Version::HTTP_11),
    }
}

/// Completes the request target as HTTP/2 requires (RFC 9113 §8.3.1). A test can thus build the request as for
/// HTTP/1.1: with a path, and with `Host` if it matters.
fn address<B>(request: &mut Request<B>) -> Result<(), BoxError> {
    *request.version_mut() = Version::HTTP_2;
    let is_tunnel = *request.method() == Method::CONNECT
        && request.extensions().get::<hyper::ext::Protocol>().is_none();
    if is_tunnel {
        return Ok(());
    }
    let host = request.headers_mut().remove(header::HOST);
    let uri = std::mem::take(request.uri_mut());
    let authority = match (uri.authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes())?,
        (None, None) => Authority::from_static("localhost"),
    };
    *request.uri_mut() = target::http2(uri, Scheme::HTTP, Some(authority))?;
    Ok(())
}
