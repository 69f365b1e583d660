//! Connections in memory, with hyper at both ends.

use crate::BoxError;
use http::{
    Method, Request, Response, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    server,
    service::HttpService,
};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// How much is under way between the two ends before a write has to wait.
const BUFFER_BYTES: usize = 64 * 1024;

/// The peer's end of a connection to a service.
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
    /// Connects with a service, over HTTP/2 or else HTTP/1.1.
    ///
    /// Over HTTP/2 nobody waits for the server's settings: that it allows extended CONNECT is known here.
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
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => {
                address(&mut request)?;
                sender.send_request(request).await
            }
        };
        Ok(response?)
    }
}

/// Which HTTP a request is for: one with a `:protocol` is for HTTP/2 whatever it says.
pub(super) fn version<B>(request: &Request<B>) -> Result<Version, BoxError> {
    let has_protocol = request.extensions().get::<hyper::ext::Protocol>().is_some();
    match request.version() {
        Version::HTTP_3 => Err("there is no HTTP/3 in memory".into()),
        Version::HTTP_2 => Ok(Version::HTTP_2),
        _ if has_protocol => Ok(Version::HTTP_2),
        _ => Ok(Version::HTTP_11),
    }
}

/// Makes the target what HTTP/2 has to have (RFC 9113 §8.3.1), so that a request can be made like one of
/// HTTP/1.1: with a path, and `Host` if it matters.
fn address<B>(request: &mut Request<B>) -> Result<(), BoxError> {
    *request.version_mut() = Version::HTTP_2;
    let is_tunnel = *request.method() == Method::CONNECT
        && request.extensions().get::<hyper::ext::Protocol>().is_none();
    let host = request.headers_mut().remove(header::HOST);
    if is_tunnel {
        return Ok(());
    }
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    if uri.authority.is_none() {
        uri.authority = Some(match host {
            Some(host) => Authority::try_from(host.as_bytes())?,
            None => Authority::from_static("localhost"),
        });
    }
    uri.scheme.get_or_insert(Scheme::HTTP);
    uri.path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(uri)?;
    Ok(())
}
