//! Server and client in one program: three protocols, a refusal, and a plain request.
//!
//! ```sh
//! cargo run --example upgrade
//! ```
//!
//! Everything is printed as it happens, and the program ends by itself.

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{convert::Infallible, net::SocketAddr};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tower::{Layer as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest, copy,
    handler_fn,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener));

    // Three protocols. The server takes the first one of an offer that it knows.
    talk(address, "echo", None).await?;
    talk(address, "chess/2, shout", None).await?;
    talk(address, "greet/1", Some("Ann")).await?;
    // Refused by its handler, with a whole response: nobody said who they are.
    talk(address, "greet/1", None).await?;
    // Not an upgrade request at all.
    talk(address, "", None).await
}

// ---- The server ---------------------------------------------------------------------------------

async fn serve(listener: TcpListener) -> Result<(), BoxError> {
    // A handler that only speaks is a closure.
    let echo = handler_fn(|session: Session| async move {
        println!("server: a session of echo");
        let (mut reader, mut writer) = tokio::io::split(session.into_io());
        copy(&mut reader, &mut writer).await?;
        Ok(())
    });
    let shout = handler_fn(|session: Session| async move {
        println!("server: a session of shout");
        let mut io = BufReader::new(session.into_io());
        let mut line = String::new();
        while io.read_line(&mut line).await? > 0 {
            io.write_all(line.to_uppercase().as_bytes()).await?;
            line.clear();
        }
        Ok(())
    });
    let app = UpgradeLayer::new()
        .protocol("echo", echo)
        .protocol("shout", shout)
        .protocol("greet/1", Greeter)
        .layer(service_fn(index));

    loop {
        let (io, _) = listener.accept().await?;
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(app.clone()))
            .with_upgrades();
        tokio::spawn(connection);
    }
}

/// A handler that decides first, before anything is answered.
struct Greeter;

impl ProtocolHandler for Greeter {
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        let Some(user) = request.headers().get("user").cloned() else {
            println!("server: no session for a client without a name");
            return Err(Rejection::new(StatusCode::UNAUTHORIZED, "say who you are"));
        };
        // What was prepared here moves into the session.
        Ok(Accept::new(move |mut session: Session| async move {
            println!("server: a session of greet/1");
            session.io_mut().write_all(b"Hello ").await?;
            session.io_mut().write_all(user.as_bytes()).await?;
            Ok(())
        }))
    }
}

/// All other requests come here unchanged.
async fn index(_request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    println!("server: a plain request");
    Ok(Response::new(
        "This server also speaks echo, shout and greet/1.".into(),
    ))
}

// ---- The client ---------------------------------------------------------------------------------

/// Offers protocols, and speaks the one that the server chose.
async fn talk(address: SocketAddr, offer: &str, user: Option<&str>) -> Result<(), BoxError> {
    let io = TokioIo::new(TcpStream::connect(address).await?);
    let (mut client, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection.with_upgrades());

    let mut request = Request::get("/").header(header::HOST, address.to_string());
    if !offer.is_empty() {
        request = request
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, offer);
    }
    if let Some(user) = user {
        request = request.header("user", user);
    }
    println!("client: GET / with an offer of [{offer}]");
    let mut response = client
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await?;

    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = response.collect().await?.to_bytes();
        println!("client: {status}: {}\n", String::from_utf8_lossy(&body));
        return Ok(());
    }
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await?);
    let chosen = &response.headers()[header::UPGRADE];
    println!("client: {}: {}", response.status(), chosen.to_str()?);
    io.write_all(b"how do you do?\n").await?;
    io.shutdown().await?;
    let mut answer = String::new();
    io.read_to_string(&mut answer).await?;
    println!("client: the server says {answer:?}\n");
    Ok(())
}
