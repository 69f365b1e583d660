//! A client connection of HTTP/2.

use super::{
    Error, ResponseFuture,
    error::Unsent,
    request::{Asked, has_no_user},
};
use crate::{
    error::BoxError,
    message::target,
    negotiate::{self, kind::UpgradeKind, protocol::Protocol},
};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    Method, Request, Response, Version, header,
    uri::{Authority, Scheme},
};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http2, rt::Executor};
use hyper_util::rt::TokioIo;
use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use tower_service::Service;

/// The flow-control window of the connection, at its maximum. With hyper's default of 5 MiB, three sessions that are
/// not read stop all other sessions of their connection.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// An HTTP client on one HTTP/2 connection that the caller has opened, for many sessions, to wrap in
/// [`UpgradeLayer`](super::UpgradeLayer).
///
/// The client sends an `Upgrade` as an extended CONNECT (RFC 8441), if the server allows it. `B` is the type of the
/// request body.
///
/// All clones use the same connection, which closes when all clones have been dropped and its last session has ended.
/// If a session does not read, up to 2 MiB are buffered for it, and the other sessions continue. If the server does not
/// read, the stream [stays open](crate::manual::stack_below#a-stream-outlives-its-session) after its session has ended.
///
/// ```no_run
/// use tokio::net::TcpStream;
/// use tower::{Layer as _, Service as _};
/// use tower_upgrade::client;
///
/// # async fn example() -> Result<(), tower_upgrade::BoxError> {
/// let io = TcpStream::connect("127.0.0.1:3000").await?;
/// io.set_nodelay(true)?; // or each small write may wait 40 ms for an acknowledgement
/// let connection = client::Http2::handshake(io).await?;
/// let mut client = client::UpgradeLayer::new().layer(connection);
///
/// let request = client::Request::get("http://localhost/".parse()?).protocol("echo");
/// let session = client.call(request.clone()).await?;
/// let another = client.call(request).await?;
/// # Ok(())
/// # }
/// ```
pub struct Http2<B = Full<Bytes>> {
    sender: http2::SendRequest<B>,
    allows_extended_connect: bool,
    /// The server's `SETTINGS_MAX_CONCURRENT_STREAMS`, at the last request.
    max_streams: Arc<AtomicUsize>,
}

impl Http2 {
    /// Starts HTTP/2 on a connection, and waits for the server's `SETTINGS`. Spawned tasks run the connection.
    ///
    /// If `SETTINGS_MAX_CONCURRENT_STREAMS` is 0, the handshake waits until the server allows a stream.
    ///
    /// The handshake has no time limit: wrap it in `tokio::time::timeout`. For the handshakes of
    /// [`Dial`](super::Dial), the [`handshake_timeout`](super::UpgradeLayer::handshake_timeout) applies.
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`Transport`](super::ErrorKind::Transport) if the connection breaks, or if the server
    /// does not support HTTP/2.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn handshake<T>(io: T) -> Result<Self, Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::on(TokioIo::new(io)).await
    }
}

impl<B> Http2<B>
where
    B: http_body::Body + Send + Unpin + 'static,
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
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
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
        let tasks = Tasks::default();
        let mut builder = http2::Builder::new(tasks.clone());
        builder
            .initial_connection_window_size(CONNECTION_WINDOW)
            // Start at 0: the server's settings have arrived once the limit is above 0.
            .initial_max_send_streams(0);
        let handshake = builder.handshake(io).await;
        let (sender, connection) = handshake.map_err(Error::transport)?;
        let mut connection = Box::pin(connection);
        while connection.current_max_send_streams() == 0 {
            let polled = pin!(tasks.polled.notified());
            if let Either::Left((ended, _)) = select(&mut connection, polled).await {
                return Err(match ended {
                    Err(error) => Error::transport(error),
                    Ok(()) => Error::transport("the server closed the connection"),
                });
            }
        }
        let allows_extended_connect = connection.is_extended_connect_protocol_enabled();
        let max_streams = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        tokio::spawn({
            let max_streams = Arc::clone(&max_streams);
            poll_fn(move |cx| {
                let ended = connection.as_mut().poll(cx);
                max_streams.store(connection.current_max_send_streams(), Ordering::Relaxed);
                ended
            })
        });
        Ok(Self {
            sender,
            allows_extended_connect,
            max_streams,
        })
    }

    /// Sends a request, and returns an unsent request with the error.
    pub(super) async fn try_send(
        &mut self,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, Unsent<B>> {
        address(&mut request, Scheme::HTTP)?;
        *request.version_mut() = Version::HTTP_2;
        Ok(self.sender.try_send_request(request).await?)
    }

    /// Returns whether the connection has ended, or takes no further requests.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns the server's limit of concurrent streams.
    pub(super) fn max_streams(&self) -> usize {
        self.max_streams.load(Ordering::Relaxed)
    }

    /// Checks that this connection can carry the request.
    ///
    /// # Errors
    ///
    /// Returns an error if the `Upgrade` has no HTTP/2 equivalent, or if the server does not allow extended CONNECT.
    pub(super) fn supports(&self, request: &Request<B>) -> Result<(), Error> {
        if !is_upgrade(request) {
            Ok(())
        } else if !self.allows_extended_connect {
            Err(Error::unsupported(
                "the HTTP/2 server does not allow extended CONNECT",
            ))
        } else if *request.method() != Method::GET || !request.body().is_end_stream() {
            Err(Error::unsupported(
                "over HTTP/2 only a GET without a body can request an upgrade",
            ))
        } else {
            Ok(())
        }
    }
}

impl<B> Http2<B> {
    /// Returns whether the server allows extended CONNECT (`SETTINGS_ENABLE_CONNECT_PROTOCOL`, RFC 8441 §3).
    #[must_use]
    pub fn allows_extended_connect(&self) -> bool {
        self.allows_extended_connect
    }
}

impl<B> Clone for Http2<B> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            allows_extended_connect: self.allows_extended_connect,
            max_streams: Arc::clone(&self.max_streams),
        }
    }
}

impl<B> Service<Request<B>> for Http2<B>
where
    B: http_body::Body + Send + Unpin + 'static,
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
        let asked = match self.supports(&request) {
            Ok(()) => address(&mut request, Scheme::HTTP).map(|()| ask(&mut request)),
            Err(error) => Err(error),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return ResponseFuture::error(error),
        };
        let response = self.sender.send_request(request);
        ResponseFuture::new(async move {
            let mut response = response.await.map_err(Error::transport)?;
            if let Some(asked) = asked {
                response.extensions_mut().insert(asked);
            }
            Ok(response)
        })
    }
}

pub(super) fn is_upgrade<B>(request: &Request<B>) -> bool {
    let kind = negotiate::kind(
        request.method(),
        request.version(),
        request.headers(),
        request.extensions(),
    );
    kind == Some(UpgradeKind::Upgrade)
}

/// Sets the request URI as HTTP/2 and HTTP/3 require (RFC 9113 §8.3.1): the value of `Host` becomes the `:authority`, and
/// `scheme` the scheme of a URI without one.
pub(super) fn address<B>(request: &mut Request<B>, scheme: Scheme) -> Result<(), Error> {
    has_no_user(request.uri())?;
    let uri = std::mem::take(request.uri_mut());
    let mut authority = uri.authority().cloned();
    if *request.method() == Method::CONNECT {
        let target = authority.ok_or_else(Error::no_host)?;
        request.headers_mut().remove(header::HOST);
        *request.uri_mut() = target.into();
        return Ok(());
    }
    if let Some(host) = request.headers_mut().remove(header::HOST) {
        let host = Authority::try_from(host.as_bytes()).map_err(|_| Error::no_host())?;
        authority = Some(host);
    }
    *request.uri_mut() = target::http2(uri, scheme, authority).map_err(|_| Error::no_host())?;
    Ok(())
}

/// Converts an HTTP/1.1 `Upgrade` to an extended CONNECT for its first offered protocol. hyper, and the encoder for
/// HTTP/3, remove the header fields that these versions do not have.
pub(super) fn ask<B>(request: &mut Request<B>) -> Option<Asked> {
    let asked = is_upgrade(request).then(|| {
        let protocol = {
            let mut offered = negotiate::http1::offered(request.headers());
            offered.next().map(Protocol::from)
        };
        if let Some(protocol) = &protocol {
            let protocol = negotiate::extended_connect::protocol(protocol);
            request.extensions_mut().insert(protocol);
        }
        *request.method_mut() = Method::CONNECT;
        // WebSocket over HTTP/2 does not use the key (RFC 8441 §5).
        request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
        Asked {
            kind: UpgradeKind::ExtendedConnect,
            protocols: protocol.into_iter().collect(),
        }
    });
    *request.version_mut() = Version::HTTP_2;
    asked
}

/// Spawns hyper's tasks, and notifies `polled` after each poll of a task.
#[derive(Clone, Default)]
struct Tasks {
    polled: Arc<Notify>,
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let polled = Arc::clone(&self.polled);
        tokio::spawn(async move {
            let mut task = pin!(task);
            std::future::poll_fn(|cx| {
                let poll = task.as_mut().poll(cx);
                polled.notify_one();
                poll.map(drop)
            })
            .await;
        });
    }
}

impl<B> fmt::Debug for Http2<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2")
            .field("allows_extended_connect", &self.allows_extended_connect)
            .finish_non_exhaustive()
    }
}
