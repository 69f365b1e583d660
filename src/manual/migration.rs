//! # Coming from elsewhere
//!
//! How to move upgrade code from another crate to this one. The modules named `before` are compiled with the crate
//! that they use; the snippets for warp and hyper-tungstenite are not.
//!
//! # Step by step
//!
//! 1. Put an `UpgradeLayer::new()` around the stack. Upgrade code of other crates inside it
//!    [keeps working](super::commit#upgraders-of-other-crates).
//! 2. Move one handler at a time, as below. [The commit](super::commit) covers each handler that you have moved.
//! 3. Give the outermost layer [`Sessions`](crate::Sessions), and [drain](super::stopping) them when the server
//!    stops.
//! 4. Read [the limits](super::limits). Some are on by default.
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
//! # let mut echo = testing::upgrade(app.clone(), request).await?.expect_upgraded("echo");
//! # echo.write_all(b"hello").await?;
//! # echo.shutdown().await?;
//! # let mut said = String::new();
//! # echo.read_to_string(&mut said).await?;
//! # assert_eq!(said, "hello");
//! let request = testing::request("echo").body(String::new())?;
//! testing::upgrade(app, request).await?.expect_rejected(StatusCode::UNAUTHORIZED);
//! # Ok(())
//! # }
//! ```
//!
//! | hyper | here |
//! |---|---|
//! | the code above compares one value of `Upgrade` and ignores `Connection` | parses both headers: lists over several lines, versions, the client's order |
//! | HTTP/1.1 only | the same handler on HTTP/2, and for CONNECT with [`connect`](crate::UpgradeLayer::connect) |
//! | the task runs [even after a rejection](super::stack_below#hyper-hands-over-the-connection-even-after-a-rejection) | the session runs only if the upgrade response leaves the outermost layer |
//! | [an unread request body](super::stack_below#a-body-that-was-not-read-becomes-the-new-protocol) is read as the new protocol | the layer reads the body before it sends the 101 |
//! | errors and panics are not reported outside the task | reported with the [close reason](crate::CloseReason) |
//! | the socket is dropped when the task ends | flushed, shut down, and read until EOF |
//! | the tasks are not listed | [`Sessions`](crate::Sessions) lists the sessions |
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
//! The documentation of the module `extract` (feature `axum`) compares the two extractors method by method. A handler
//! that is the same on every route can be registered with the layer instead:
//! `UpgradeLayer::new().protocol("websocket", websocket(chat))`.
//!
//! A route that serves requests with and without an upgrade, such as `POST /exec/ID/start` of Docker's API, takes
//! `extract::MaybeUpgrade`. The example `docker_exec` of the repository implements that API: a JSON body, half-close,
//! and a response of 200 or 101 on one route.
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
//! The path that the warp filter matches becomes a condition of the handler, or a route of a router:
//!
//! ```no_run
//! use axum::serve::ListenerExt as _;
//! use futures_util::{SinkExt as _, StreamExt as _};
//! use tower_upgrade::{ProtocolHandler as _, UpgradeLayer, websocket::{Message, WebSocket, websocket}};
//!
//! # #[tokio::main]
//! # async fn main() -> std::io::Result<()> {
//! let chat = websocket(|mut socket: WebSocket, _session| async move {
//!     while let Some(message) = socket.next().await {
//!         if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
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
//! The service that answers with the index stays unchanged inside the layer. Code that takes a `WebSocketStream` can
//! stay too: this crate does the opening handshake, and tokio-tungstenite keeps handling the frames.
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
//! /// Unchanged.
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
//! `accept_async` needs a listener that serves nothing but WebSocket. Here the same port also serves ordinary requests
//! and HTTP/2. A decision made in the callback of `accept_hdr_async` moves to
//! [`accept`](crate::ProtocolHandler::accept), which is async.
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
//! The counterpart of `connect_async` is `websocket::WebSocketRequest`, sent over any client of the module `client`.
//!
//! # Common differences
//!
//! | | these crates | the feature `websocket` of this crate |
//! |---|---|---|
//! | maximum message size, frame size | 64 MiB, 16 MiB | 1 MiB, 1 MiB: [limits](super::limits#websocket) |
//! | requests from pages of other origins | accepted | [rejected](super::threats#cross-site-websocket-hijacking) with 403 |
//! | when the handler ends | the connection is dropped | a close frame: 1000, 1011 after an error, 1001 if the session was stopping |
//! | subprotocol | differs between the crates | the first of the client's list that the server supports |
//! | when the server stops | the handler needs a signal of the application | every client gets 1001, without code in the handler |
//! | buffers of an idle session | as large as for the last messages | none |
//! | WebSocket over HTTP/2 | axum only | yes |
//!
//! ## Other frames
//!
//! If another library handles the frames, as with tokio-tungstenite in the example for hyper-tungstenite, that library
//! is responsible for message limits, masking, pings and close frames. The module `websocket` handles all four.
