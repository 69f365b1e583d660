//! One connection that a test can ask to shut down, and a service that gives its upgrades away.

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

/// A connection that is being served.
pub(crate) struct Connection {
    ask: oneshot::Sender<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<Result<(), BoxError>>,
}

impl Connection {
    pub(crate) fn serve<C, E>(connection: C, shut_down: fn(Pin<&mut C>)) -> Self
    where
        C: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let (ask, asked) = oneshot::channel::<oneshot::Sender<()>>();
        let served = tokio::spawn(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                end = connection.as_mut() => return end.map_err(Into::into),
                Ok(was_asked) = asked => {
                    shut_down(connection.as_mut());
                    let _ = was_asked.send(());
                }
            }
            connection.await.map_err(Into::into)
        });
        Self { ask, served }
    }

    /// Asks for a graceful shutdown, and waits until hyper was asked.
    pub(crate) async fn shut_down(self) -> JoinHandle<Result<(), BoxError>> {
        let (was_asked, asked) = oneshot::channel();
        self.ask.send(was_asked).expect("it is still served");
        soon(asked).await.expect("it is still served");
        self.served
    }
}

/// Both ends of a loopback connection.
pub(crate) async fn sockets() -> (TcpStream, Peer<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let peer = TcpStream::connect(listener.local_addr().expect("bound"));
    let (peer, accepted) = tokio::join!(peer, listener.accept());
    (
        accepted.expect("loopback").0,
        Peer::new(peer.expect("loopback")),
    )
}

/// hyper's own HTTP/2 connection over a loopback socket, with extended CONNECT.
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

/// The same in memory, for tests with paused time.
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

/// A service as these tests serve it.
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

/// Upgrades that plain hyper has offered to a service.
pub(crate) struct Offered(mpsc::UnboundedReceiver<OnUpgrade>);

impl Offered {
    pub(crate) async fn next(&mut self) -> OnUpgrade {
        soon(self.0.recv()).await.expect("the service lives")
    }

    /// The connection or stream, after the hand-over.
    pub(crate) async fn io(&mut self) -> TokioIo<hyper::upgrade::Upgraded> {
        TokioIo::new(soon(self.next().await).await.expect("an upgrade"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A service with nothing of this crate's. It answers `status` where hyper offers an upgrade, which
/// goes to the test. Other requests it answers in plain.
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
