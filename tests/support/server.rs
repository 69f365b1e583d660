//! A hyper server on a loopback socket.

use super::{Peer, meter, soon};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tower::Service;
use tower_upgrade::BoxError;

/// The server that serves a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// hyper's `http1` connection.
    Http1,
    /// hyper-util's `auto` connection, as in `axum::serve`: HTTP/1 and HTTP/2.
    Auto,
    /// hyper-util's `auto` connection without extended CONNECT.
    AutoWithoutExtendedConnect,
    /// hyper's `http2` connection with extended CONNECT.
    Http2,
    /// hyper's `http2` connection with stream windows much smaller than the connection's.
    Http2SmallStreams,
    /// hyper's `http1` connection with `half_close(true)`.
    HalfClose,
    /// hyper's `http1` connection without `with_upgrades`.
    NoUpgrades,
}

pub struct Server {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accepting: JoinHandle<()>,
}

impl Server {
    pub async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Self::start_via(Via::Http1, service).await
    }

    pub async fn start_via<S, B>(via: Via, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Self::start_with(via, service, |io| async { Ok(io) }).await
    }

    /// Starts a server that first passes each accepted socket to `wrap`, for example for a TLS handshake.
    pub async fn start_with<S, B, W, Fut, Io>(via: Via, service: S, wrap: W) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
        W: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<Io>> + Send + 'static,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move {
                while let Ok((io, _)) = listener.accept().await {
                    // Without TCP_NODELAY small HTTP/2 frames wait for delayed acknowledgements.
                    io.set_nodelay(true).expect("a socket");
                    let io = wrap(io);
                    let service = TowerToHyperService::new(service.clone());
                    let connection = tokio::spawn(async move {
                        let Ok(io) = io.await else { return };
                        // Tests check the end of a connection from the client side.
                        let _ = serve(via, TokioIo::new(io), service).await;
                    });
                    connections.lock().expect("no panic").push(connection);
                }
            }
        });
        Self {
            address,
            connections,
            accepting,
        }
    }

    /// Starts a server and returns a watch of the bytes that it has read.
    pub async fn start_metered<S, B>(via: Via, service: S) -> (Self, watch::Receiver<usize>)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (read, has_read) = watch::channel(0);
        let server = Self::start_with(via, service, move |io| {
            let read = read.clone();
            async move { Ok(meter::Metered::new(io, read)) }
        });
        (server.await, has_read)
    }

    pub async fn connect(&self) -> Peer<TcpStream> {
        let io = TcpStream::connect(self.address).await.expect("loopback");
        io.set_nodelay(true).expect("a socket");
        Peer::new(io)
    }

    /// Aborts all connections accepted so far.
    pub fn abort_connections(&self) {
        for connection in &*self.connections.lock().expect("no panic") {
            connection.abort();
        }
    }

    /// Waits until hyper has ended all connections accepted so far.
    pub async fn connections_ended(&self) {
        let connections = std::mem::take(&mut *self.connections.lock().expect("no panic"));
        for connection in connections {
            let _ = soon(connection).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<S, B, Io>(
    via: Via,
    io: TokioIo<Io>,
    service: TowerToHyperService<S>,
) -> Result<(), BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut http1 = hyper::server::conn::http1::Builder::new();
    http1.half_close(via == Via::HalfClose);
    match via {
        Via::Http1 | Via::HalfClose => http1.serve_connection(io, service).with_upgrades().await?,
        Via::NoUpgrades => http1.serve_connection(io, service).await?,
        Via::Auto | Via::AutoWithoutExtendedConnect => {
            let mut auto = auto::Builder::new(TokioExecutor::new());
            if via == Via::Auto {
                auto.http2().enable_connect_protocol();
            }
            auto.serve_connection_with_upgrades(io, service).await?;
        }
        Via::Http2 | Via::Http2SmallStreams => {
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.enable_connect_protocol();
            if via == Via::Http2SmallStreams {
                http2.initial_stream_window_size(64 * 1024);
            }
            http2.serve_connection(io, service).await?;
        }
    }
    Ok(())
}
