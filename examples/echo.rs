//! An echo server: `Upgrade: echo` on every path, and a plain `GET /` beside it.
//!
//! ```sh
//! cargo run --example echo -- --listen 127.0.0.1:3000
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: echo' http://127.0.0.1:3000/
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: echo' -H 'Content-Length: 0' -d hello \
//!     http://127.0.0.1:3000/
//! ```
//!
//! The first curl waits for what it will never send; the second sends `hello` behind its head, and
//! sees it come back.
//!
//! On SIGINT and SIGTERM it takes no more connections, ends its sessions, and exits.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use lexopt::ValueExt as _;
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Layer as _, service_fn};
use tower_upgrade::{BoxError, Session, UpgradeLayer, copy, handler_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind(listen_address()?).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let stop = CancellationToken::new();
    let sessions = TaskTracker::new();
    let echo = handler_fn({
        let (stop, sessions) = (stop.clone(), sessions.clone());
        move |session: Session| {
            let stop = stop.clone();
            sessions.track_future(async move {
                let (mut reader, mut writer) = tokio::io::split(session.into_io());
                tokio::select! {
                    // It waits without holding a buffer.
                    echoed = copy(&mut reader, &mut writer) => echoed.map(drop)?,
                    () = stop.cancelled() => {}
                }
                writer.shutdown().await?;
                Ok(())
            })
        }
    });
    let app = UpgradeLayer::new()
        .protocol("echo", echo)
        .layer(service_fn(index));

    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().half_close(true);
    let connections = GracefulShutdown::new();
    let mut signal = std::pin::pin!(shutdown_signal());
    loop {
        let io = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = &mut signal => break,
        };
        let service = TowerToHyperService::new(app.clone());
        let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::spawn(connections.watch(connection.into_owned()));
    }

    drop(listener);
    stop.cancel();
    sessions.close();
    let ended = async { tokio::join!(connections.shutdown(), sessions.wait()) };
    if tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .is_err()
    {
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

/// `--listen ADDR`, by default 127.0.0.1:3000.
fn listen_address() -> Result<SocketAddr, BoxError> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 3000));
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Long("listen") => address = args.value()?.string()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(address)
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
