//! The server of the larger examples: TCP or TLS, HTTP/1.1, HTTP/2 or HTTP/3, upgrades, and a shutdown that drains
//! sessions.

#[cfg(feature = "http3")]
mod http3;
#[cfg(not(feature = "http3"))]
#[path = "no_http3.rs"]
mod http3;

use http::{Request, Response, header};
use http3::Http3;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};
use tower_upgrade::{BoxError, BoxIo, DrainOptions, Sessions};

/// The body of requests. Those of hyper and of HTTP/3 have different types: with one type for both, one service serves
/// all versions.
pub(crate) use axum::body::Body;

pub(crate) struct Server {
    pub(crate) url: String,
    /// Serves HTTP/1.1 and HTTP/2, as the client's first bytes select.
    pub(crate) http: auto::Builder<TokioExecutor>,
    /// The time for load balancers to notice the shutdown. The server still accepts connections. By default zero.
    pub(crate) notice: Duration,
    /// The time over which sessions get their stop signals. By default zero.
    pub(crate) spread: Duration,
    /// The time for sessions to end, including the notice. By default 10 seconds.
    pub(crate) deadline: Duration,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    http3: Option<Http3>,
}

impl Server {
    /// Listens on `address` and prints the URL. With `tls` the server generates a self-signed certificate. With `http3`
    /// it uses TLS, and also listens on the UDP port of the same number.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: bool,
        http3: bool,
    ) -> Result<Self, BoxError> {
        let tls = (tls || http3).then(|| tls_config(address)).transpose()?;
        let (listener, http3) = listen(address, tls.as_ref().filter(|_| http3)).await?;
        let address = listener.local_addr()?;
        let mut http = auto::Builder::new(TokioExecutor::new());
        // Without a timer hyper sets no time limit for request heads.
        http.http1().timer(TokioTimer::new());
        // By default the window of a stream is as large as that of its connection, so that one session that stops
        // reading stalls all others on its connection. This connection window is enough for all 200 concurrent streams.
        http.http2()
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(16 * 1024 * 1024);
        let server = Self {
            url: format!(
                "{}://{address}",
                if tls.is_some() { "https" } else { "http" }
            ),
            http,
            notice: Duration::ZERO,
            spread: Duration::ZERO,
            deadline: Duration::from_secs(10),
            listener,
            tls: tls.map(|tls| TlsAcceptor::from(Arc::new(tls))),
            http3,
        };
        println!("listening on {}", server.url);
        Ok(server)
    }

    /// Serves `app` until SIGINT or SIGTERM, then drains the sessions and prints the result. The extensions of each
    /// request contain the client's [`SocketAddr`].
    pub(crate) async fn run<S, B>(self, app: S, sessions: Sessions) -> Result<(), BoxError>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let connections = GracefulShutdown::new();
        let closing = CancellationToken::new();
        // The drain gives sessions 2 seconds after the deadline.
        let grace = self.deadline.saturating_sub(self.notice) + Duration::from_secs(2);
        let alt_svc = self.http3.as_ref().map(|http3| http3.alt_svc.clone());
        let http3 = self.http3.map(|http3| {
            let serving = http3.serve(app.clone(), closing.clone(), grace);
            tokio::spawn(serving)
        });
        let app = app.map_response(move |mut response: Response<B>| {
            if let Some(alt_svc) = &alt_svc {
                response
                    .headers_mut()
                    .insert(header::ALT_SVC, alt_svc.clone());
            }
            response
        });
        let serve = async || -> Infallible {
            loop {
                let (tcp, peer) = accept(&self.listener).await;
                let service = app
                    .clone()
                    .map_request(move |mut request: Request<Incoming>| {
                        request.extensions_mut().insert(peer);
                        request.map(Body::new)
                    });
                let service = TowerToHyperService::new(service);
                let (http, tls) = (self.http.clone(), self.tls.clone());
                let (watcher, closing) = (connections.watcher(), closing.clone());
                tokio::spawn(async move {
                    let connection = async {
                        let io = closing.run_until_cancelled(handshake(tls, tcp));
                        let Some(io) = io.await else { return Ok(()) };
                        let io = TokioIo::new(io?);
                        let connection = http.serve_connection_with_upgrades(io, service);
                        watcher.watch(connection).await
                    };
                    if let Err(error) = connection.await {
                        eprintln!("the connection from {peer} failed: {error:?}");
                    }
                });
            }
        };
        tokio::select! {
            biased;
            signal = shutdown_signal() => signal?,
            never = serve() => match never {},
        }

        // The example `graceful` explains these steps.
        let deadline = Instant::now() + self.deadline;
        let draining = sessions.drain(DrainOptions::new(self.deadline).spread(self.spread));
        let noticed = deadline.min(Instant::now() + self.notice);
        let _: Result<Infallible, _> = timeout_at(noticed, serve()).await;
        drop(self.listener);
        closing.cancel();
        let closed = timeout(grace, async {
            connections.shutdown().await;
            match http3 {
                Some(http3) => http3.await,
                None => Ok(()),
            }
        });
        if closed.await.is_err() {
            eprintln!("some connections did not close in time");
        }
        println!("{}", draining.await);
        Ok(())
    }
}

/// Listens on TCP, and with `tls` also on the UDP port of the same number.
async fn listen(
    address: SocketAddr,
    tls: Option<&ServerConfig>,
) -> Result<(TcpListener, Option<Http3>), BoxError> {
    let mut attempts = 0;
    loop {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| format!("cannot listen on {address}: {error}"))?;
        let Some(tls) = tls else {
            return Ok((listener, None));
        };
        match Http3::bind(listener.local_addr()?, tls) {
            Ok(http3) => return Ok((listener, Some(http3))),
            // A port that is free on TCP may be taken on UDP.
            Err(_) if address.port() == 0 && attempts < 10 => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Accepts the next connection. Errors are not fatal: they concern one connection, or pass when other connections
/// close, such as too many open files.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                // Otherwise each small write may wait 40 ms for the acknowledgement of the previous one.
                let _ = tcp.set_nodelay(true);
                return (tcp, peer);
            }
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn handshake(tls: Option<TlsAcceptor>, tcp: TcpStream) -> io::Result<BoxIo> {
    let Some(tls) = tls else {
        return Ok(BoxIo::new(tcp));
    };
    let tls = timeout(Duration::from_secs(10), tls.accept(tcp)).await??;
    // A relay needs the socket within TLS to reset the connection.
    #[cfg(feature = "tunnel")]
    return Ok(BoxIo::over(tls, |tls| tls.get_ref().0));
    #[cfg(not(feature = "tunnel"))]
    Ok(BoxIo::new(tls))
}

fn tls_config(address: SocketAddr) -> Result<ServerConfig, BoxError> {
    let address = address.ip().to_string();
    let names = ["localhost", "127.0.0.1", "::1", &address].map(String::from);
    let generated = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der())?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![generated.cert.der().clone()], key)?;
    config.alpn_protocols = ["h2", "http/1.1"].map(Vec::from).to_vec();
    Ok(config)
}

async fn shutdown_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            signal = tokio::signal::ctrl_c() => signal,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
