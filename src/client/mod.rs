//! The other end: ask a server for an upgrade, with any client of HTTP.
//!
//! [`UpgradeLayer`] goes around a client, any service that takes an [`http::Request`]. What comes of it takes a
//! [`Request`], and comes to a [`Session`], or to an [`Error`] that says why not: with the whole response, if the
//! server refused.
//!
//! ```no_run
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use tower::{Service as _, ServiceBuilder, ServiceExt as _};
//! use tower_upgrade::client;
//!
//! # async fn example() -> Result<(), tower_upgrade::BoxError> {
//! let http = Client::builder(TokioExecutor::new()).build_http();
//! let mut client = ServiceBuilder::new().layer(client::UpgradeLayer::new()).service(http);
//!
//! let request = client::Request::get("http://example.com/chat".parse()?)
//!     .protocol("chat/2")
//!     .protocol("chat/1");
//! let session = client.ready().await?.call(request).await?;
//! println!("the server speaks {:?}", session.protocol());
//! let io = session.into_io(); // tokio's and hyper's IO traits, early bytes first
//! # Ok(())
//! # }
//! ```
//!
//! Connections are the client's matter that is beneath. `build_http` above has no TLS: for `https` take one with a
//! connector for TLS, or [`Dial`], which has an example with hyper-rustls.
//!
//! No byte is sent of what was asked for before the server has agreed (RFC 9931). A server that agrees to
//! something else is an error, and its connection is dropped (RFC 9110 §7.8).
//!
//! # What may be beneath
//!
//! | | asks over HTTP/1.1 | over HTTP/2 | for a tunnel, with CONNECT |
//! |---|---|---|---|
//! | [`Dial`] over a connector: a connection for each session | yes | where TLS negotiates it, or [`http2_only`](Dial::http2_only) | yes: [`Dial::to`] the proxy |
//! | [`Http1`]: a connection of one's own | yes | | yes |
//! | [`Http2`]: a connection of one's own, for many sessions | | yes | yes |
//! | hyper-util's `Client` | yes | no | if its connector goes to the proxy |
//! | reqwest's, as below | yes | no | no |
//! | any other that puts hyper's `OnUpgrade`, or a [`PendingUpgrade`](crate::PendingUpgrade), into the extensions of its response | yes | | yes |
//!
//! Over HTTP/2 an upgrade is an extended CONNECT (RFC 8441), which a client may send only if the server's settings
//! allow it. A client with a pool does not tell, so it has to be kept from negotiating HTTP/2 for
//! this: an `Upgrade` that it sends there is an error of kind [`Unsupported`](ErrorKind::Unsupported).
//!
//! hyper hands a tunnel over for a 200, and on HTTP/1 for any other 2xx but 204. Another 2xx is an error of kind
//! [`Unsupported`](ErrorKind::Unsupported). Over HTTP/2 it takes a 101 for one of the responses that come before the
//! answer.
//!
//! ## reqwest
//!
//! Its client takes requests of its own. It follows redirects by itself, unless it is told not to:
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, service_fn};
//! use tower_upgrade::{BoxError, client};
//!
//! let http = reqwest::Client::new();
//! let client = ServiceBuilder::new()
//!     .layer(client::UpgradeLayer::new())
//!     .service(service_fn(move |request: http::Request<Full<Bytes>>| {
//!         let http = http.clone();
//!         async move {
//!             let request = request.map(reqwest::Body::wrap).try_into()?;
//!             let response = http.execute(request).await?;
//!             Ok::<http::Response<reqwest::Body>, BoxError>(response.into())
//!         }
//!     }));
//! # fn is_client<S: tower::Service<client::Request, Response = client::Session>>(_: S) {}
//! # is_client(client);
//! ```
//!
//! # With other layers
//!
//! A session begins where the call ends. What layers around do to a call is done to the handshake: a limit
//! of concurrency limits handshakes, and a timeout bounds them.
//!
//! ## Timeout
//!
//! There is one of 30 seconds, [`UpgradeLayer::handshake_timeout`], which has a kind of its own:
//! [`Timeout`](ErrorKind::Timeout). Tower's, around, is an error of its own:
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt as _};
//! use tower_upgrade::client;
//! # use tower_upgrade::Upgraded;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! # let (io, _silent_server) = tokio::io::duplex(1024);
//! # let http = client::Http1::handshake(io).await?;
//! let client = ServiceBuilder::new()
//!     .timeout(Duration::from_secs(5))
//!     .layer(client::UpgradeLayer::new())
//!     .service(http);
//! let request = client::Request::get("http://example.com/".parse()?).protocol("echo");
//! let error = client.oneshot(request).await.expect_err("the server says nothing");
//! assert!(error.is::<tower::timeout::error::Elapsed>());
//! # Ok(())
//! # }
//! ```
//!
//! ## Retry
//!
//! A [`Request`] can be cloned, and a refusal is a response to act on: this policy sends credentials to a server that
//! asks for them, and waits for a server that is busy. The table of [`ErrorKind`] says which errors are worth another
//! attempt. A policy that acts on a response looks at the kind first: the response may be a proxy's.
//!
//! ```
//! use http::{HeaderValue, StatusCode, header};
//! use std::time::Duration;
//! use tokio::time::{Sleep, sleep};
//! use tower::{ServiceBuilder, ServiceExt as _, retry::Policy};
//! use tower_upgrade::client::{self, Error, ErrorKind, Request, Session};
//!
//! #[derive(Clone)]
//! struct Again {
//!     attempts: usize,
//! }
//!
//! impl Policy<Request, Session, Error> for Again {
//!     type Future = Sleep;
//!
//!     fn retry(&mut self, request: &mut Request, result: &mut Result<Session, Error>) -> Option<Sleep> {
//!         let error = result.as_ref().err()?;
//!         let refusal = error.response().filter(|_| error.kind() == ErrorKind::Refused)?;
//!         self.attempts = self.attempts.checked_sub(1)?;
//!         let wait = match refusal.status() {
//!             StatusCode::UNAUTHORIZED => {
//!                 let credentials = HeaderValue::from_static("Bearer of-good-news");
//!                 let headers = request.http_mut().headers_mut();
//!                 headers.insert(header::AUTHORIZATION, credentials);
//!                 0
//!             }
//!             StatusCode::SERVICE_UNAVAILABLE => {
//!                 refusal.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?
//!             }
//!             _ => return None,
//!         };
//!         Some(sleep(Duration::from_secs(wait)))
//!     }
//!
//!     fn clone_request(&mut self, request: &Request) -> Option<Request> {
//!         Some(request.clone())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! # use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! # use tower_upgrade::{UpgradeLayer, UpgradeRequest, Accept, ProtocolHandler, Rejection};
//! # struct Strict;
//! # impl ProtocolHandler for Strict {
//! #     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
//! #         request.headers().get(header::AUTHORIZATION).ok_or(StatusCode::UNAUTHORIZED)?;
//! #         Ok(Accept::new(|_| async { Ok(()) }))
//! #     }
//! # }
//! # let app = axum::Router::new().route_service("/", UpgradeLayer::new().protocol("echo", Strict).into_service());
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let uri: http::Uri = format!("http://{}/", listener.local_addr()?).parse()?;
//! # tokio::spawn(async { axum::serve(listener, app).await });
//! # let http = Client::builder(TokioExecutor::new()).build_http();
//! let client = ServiceBuilder::new()
//!     .retry(Again { attempts: 3 })
//!     .layer(client::UpgradeLayer::new())
//!     .service(http);
//! let session = client.oneshot(Request::get(uri).protocol("echo")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! ## Limits
//!
//! `ConcurrencyLimitLayer` bounds how many handshakes are under way. To bound sessions, let each hold a permit
//! as long as it lives:
//!
//! ```
//! use std::sync::Arc;
//! use tokio::sync::{OwnedSemaphorePermit, Semaphore};
//! use tower::ServiceExt as _;
//! use tower_upgrade::{BoxError, client::{self, Request, Session}};
//!
//! async fn ask<S>(
//!     client: S,
//!     request: Request,
//!     limit: &Arc<Semaphore>,
//! ) -> Result<(Session, OwnedSemaphorePermit), BoxError>
//! where
//!     S: tower::Service<Request, Response = Session, Error = client::Error>,
//! {
//!     let permit = Arc::clone(limit).acquire_owned().await?;
//!     Ok((client.oneshot(request).await?, permit))
//! }
//! ```
//!
//! ## Redirects
//!
//! They are followed beneath, where requests are still those of HTTP:
//!
//! ```
//! use tower::{ServiceBuilder, ServiceExt as _};
//! use tower_http::follow_redirect::FollowRedirectLayer;
//! use tower_upgrade::client;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! # use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! # use tower_upgrade::{UpgradeLayer, handler_fn};
//! # let echo = handler_fn(|_| async { Ok(()) });
//! # let app = axum::Router::new()
//! #     .route("/here", axum::routing::any(|| async { axum::response::Redirect::temporary("/there") }))
//! #     .route_service("/there", UpgradeLayer::new().protocol("echo", echo).into_service());
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let uri: http::Uri = format!("http://{}/here", listener.local_addr()?).parse()?;
//! # tokio::spawn(async { axum::serve(listener, app).await });
//! # let http = Client::builder(TokioExecutor::new()).build_http();
//! let client = ServiceBuilder::new()
//!     .layer(client::UpgradeLayer::new())
//!     .layer(FollowRedirectLayer::new())
//!     .service(http);
//! let session = client.oneshot(client::Request::get(uri).protocol("echo")).await?;
//! # Ok(())
//! # }
//! ```

mod body;
mod cause;
mod dial;
mod error;
mod http1;
mod http2;
mod layer;
mod request;
mod service;
mod session;
mod tunnel;

pub use self::{
    body::Body,
    dial::Dial,
    error::{Error, ErrorKind},
    http1::Http1,
    http2::Http2,
    layer::UpgradeLayer,
    request::Request,
    service::{ResponseFuture, Upgrade},
    session::Session,
    tunnel::Tunnel,
};

use std::future::poll_fn;
use tower_service::Service;

/// Waits until a service takes a request.
pub(crate) async fn ready<S: Service<R>, R>(service: &mut S) -> Result<(), S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await
}
