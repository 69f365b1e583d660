//! An echo server for `Upgrade: echo` on HTTP/1.1, extended CONNECT with `:protocol echo` on HTTP/2, and
//! CONNECT on both. A CONNECT gets the echo too, regardless of its target. `GET /` is an ordinary route.
//!
//! ```sh
//! cargo run --example echo -- --listen 127.0.0.1:3000
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: echo' http://127.0.0.1:3000/
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: echo' -H 'Content-Length: 0' -d hello \
//!     http://127.0.0.1:3000/
//! curl -N --proxytunnel --proxy http://127.0.0.1:3000 telnet://example.com:443
//! ```
//!
//! The first curl opens a session and then sends nothing. The second sends `hello` behind the request head and prints
//! the echo. The third sends its standard input through a tunnel and prints the echo.
//!
//! With `--tls` the server uses TLS with a self-signed certificate, and ALPN selects HTTP/2 or HTTP/1.1:
//!
//! ```sh
//! cargo run --example echo -- --listen 127.0.0.1:3000 --tls
//! curl -i -N --insecure --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: echo' \
//!     https://127.0.0.1:3000/
//! curl -N --proxy-insecure --proxytunnel --proxy https://127.0.0.1:3000 telnet://example.com:443
//! curl -i --insecure --http2 https://127.0.0.1:3000/
//! ```
//!
//! curl does not support extended CONNECT; the client `tests/peers/extended_connect.js` does.
//!
//! On SIGINT and SIGTERM the server stops accepting connections, ends its sessions, and exits.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use lexopt::ValueExt as _;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{self, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
    server::TlsStream,
};
use tokio_util::{either::Either, sync::CancellationToken};
use tower::{Layer as _, service_fn};
use tower_upgrade::{BoxError, Session, Sessions, UpgradeLayer, copy, handler_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let tls = args.tls.then(|| tls_acceptor(address)).transpose()?;
    let scheme = if args.tls { "https" } else { "http" };
    println!("listening on {scheme}://{address}");

    let echo = handler_fn(|session: Session| async move {
        let stop = session.stop();
        let (mut reader, mut writer) = tokio::io::split(session.into_io());
        tokio::select! {
            // Unlike `tokio::io::copy`, holds no buffer while idle.
            echoed = copy(&mut reader, &mut writer) => drop(echoed?),
            () = stop => {}
        }
        writer.shutdown().await?;
        Ok(())
    });
    let sessions = Sessions::new();
    let app = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("echo", echo.clone())
        .connect(echo)
        .layer(service_fn(index));

    let server = server();
    let connections = GracefulShutdown::new();
    let handshakes = CancellationToken::new();
    let mut signal = std::pin::pin!(shutdown_signal());
    loop {
        let (io, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut signal => break,
        };
        let (tls, handshakes) = (tls.clone(), handshakes.clone());
        let watcher = connections.watcher();
        let (server, service) = (server.clone(), TowerToHyperService::new(app.clone()));
        tokio::spawn(async move {
            let connection = async {
                let Some(io) = handshakes.run_until_cancelled(handshake(tls, io)).await else {
                    return Ok(());
                };
                let connection = server.serve_connection_with_upgrades(TokioIo::new(io?), service);
                watcher.watch(connection).await
            };
            if let Err(error) = connection.await {
                eprintln!("the connection of {peer} failed: {error:?}");
            }
        });
    }

    drop(listener);
    handshakes.cancel();
    let limit = Duration::from_secs(10);
    let (report, closed) = tokio::join!(
        sessions.drain(limit),
        tokio::time::timeout(limit, connections.shutdown()),
    );
    if report.aborted > 0 || report.left > 0 || closed.is_err() {
        eprintln!("some connections did not end in time");
    }
    println!("stopped");
    Ok(())
}

async fn index(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => *response.body_mut() = "Try it with `Upgrade: echo`.\n".into(),
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

/// Returns a server for HTTP/1.1 and HTTP/2, detected from the client's first bytes.
fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer hyper applies no timeout to request heads.
    server.http1().half_close(true).timer(TokioTimer::new());
    server
        .http2()
        .enable_connect_protocol()
        // By default a stream's window is as large as the connection's, so one session that stops
        // reading stalls all others on its connection. Here the connection's window has room for the
        // windows of all 200 concurrent streams.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    server
}

/// Accepts the next connection. Errors are not fatal: they concern one connection, or are temporary,
/// such as too many open files.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((io, peer)) => {
                // Send small writes at once. Otherwise each message, and each HTTP/2 frame, may wait
                // 40 ms for the acknowledgement of the previous one.
                match io.set_nodelay(true) {
                    Ok(()) => return (io, peer),
                    Err(error) => eprintln!("cannot set up the connection of {peer}: {error}"),
                }
            }
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

type Io = Either<TlsStream<TcpStream>, TcpStream>;

async fn handshake(tls: Option<TlsAcceptor>, io: TcpStream) -> io::Result<Io> {
    match tls {
        Some(tls) => {
            let handshake = tokio::time::timeout(Duration::from_secs(10), tls.accept(io));
            Ok(Either::Left(handshake.await??))
        }
        None => Ok(Either::Right(io)),
    }
}

/// Returns a TLS acceptor with a new self-signed certificate.
fn tls_acceptor(address: SocketAddr) -> Result<TlsAcceptor, BoxError> {
    let address = address.ip().to_string();
    let names = ["localhost", "127.0.0.1", "::1", &address].map(String::from);
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = ["h2", "http/1.1"].map(Vec::from).to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Args {
    /// `--listen ADDR`, by default 127.0.0.1:3000.
    listen: SocketAddr,
    /// `--tls`
    tls: bool,
}

impl Args {
    fn parse() -> Result<Self, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            tls: false,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.string()?.parse()?,
                lexopt::Arg::Long("tls") => found.tls = true,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(found)
    }
}

async fn shutdown_signal() {
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
