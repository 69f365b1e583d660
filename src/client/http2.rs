//! A connection of HTTP/2.

use super::{
    Error,
    request::{Asked, has_no_user},
};
use crate::{
    error::BoxFuture,
    negotiate::{self, kind::UpgradeKind, protocol::Protocol},
};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    Method, Request, Response, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http2, rt::Executor};
use hyper_util::rt::TokioIo;
use std::{
    fmt,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use tower_service::Service;

/// How much of all streams may be under way unread: as much as there can be. With hyper's 5 MiB three
/// sessions that are not read stop all others of their connection.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A connection of HTTP/2 of one's own, for many sessions: a service of HTTP, for
/// [`UpgradeLayer`](super::UpgradeLayer) to be put around.
///
/// An `Upgrade` is asked for with extended CONNECT (RFC 8441), if the server allows it. Each clone
/// uses the same connection. A session that is not read holds up to 2 MiB, and does not stop the others. The
/// connection ends with its last session when all clones were dropped. What a session has written and the
/// server does not take [keeps its stream](crate::manual::stack_below#a-stream-outlives-its-session) beyond its
/// end.
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
#[derive(Clone)]
pub struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    allows_extended_connect: bool,
}

impl Http2 {
    /// Begins to speak HTTP/2 on a connection, and waits for what the server says of itself (its
    /// `SETTINGS`). The connection runs in tasks of its own.
    ///
    /// A server that has no room for a stream yet (`SETTINGS_MAX_CONCURRENT_STREAMS` of 0) is waited for until
    /// it has.
    ///
    /// There is no time limit. Within a call of [`Dial`](super::Dial) that of the layer holds.
    ///
    /// # Errors
    ///
    /// Of kind [`Transport`](super::ErrorKind::Transport): the connection broke, or the server does not
    /// speak HTTP/2.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the connection is closed.
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
        let tasks = Tasks::default();
        let mut builder = http2::Builder::new(tasks.clone());
        builder
            .initial_connection_window_size(CONNECTION_WINDOW)
            // So it is known that the settings have come: by then there is room for a stream.
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
        tokio::spawn(connection);
        Ok(Self {
            sender,
            allows_extended_connect,
        })
    }

    /// Whether the server allows extended CONNECT (`SETTINGS_ENABLE_CONNECT_PROTOCOL`, RFC 8441 §3).
    #[must_use]
    pub fn allows_extended_connect(&self) -> bool {
        self.allows_extended_connect
    }

    /// Whether a request can be sent on this connection.
    ///
    /// # Errors
    ///
    /// Why it cannot: an `Upgrade` of HTTP/1.1 has no counterpart, or the server does not allow it.
    pub(super) fn supports(&self, request: &Request<Full<Bytes>>) -> Result<(), Error> {
        if !is_upgrade(request) {
            Ok(())
        } else if !self.allows_extended_connect {
            Err(Error::unsupported(
                "the HTTP/2 server does not allow extended CONNECT",
            ))
        } else if *request.method() != Method::GET || !request.body().is_end_stream() {
            Err(Error::unsupported(
                "over HTTP/2 only a GET without a body can ask for an upgrade",
            ))
        } else {
            Ok(())
        }
    }
}

impl Service<Request<Full<Bytes>>> for Http2 {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = BoxFuture<Result<Response<Incoming>, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.sender.poll_ready(cx).map_err(Error::transport)
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let asked = match self.supports(&request) {
            Ok(()) => address(&mut request).map(|()| ask(&mut request)),
            Err(error) => Err(error),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let response = self.sender.send_request(request);
        Box::pin(async move {
            let mut response = response.await.map_err(Error::transport)?;
            if let Some(asked) = asked {
                response.extensions_mut().insert(asked);
            }
            Ok(response)
        })
    }
}

fn is_upgrade<B>(request: &Request<B>) -> bool {
    let kind = negotiate::kind(
        request.method(),
        request.version(),
        request.headers(),
        request.extensions(),
    );
    kind == Some(UpgradeKind::Upgrade)
}

/// Says whom the request is for as HTTP/2 does (RFC 9113 §8.3.1): what `Host` says is the `:authority`.
fn address<B>(request: &mut Request<B>) -> Result<(), Error> {
    has_no_user(request.uri())?;
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    if *request.method() == Method::CONNECT {
        let target = uri.authority.ok_or_else(Error::no_host)?;
        request.headers_mut().remove(header::HOST);
        *request.uri_mut() = target.into();
        return Ok(());
    }
    if let Some(host) = request.headers_mut().remove(header::HOST) {
        let host = Authority::try_from(host.as_bytes()).map_err(|_| Error::no_host())?;
        uri.authority = Some(host);
    }
    uri.scheme.get_or_insert(Scheme::HTTP);
    uri.path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Error::no_host())?;
    Ok(())
}

/// Makes an `Upgrade` of HTTP/1.1 an extended CONNECT, for the first protocol that it offers. The fields
/// that HTTP/2 does not have are taken off by hyper.
fn ask<B>(request: &mut Request<B>) -> Option<Asked> {
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
        // WebSocket has no use for it here (RFC 8441 §5).
        request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
        Asked {
            kind: UpgradeKind::ExtendedConnect,
            protocols: protocol.into_iter().collect(),
        }
    });
    *request.version_mut() = Version::HTTP_2;
    asked
}

/// Runs what hyper wants to be run, and tells when it has done something.
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

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2")
            .field("allows_extended_connect", &self.allows_extended_connect)
            .finish_non_exhaustive()
    }
}
