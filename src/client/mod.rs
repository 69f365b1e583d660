//! The client side: request an upgrade from a server, with any HTTP client.
//!
//! [`UpgradeLayer`] wraps an HTTP client: any service that takes an [`http::Request`]. The resulting service takes a
//! [`Request`] and returns a [`Session`], or an [`Error`] with the reason. If the server refused the upgrade, the
//! error holds the whole response.
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
//! println!("the server chose {:?}", session.protocol());
//! let io = session.into_io(); // tokio's and hyper's IO traits, early bytes first
//! # Ok(())
//! # }
//! ```
//!
//! The inner client opens the connections. `build_http` above does not support TLS: for `https`, use a client with a
//! TLS connector, or [`Dial`], whose example uses hyper-rustls.
//!
//! The client sends no byte of the new protocol before the server has accepted it (RFC 9931). If the server accepts
//! a protocol that was not offered, the call fails and the connection is dropped (RFC 9110 §7.8).
//!
//! # Inner clients
//!
//! | inner client | upgrade over HTTP/1.1 | over HTTP/2 | tunnel, with CONNECT |
//! |---|---|---|---|
//! | [`Dial`] over a connector: a new connection for each session | yes | where TLS negotiates it, or [`http2_only`](Dial::http2_only) | yes: [`Dial::destination`] the proxy |
//! | [`Http1`]: a connection that the caller has opened | yes | | yes |
//! | [`Http2`]: a connection that the caller has opened, for many sessions | | yes | yes |
//! | `Http3` (feature `http3`): a QUIC connection that the caller has opened, for many sessions | | over HTTP/3 | yes |
//! | [`Pool`] over a [`Dial`] with a destination: a new connection for each session, and connections that other requests reuse | as [`Dial`] | as [`Dial`] | as [`Dial`] |
//! | hyper-util's `Client` | yes | no | if its connector goes to the proxy |
//! | reqwest's client, as below | yes | no | no |
//! | any other client whose responses have hyper's `OnUpgrade`, or a [`PendingUpgrade`](crate::PendingUpgrade), in their extensions | yes | | yes |
//!
//! Over HTTP/2 an upgrade is an extended CONNECT (RFC 8441), which a client may send only if the server's settings
//! allow it. A pooled client, such as hyper-util's, does not expose these settings: disable HTTP/2 in its TLS
//! connector. If it sends an `Upgrade` over HTTP/2, the call fails with kind [`Unsupported`](ErrorKind::Unsupported).
//!
//! hyper hands over a tunnel if the proxy answers the CONNECT with 200, and on HTTP/1 with any 2xx except 204. Other
//! 2xx responses fail with kind [`Unsupported`](ErrorKind::Unsupported). Over HTTP/2, hyper treats a 101 as an interim
//! response.
//!
//! ## Connectors
//!
//! [`Dial`] takes connectors such as those of hyper-util and hyper-rustls; [`Tunnel`] is also a connector. Their
//! connections implement the trait `Connection` of hyper-util's module `legacy`, because only this trait reports the
//! HTTP version that TLS negotiated. Other crates implement the trait for their types; a trait of this crate would not
//! cover the connection types of hyper-rustls.
//!
//! Without a connector, open the connection yourself, and pass it to [`Http1::handshake`] or [`Http2::handshake`].
//! These take any type with tokio's IO traits.
//!
//! ## reqwest
//!
//! reqwest's client has its own request and response types, which the example converts. By default reqwest follows
//! redirects:
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
//! The call returns when the session begins. Outer layers therefore apply only to the handshake: a concurrency limit
//! counts handshakes, and a timeout limits their duration.
//!
//! ## Timeout
//!
//! [`UpgradeLayer::handshake_timeout`] is 30 seconds by default, and its error has kind
//! [`Timeout`](ErrorKind::Timeout). An outer tower `Timeout` returns tower's `Elapsed` instead:
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
//! let error = client.oneshot(request).await.expect_err("the server does not answer");
//! assert!(error.is::<tower::timeout::error::Elapsed>());
//! # Ok(())
//! # }
//! ```
//!
//! ## Retry
//!
//! A [`Request`] can be cloned, and a retry policy can read the response of the server that refused. The policy below
//! sends credentials after a 401, and waits after a 503 with `Retry-After`. The table of [`ErrorKind`] shows after
//! which errors another attempt may help. Check the kind before you act on a response: the response may come from a
//! proxy.
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
//! `ConcurrencyLimitLayer` limits concurrent handshakes. To limit sessions, hold a permit for the lifetime of each
//! session:
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
//! Put `FollowRedirectLayer` inside the [`UpgradeLayer`], where requests are plain [`http::Request`]s:
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
mod future;
mod http1;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod layer;
mod pool;
mod request;
mod service;
mod session;
mod tunnel;

#[cfg(feature = "http3")]
pub use self::http3::Http3;
pub use self::{
    body::Body,
    dial::Dial,
    error::{Error, ErrorKind},
    future::ResponseFuture,
    http1::Http1,
    http2::Http2,
    layer::UpgradeLayer,
    pool::Pool,
    request::Request,
    service::Upgrade,
    session::Session,
    tunnel::Tunnel,
};
