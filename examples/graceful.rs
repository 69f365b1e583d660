//! A server that shuts down without cutting off clients: two echoes on every path, `Upgrade: echo`, which ends its
//! session on the stop signal, and `Upgrade: stubborn`, which ignores that signal.
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
//! 1. The server announces its shutdown. `GET /ready` and new upgrade requests get 503. Open sessions receive their
//!    stop signals evenly over the time of `--spread`, so that their clients do not all reconnect in the same second.
//! 2. The server continues to accept connections for the time of `--notice`. A load balancer sends requests until it
//!    has checked `/ready`, and can retry any request that got 503 on another server. If the listener closed at once,
//!    connections waiting to be accepted would be reset, and the graceful shutdown would close connections that have
//!    not sent a request yet: a client that has just sent one cannot know whether the server processed the request,
//!    and may not repeat it. HAProxy then answers 502, unless `retry-on empty-response` is configured.
//! 3. The server closes the listener, so that a successor can bind the port, and gracefully closes the connections.
//!    Sessions continue.
//! 4. When the last session has ended, or at the `--deadline`, the server prints the sessions' outcome and exits.
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
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::{Instant, timeout_at},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{BoxError, DrainOptions, Session, Sessions, UpgradeLayer, copy, handler_fn};

/// How long connections may take to end after the deadline. `Sessions::drain` gives sessions the same time.
const LAST_STEPS: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    // Each session uses an open file. If the limit cannot be raised, the server runs with the present limit.
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
            let (io, peer) = accept(&listener).await;
            let service = TowerToHyperService::new(app.clone());
            let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service);
            let connection = connections.watch(connection.into_owned());
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    eprintln!("the connection of {peer} failed: {error:?}");
                }
            });
        }
    };
    tokio::select! {
        biased;
        () = shutdown_signal() => {}
        never = serve() => match never {},
    }

    // 1. `is_draining` returns true from here on.
    let deadline = Instant::now() + args.deadline;
    let draining = sessions.drain(DrainOptions::new(args.deadline).spread(args.spread));
    // 2.
    let noticed = deadline.min(Instant::now() + args.notice);
    let _: Result<Infallible, _> = timeout_at(noticed, serve()).await;
    // 3. An HTTP/1.1 session is independent of its connection, so this does not wait for the session. An HTTP/2 session
    // depends on its connection: at the deadline its end must still be sent.
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

/// Serves HTTP/1.1 and HTTP/2, as the client's first bytes select.
fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without a timer, hyper would wait forever for the rest of a head.
    server.http1().half_close(true).timer(TokioTimer::new());
    server
        .http2()
        .enable_connect_protocol()
        // By default the windows of a stream and of its connection are equal, so one session that stops reading uses up
        // the connection's window, and the others stall too. This window has room for each of the 200 streams that a
        // connection may have at a time.
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    server
}

/// Accepts the next connection. A failure concerns only that connection, or passes when other connections end, as with
/// too many open files.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((io, peer)) => {
                // Sends small writes at once: otherwise each message, and each HTTP/2 frame, may wait 40 ms for the
                // acknowledgement of the previous one.
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

struct Args {
    /// `--listen ADDR`, by default 127.0.0.1:3000.
    listen: SocketAddr,
    /// `--notice SECONDS`, by default 1: how long load balancers have to look at `/ready`.
    notice: Duration,
    /// `--spread SECONDS`, by default 0: the time over which sessions are told to stop.
    spread: Duration,
    /// `--deadline SECONDS`, by default 10: how long sessions have to end, the notice included.
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
    // As `u32`: any number of them can be added to now.
    Ok(Duration::from_secs(args.value()?.parse::<u32>()?.into()))
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
