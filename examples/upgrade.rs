//! Server and client in one program: three protocols, a refused request, and a protocol without a handler.
//!
//! ```sh
//! cargo run --features client --example upgrade
//! ```
//!
//! The program prints each step and exits when done.

use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::convert::Infallible;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use tower::{Layer as _, Service as _, service_fn};
use tower_upgrade::{
    Accept, BoxError, Protocol, Rejection, Session, UpgradeLayer, UpgradeRequest, accept_fn,
    client, copy, handler_fn,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri: Uri = format!("http://{}/", listener.local_addr()?).parse()?;
    tokio::spawn(serve(listener));

    let get = || client::Request::get(uri.clone());

    // The server chooses the first offered protocol that it supports.
    talk(get().protocol("echo")).await?;
    talk(get().protocol("chess/2").protocol("shout")).await?;
    let ann = HeaderValue::from_static("Ann");
    talk(get().protocol("greet/1").header("user", ann)).await?;
    // The handler refuses a request without a `user` header and chooses the response.
    talk(get().protocol("greet/1")).await?;
    // An unsupported protocol: the inner service responds.
    talk(get().protocol("chess/2")).await
}

// ---- The server ---------------------------------------------------------------------------------

async fn serve(listener: TcpListener) -> Result<(), BoxError> {
    // A handler that accepts every request can be a closure.
    let echo = handler_fn(|session: Session| async move {
        println!("server: an echo session");
        let (mut reader, mut writer) = tokio::io::split(session.into_io());
        copy(&mut reader, &mut writer).await?;
        Ok(())
    });
    let shout = handler_fn(|session: Session| async move {
        println!("server: a shout session");
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
        .protocol("greet/1", accept_fn(greet))
        .layer(service_fn(index));

    loop {
        let (io, _) = listener.accept().await?;
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            // Without a timer hyper applies no timeout to request heads.
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(app.clone()))
            .with_upgrades();
        tokio::spawn(connection);
    }
}

/// Accepts or rejects a request before a response is sent.
async fn greet(request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
    let Some(user) = request.headers().get("user").cloned() else {
        println!("server: rejects a request without a user");
        return Err(Rejection::new(
            StatusCode::UNAUTHORIZED,
            "the header `user` is missing",
        ));
    };
    // The session handler owns `user`.
    Ok(Accept::new(move |mut session: Session| async move {
        println!("server: a greet/1 session");
        session.io_mut().write_all(b"Hello ").await?;
        session.io_mut().write_all(user.as_bytes()).await?;
        Ok(())
    }))
}

/// Handles all other requests, which the layer forwards unchanged.
async fn index(_request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    println!("server: a plain request");
    Ok(Response::new(
        "This server supports echo, shout and greet/1.".into(),
    ))
}

// ---- The client ---------------------------------------------------------------------------------

/// Requests an upgrade, then sends a line in the session and prints the answer.
async fn talk(request: client::Request) -> Result<(), BoxError> {
    println!("client: offers {:?}", request.protocols());
    let http = Client::builder(TokioExecutor::new()).build_http();
    let mut client = client::UpgradeLayer::new().layer(http);
    let session = match client.call(request).await {
        Ok(session) => session,
        Err(error) => return explain(error).await,
    };
    let chosen = session.protocol().map(Protocol::to_string);
    println!("client: the server chose {}", chosen.unwrap_or_default());

    let mut io = session.into_io();
    io.write_all(b"hello\n").await?;
    io.shutdown().await?;
    let mut answer = String::new();
    io.read_to_string(&mut answer).await?;
    println!("client: the server sent {answer:?}\n");
    Ok(())
}

/// Prints the error, and the response if the server sent one.
async fn explain(error: client::Error) -> Result<(), BoxError> {
    println!("client: {error}");
    if let Some(response) = error.into_response() {
        let body = response.collect().await?.to_bytes();
        println!("client: the server sent {body:?}\n");
    }
    Ok(())
}
