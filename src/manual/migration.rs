//! # Coming from elsewhere
//!
//! What changes when a server's upgrades move here, one crate at a time. The snippets named `before` are compiled
//! with the crate that they come from, but for those of warp and hyper-tungstenite.
//!
//! # Step by step
//!
//! 1. Put an `UpgradeLayer::new()` around the stack. Upgraders of other crates inside
//!    [go on as they were](super::commit#upgraders-of-other-crates).
//! 2. Move one handler after the other, as below. Each that has moved has the gate.
//! 3. Give the outermost layer [`Sessions`](crate::Sessions), and [drain](super::stopping) them where the server
//!    stops.
//! 4. Read [the limits](super::limits): some are on that were not there before.
//!
//! # hyper's `upgrade::on`
//!
//! ```
//! # #[allow(dead_code)]
//! mod before {
//!     use http::{HeaderValue, Request, Response, StatusCode, header};
//!     use hyper::body::Incoming;
//!     use hyper_util::rt::TokioIo;
//!     use std::convert::Infallible;
//!
//!     async fn serve(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
//!         let mut response = Response::new(String::new());
//!         if request.headers().get(header::UPGRADE).is_none_or(|offer| offer != "echo") {
//!             *response.status_mut() = StatusCode::NOT_FOUND;
//!             return Ok(response);
//!         }
//!         if !request.headers().contains_key("user") {
//!             *response.status_mut() = StatusCode::UNAUTHORIZED;
//!             return Ok(response);
//!         }
//!         tokio::spawn(async move {
//!             match hyper::upgrade::on(request).await {
//!                 Ok(upgraded) => {
//!                     let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
//!                     if let Err(error) = tokio::io::copy(&mut reader, &mut writer).await {
//!                         eprintln!("{error}");
//!                     }
//!                 }
//!                 Err(error) => eprintln!("{error}"),
//!             }
//!         });
//!         *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
//!         let headers = response.headers_mut();
//!         headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
//!         headers.insert(header::UPGRADE, HeaderValue::from_static("echo"));
//!         Ok(response)
//!     }
//! }
//!
//! mod after {
//!     use http::StatusCode;
//!     use tower_upgrade::{Accept, ProtocolHandler, Rejection, UpgradeRequest, copy};
//!
//!     pub struct Echo;
//!
//!     impl ProtocolHandler for Echo {
//!         async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
//!             if !request.headers().contains_key("user") {
//!                 return Err(StatusCode::UNAUTHORIZED.into());
//!             }
//!             Ok(Accept::new(|session| async move {
//!                 let (mut reader, mut writer) = tokio::io::split(session.into_io());
//!                 copy(&mut reader, &mut writer).await?;
//!                 Ok(())
//!             }))
//!         }
//!     }
//! }
//!
//! # use http::StatusCode;
//! # use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! use tower_upgrade::{UpgradeLayer, testing};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! let app = UpgradeLayer::new().protocol("echo", after::Echo).into_service();
//! # let request = testing::request("echo").header("user", "ann").body(String::new())?;
//! # let mut echo = testing::upgrade(app.clone(), request).await?.expect_switched("echo");
//! # echo.write_all(b"hello").await?;
//! # echo.shutdown().await?;
//! # let mut said = String::new();
//! # echo.read_to_string(&mut said).await?;
//! # assert_eq!(said, "hello");
//! let request = testing::request("echo").body(String::new())?;
//! testing::upgrade(app, request).await?.expect_refused(StatusCode::UNAUTHORIZED);
//! # Ok(())
//! # }
//! ```
//!
//! | hyper | here |
//! |---|---|
//! | one value of `Upgrade`, and `Connection` not looked at | the grammar of both, lists over several lines, versions, the client's order |
//! | HTTP/1.1 | the same handler on HTTP/2, and for CONNECT with [`connect`](crate::UpgradeLayer::connect) |
//! | the task runs [whatever is answered](super::stack_below#hyper-hands-the-connection-over-whatever-was-answered) | it runs if the switch was sent |
//! | [an unread body](super::stack_below#a-body-that-was-not-read-becomes-the-new-protocol) becomes the protocol | it is read first |
//! | an error or a panic is the task's | it is reported, with the [reason](crate::CloseReason) of the end |
//! | the socket is dropped at the end | it is flushed, shut down, and read to its end |
//! | nobody knows of the tasks | [`Sessions`](crate::Sessions) |
//! | `TokioIo::new(upgraded)`, `upgraded.downcast::<TokioIo<TcpStream>>()` | [`Upgraded`](crate::Upgraded) has tokio's traits and hyper's; `downcast::<TcpStream>()` |
//!
//! # axum's `ws`
//!
//! ```
//! # #[allow(dead_code)]
//! mod before {
//!     use axum::{Router, extract::ws::{WebSocket, WebSocketUpgrade}, response::Response, routing::any};
//!
//!     async fn chat(upgrade: WebSocketUpgrade) -> Response {
//!         upgrade.on_upgrade(|mut socket: WebSocket| async move {
//!             while let Some(Ok(message)) = socket.recv().await {
//!                 if socket.send(message).await.is_err() {
//!                     return;
//!                 }
//!             }
//!         })
//!     }
//!
//!     fn app() -> Router {
//!         Router::new().route("/chat", any(chat))
//!     }
//! }
//!
//! # #[allow(dead_code)]
//! mod after {
//!     use axum::{Router, response::Response, routing::any};
//!     use tower_upgrade::{UpgradeLayer, extract::WebSocketUpgrade, websocket::{Message, WebSocket}};
//!
//!     async fn chat(upgrade: WebSocketUpgrade) -> Response {
//!         upgrade.on_upgrade(|mut socket: WebSocket| async move {
//!             while let Some(message) = socket.recv().await {
//!                 if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
//!                     socket.send(message).await?;
//!                 }
//!             }
//!             Ok(())
//!         })
//!     }
//!
//!     fn app() -> Router {
//!         Router::new().route("/chat", any(chat)).layer(UpgradeLayer::new())
//!     }
//! }
//! ```
//!
//! The module `extract` (feature `axum`) goes through it method by method. A handler that is the same on every route
//! can also be registered with the layer: `UpgradeLayer::new().protocol("websocket", websocket(chat))`.
//!
//! A route that serves requests with and without an upgrade, such as `POST /exec/ID/start` of Docker's API, takes
//! `extract::MaybeUpgrade`. The example `docker_exec` of the repository implements that API: a JSON body, half-close, and
//! a response of 200 or 101 on one route.
//!
//! # warp's `ws`
//!
//! ```ignore
//! let chat = warp::path("chat").and(warp::ws()).map(|ws: warp::ws::Ws| {
//!     ws.on_upgrade(|mut socket| async move {
//!         while let Some(Ok(message)) = socket.next().await {
//!             if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
//!                 return;
//!             }
//!         }
//!     })
//! });
//! warp::serve(chat).run(([127, 0, 0, 1], 3000)).await;
//! ```
//!
//! What the filter was for, the path, is a condition of the handler, or a router's matter:
//!
//! ```no_run
//! use axum::serve::ListenerExt as _;
//! use futures_util::{SinkExt as _, StreamExt as _};
//! use tower_upgrade::{ProtocolHandler as _, UpgradeLayer, websocket::{WebSocket, websocket}};
//!
//! # #[tokio::main]
//! # async fn main() -> std::io::Result<()> {
//! let chat = websocket(|mut socket: WebSocket, _session| async move {
//!     while let Some(message) = socket.next().await {
//!         let message = message?;
//!         if message.as_text().is_some() {
//!             socket.send(message).await?;
//!         }
//!     }
//!     Ok(())
//! });
//! let at_chat = chat.when(|parts| parts.uri.path() == "/chat");
//! let app = axum::Router::new()
//!     .fallback(|| async { "nothing here" })
//!     .layer(UpgradeLayer::new().protocol("websocket", at_chat));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! // With `TCP_NODELAY`: otherwise each small write may wait 40 ms for an acknowledgement.
//! let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
//! axum::serve(listener, app).await
//! # }
//! ```
//!
//! # hyper-tungstenite
//!
//! ```ignore
//! async fn serve(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Error> {
//!     if !hyper_tungstenite::is_upgrade_request(&request) {
//!         return Ok(Response::new(Full::from("index")));
//!     }
//!     let (response, websocket) = hyper_tungstenite::upgrade(&mut request, None)?;
//!     tokio::spawn(async move { talk(websocket.await?).await });
//!     Ok(response)
//! }
//! ```
//!
//! The service that serves the index stays as it is, inside of the layer. What takes a `WebSocketStream` can stay as
//! well: the opening handshake is this crate's, and the frames are the ones that you have.
//!
//! ```
//! use futures_util::{SinkExt as _, StreamExt as _};
//! use http::{Request, Response};
//! use hyper::body::Incoming;
//! use std::convert::Infallible;
//! use tokio::io::{AsyncRead, AsyncWrite};
//! use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
//! use tower::{Layer as _, service_fn};
//! use tower_upgrade::{
//!     Accept, BoxError, ProtocolHandler, Rejection, UpgradeLayer, UpgradeRequest,
//!     websocket::WebSocketUpgrade,
//! };
//!
//! /// As it was.
//! async fn talk<S>(mut socket: WebSocketStream<S>) -> Result<(), BoxError>
//! where
//!     S: AsyncRead + AsyncWrite + Unpin,
//! {
//!     while let Some(message) = socket.next().await {
//!         let message = message?;
//!         if message.is_text() || message.is_binary() {
//!             socket.send(message).await?;
//!         }
//!     }
//!     Ok(())
//! }
//!
//! struct Chat {
//!     upgrade: WebSocketUpgrade,
//! }
//!
//! impl ProtocolHandler for Chat {
//!     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
//!         Ok(self.upgrade.check(request)?.accept_raw(|session| async move {
//!             let io = session.into_io();
//!             talk(WebSocketStream::from_raw_socket(io, Role::Server, None).await).await
//!         }))
//!     }
//! }
//!
//! let index = service_fn(|_request: Request<Incoming>| async {
//!     Ok::<_, Infallible>(Response::new(String::from("index")))
//! });
//! let chat = Chat { upgrade: WebSocketUpgrade::new() };
//! let app = UpgradeLayer::new().protocol("websocket", chat).layer(index);
//! ```
//!
//! # tokio-tungstenite's `accept_async`
//!
//! It speaks on a listener of its own. Here there is an HTTP server around it, so the same port serves plain
//! requests, and HTTP/2. What `accept_hdr_async` was told in a callback a handler decides in `accept`, where it may
//! wait.
//!
//! ```no_run
//! # #[allow(dead_code)]
//! mod before {
//!     use futures_util::{SinkExt as _, StreamExt as _};
//!     use tokio::net::{TcpListener, TcpStream};
//!     use tokio_tungstenite::{accept_async, tungstenite};
//!
//!     async fn serve(listener: TcpListener) -> std::io::Result<()> {
//!         loop {
//!             let (stream, _) = listener.accept().await?;
//!             tokio::spawn(talk(stream));
//!         }
//!     }
//!
//!     async fn talk(stream: TcpStream) -> Result<(), tungstenite::Error> {
//!         let mut socket = accept_async(stream).await?;
//!         while let Some(message) = socket.next().await {
//!             let message = message?;
//!             if message.is_text() || message.is_binary() {
//!                 socket.send(message).await?;
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! mod after {
//!     use axum::serve::ListenerExt as _;
//!     use tokio::net::TcpListener;
//!     use tower_upgrade::{UpgradeLayer, websocket::{Message, WebSocket, websocket}};
//!
//!     pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
//!         let echo = websocket(|mut socket: WebSocket, _session| async move {
//!             while let Some(message) = socket.recv().await {
//!                 if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
//!                     socket.send(message).await?;
//!                 }
//!             }
//!             Ok(())
//!         });
//!         let app = UpgradeLayer::new().protocol("websocket", echo).into_service();
//!         // With `TCP_NODELAY`: otherwise each small write may wait 40 ms for an acknowledgement.
//!         let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
//!         axum::serve(listener, axum::Router::new().fallback_service(app)).await
//!     }
//! }
//! # fn main() { drop(after::serve); }
//! ```
//!
//! Its `connect_async` is `websocket::WebSocketRequest` here, over any client of the module `client`.
//!
//! # What is different in all of them
//!
//! | | there | here, with the feature `websocket` |
//! |---|---|---|
//! | a message, a frame may have | 64 MiB, 16 MiB | 1 MiB, 1 MiB: [limits](super::limits#websocket) |
//! | pages of other origins | are let in | [are refused](super::threats#cross-site-websocket-hijacking) with 403 |
//! | a handler that ends | drops the connection | is closed in order: 1000, 1011 after an error, 1001 if it was told to stop |
//! | a subprotocol | as the crate has it | the first of the client's that is spoken |
//! | a server that stops | the handler has to be told | each client gets 1001, with no code for it |
//! | buffers of an idle session | what was needed last | none |
//! | over HTTP/2 | axum | yes |
//!
//! ## Other frames
//!
//! Where frames of another library stay, as with hyper-tungstenite above, limits, masking, pings and close frames are
//! theirs. The module `websocket` has four of them.
