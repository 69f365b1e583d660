//! A server connection that a test can shut down gracefully, and a service that passes its upgrades to the
//! test.

use crate::support::{Peer, plain, soon};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http2, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    pin::{Pin, pin},
};
use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tower::{Service, service_fn};
use tower_upgrade::BoxError;

/// A server connection in its own task.
pub(crate) struct Connection {
    shut_down_requests: oneshot::Sender<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<Result<(), BoxError>>,
}

impl Connection {
    pub(crate) fn serve<C, E>(connection: C, shut_down: fn(Pin<&mut C>)) -> Self
    where
        C: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let (shut_down_requests, request) = oneshot::channel::<oneshot::Sender<()>>();
        let served = tokio::spawn(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                end = connection.as_mut() => return end.map_err(Into::into),
                Ok(confirm) = request => {
                    shut_down(connection.as_mut());
                    let _ = confirm.send(());
                }
            }
            connection.await.map_err(Into::into)
        });
        Self {
            shut_down_requests,
            served,
        }
    }

    /// Starts a graceful shutdown and waits until hyper has received the signal.
    pub(crate) async fn shut_down(self) -> JoinHandle<Result<(), BoxError>> {
        let (confirm, confirmed) = oneshot::channel();
        self.shut_down_requests
            .send(confirm)
            .expect("an open connection");
        soon(confirmed).await.expect("an open connection");
        self.served
    }
}

/// Returns the server side and the client side of a loopback connection.
pub(crate) async fn sockets() -> (TcpStream, Peer<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let peer = TcpStream::connect(listener.local_addr().expect("bound"));
    let (peer, accepted) = tokio::join!(peer, listener.accept());
    (
        accepted.expect("loopback").0,
        Peer::new(peer.expect("loopback")),
    )
}

/// Serves an HTTP/2 connection over a loopback socket with hyper, with extended CONNECT.
pub(crate) async fn http2<S>(service: S) -> (Connection, Peer<TcpStream>)
where
    S: Upgrades,
{
    let (io, peer) = sockets().await;
    let connection = http2::Builder::new(TokioExecutor::new())
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let connection = Connection::serve(connection, http2::Connection::graceful_shutdown);
    (connection, peer)
}

/// Serves an HTTP/2 connection in memory, for tests with paused time.
pub(crate) fn http2_in_memory<S>(service: S) -> (Connection, Peer<DuplexStream>)
where
    S: Upgrades,
{
    let (peer, io) = tokio::io::duplex(64 * 1024);
    let connection = http2::Builder::new(TokioExecutor::new())
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let connection = Connection::serve(connection, http2::Connection::graceful_shutdown);
    (connection, Peer::new(peer))
}

/// The bounds that hyper's HTTP/2 server puts on a service.
pub(crate) trait Upgrades:
    Service<
        Request<Incoming>,
        Response = Response<Self::Body>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    type Body: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> Upgrades for S
where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// The `OnUpgrade`s of the requests that the service has received.
pub(crate) struct Offered(mpsc::UnboundedReceiver<OnUpgrade>);

impl Offered {
    pub(crate) async fn next(&mut self) -> OnUpgrade {
        soon(self.0.recv()).await.expect("the service lives")
    }

    /// Waits until hyper hands over the next connection or stream.
    pub(crate) async fn io(&mut self) -> TokioIo<hyper::upgrade::Upgraded> {
        TokioIo::new(soon(self.next().await).await.expect("an upgrade"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns a service without any layer of this crate.
///
/// The service answers `status` if the request has hyper's `OnUpgrade`, and sends that to the test. Other
/// requests go to `plain`.
pub(crate) fn answering(
    status: StatusCode,
) -> (
    impl Upgrades<Body = Full<Bytes>, Error = Infallible, Response = Response<Full<Bytes>>>,
    Offered,
) {
    let (offer, offered) = mpsc::unbounded_channel();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let offer = offer.clone();
        async move {
            let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
                return plain(request).await;
            };
            let _ = offer.send(upgrade);
            let mut response = Response::new(Full::default());
            *response.status_mut() = status;
            if status == StatusCode::SWITCHING_PROTOCOLS {
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("echo"));
            }
            Ok(response)
        }
    });
    (service, Offered(offered))
}
