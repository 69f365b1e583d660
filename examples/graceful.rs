//! A server that shuts down without failing a request. All paths accept two echoes: sessions of `echo` end on the
//! stop signal, sessions of `stubborn` ignore it.
//!
//! ```sh
//! cargo run --example graceful -- --listen 127.0.0.1:3000 --notice 1 --spread 5 --deadline 10
//! curl -i http://127.0.0.1:3000/
//! curl -i http://127.0.0.1:3000/ready
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: stubborn' http://127.0.0.1:3000/
//! ```
//!
//! On SIGTERM and SIGINT:
//!
//! 1. The server announces its shutdown: `GET /ready` and new upgrade requests get 503. Open sessions receive their
//!    stop signals evenly over the time of `--spread`, so that their clients do not all reconnect in the same second.
//! 2. The server still accepts connections for the time of `--notice`. A load balancer sends requests until it has
//!    checked `/ready`, and can retry a request that got 503 on another server. Closing the listener at once would
//!    reset the connections in its queue, and the graceful shutdown would close connections before their first
//!    request. A client that has just sent that request cannot know whether the server processed it, and may not
//!    repeat it: HAProxy answers 502, unless `retry-on empty-response` is configured.
//! 3. The server closes the listener, so that its successor can bind the port, and gracefully closes the connections.
//!    Sessions continue.
//! 4. When the last session has ended, or at the `--deadline`, the server prints the result and exits.
//!
//! `tests/peers/rolling_restart.rs` restarts this server behind HAProxy without an error at any client.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use lexopt::ValueExt as _;
use std::{convert::Infallible, io, net::SocketAddr, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::{Instant, timeout_at},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{BoxError, DrainOptions, Session, Sessions, UpgradeLayer, copy, handler_fn};

/// The time for connections to close after the deadline. `Sessions::drain` gives sessions the same time.
const LAST_STEPS: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    // Each session uses an open file. If the limit cannot be raised, continue with the current limit.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let echo = handler_fn(|session: Session| async move {
        let stop = session.stop();
        let (mut reader, mut writer) = tokio::io::split(session.into_io());
        tokio::select! {
            echoed = copy(&mut reader, &mut writer) => drop(echoed?),
            () = stop => writer.shutdown().await?,
        }
        Ok(())
    });
    let stubborn = handler_fn(|session: Session| async move {
        let (mut reader, mut writer) = tokio::io::split(session.into_io());
        copy(&mut reader, &mut writer).await?;
        Ok(())
    });
    let sessions = Sessions::new();
    let plain = {
        let sessions = sessions.clone();
        service_fn(move |request: Request<Incoming>| {
            std::future::ready(Ok::<_, Infallible>(answer(&request, &sessions)))
        })
    };
    let app = UpgradeLayer::new()
        .sessions(sessions.clone())
        .protocol("echo", echo)
        .protocol("stubborn", stubborn)
        .layer(plain);
    let server = server();
    let connections = GracefulShutdown::new();
    let serve = async || -> Infallible {
        loop {
            let (tcp, peer) = accept(&listener).await;
            let service = TowerToHyperService::new(app.clone());
            let connection = server.serve_connection_with_upgrades(TokioIo::new(tcp), service);
            let connection = connections.watch(connection.into_owned());
            tokio::spawn(async move {
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

    // 1. From here on `is_draining` returns true.
    let deadline = Instant::now() + args.deadline;
    let draining = sessions.drain(DrainOptions::new(args.deadline).spread(args.spread));
    // 2.
    let noticed = deadline.min(Instant::now() + args.notice);
    let _: Result<Infallible, _> = timeout_at(noticed, serve()).await;
    // 3. This waits for HTTP/2 sessions: they end with frames on their connection. It does not wait for HTTP/1.1
    // sessions, which have taken over their connections.
    drop(listener);
    let _ = timeout_at(deadline + LAST_STEPS, connections.shutdown()).await;
    // 4.
    println!("{}", draining.await);
    Ok(())
}

fn answer<B>(request: &Request<B>, sessions: &Sessions) -> Response<String> {
    let mut response = Response::new(String::new());
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => *response.body_mut() = format!("{} sessions\n", sessions.len()),
        (&Method::GET, "/ready") if sessions.is_draining() => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        (&Method::GET, "/ready") => *response.body_mut() = "ready\n".into(),
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

/// Returns a server for HTTP/1.1 and HTTP/2, as the client's first bytes select.
fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer hyper sets no time limit for request heads.
    server.http1().half_close(true).timer(TokioTimer::new());
    server
        .http2()
        .enable_connect_protocol()
        // By default the window of a stream is as large as that of its connection, so that one session that stops
        // reading stalls all others on its connection. This connection window is enough for all 200 concurrent streams.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    server
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
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct Args {
    /// `--listen ADDR`, by default 127.0.0.1:3000.
    listen: SocketAddr,
    /// `--notice SECONDS`, by default 1: time for load balancers to notice the 503 of `/ready`.
    notice: Duration,
    /// `--spread SECONDS`, by default 0: time over which sessions get their stop signals.
    spread: Duration,
    /// `--deadline SECONDS`, by default 10: time for sessions to end, including the notice.
    deadline: Duration,
}

impl Args {
    fn parse() -> Result<Self, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            notice: Duration::from_secs(1),
            spread: Duration::ZERO,
            deadline: Duration::from_secs(10),
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.string()?.parse()?,
                lexopt::Arg::Long("notice") => found.notice = seconds(&mut args)?,
                lexopt::Arg::Long("spread") => found.spread = seconds(&mut args)?,
                lexopt::Arg::Long("deadline") => found.deadline = seconds(&mut args)?,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(found)
    }
}

fn seconds(args: &mut lexopt::Parser) -> Result<Duration, BoxError> {
    // A `u32`, so that adding the duration to `Instant::now()` cannot overflow.
    Ok(Duration::from_secs(args.value()?.parse::<u32>()?.into()))
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
