//! An echo server for `Upgrade: echo` on HTTP/1.1, extended CONNECT with `:protocol echo` on HTTP/2 and HTTP/3, and
//! CONNECT, with any target, on all. `GET /` is an ordinary route.
//!
//! ```sh
//! cargo run --example echo -- --listen 127.0.0.1:3000
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: echo' http://127.0.0.1:3000/
//! curl -i -N -H 'Connection: Upgrade' -H 'Upgrade: echo' -H 'Content-Length: 0' -d hello \
//!     http://127.0.0.1:3000/
//! curl -N --proxytunnel --proxy http://127.0.0.1:3000 telnet://example.com:443
//! ```
//!
//! The first curl opens a session and sends nothing. The second sends `hello` behind the request head and prints the
//! echo. The third sends its standard input through a tunnel and prints the echo.
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
//! With `--http3` the server also serves HTTP/3, on the UDP port of the same number, and the other versions say so in
//! `Alt-Svc`. That needs the feature `http3`, and implies `--tls`:
//!
//! ```sh
//! cargo run --features http3 --example echo -- --listen 127.0.0.1:3000 --http3
//! curl -i --insecure --http3 https://127.0.0.1:3000/
//! ```
//!
//! curl does not support extended CONNECT: use the example `upcat`, over HTTP/2.
//!
//! On SIGINT and SIGTERM the server stops accepting connections, ends its sessions, and exits.

mod support;

use http::{Method, Request, Response, StatusCode};
use lexopt::ValueExt as _;
use std::{convert::Infallible, net::SocketAddr};
use support::{Body, Server};
use tokio::io::AsyncWriteExt as _;
use tower::{Layer as _, service_fn};
use tower_upgrade::{BoxError, Session, Sessions, UpgradeLayer, copy, handler_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse()?;
    let mut server = Server::bind(args.listen, args.tls, args.http3).await?;
    // A client may shut down its direction right after the request, before it has the response.
    server.http.http1().half_close(true);
    server.http.http2().enable_connect_protocol();

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
    server.run(app, sessions).await
}

async fn index(request: Request<Body>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => *response.body_mut() = "Try it with `Upgrade: echo`.\n".into(),
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

struct Args {
    /// `--listen ADDR`, by default 127.0.0.1:3000.
    listen: SocketAddr,
    /// `--tls`
    tls: bool,
    /// `--http3`
    http3: bool,
}

impl Args {
    fn parse() -> Result<Self, BoxError> {
        let mut found = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            tls: false,
            http3: false,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("listen") => found.listen = args.value()?.string()?.parse()?,
                lexopt::Arg::Long("tls") => found.tls = true,
                lexopt::Arg::Long("http3") => found.http3 = true,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(found)
    }
}
