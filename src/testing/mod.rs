//! Utilities for testing handlers and whole stacks without a socket.
//!
//! [`upgrade`] sends one request through a stack in memory, with hyper on both sides, and returns an
//! [`Exchange`]: the response, and the client side of the session if one has started. Pass the same stack that you
//! serve in production.
//!
//! All timers of the crate use tokio's clock. In a test with tokio's time paused (`start_paused = true`, which needs
//! tokio's feature `test-util`), idle timeouts and drains therefore take no real time.
//!
//! | constructor | request | HTTP version | expected outcome |
//! |---|---|---|---|
//! | [`request("chat")`](request) | `Upgrade` | HTTP/1.1 | [`expect_upgraded("chat")`](Exchange::expect_upgraded) |
//! | [`extended_connect("chat")`](extended_connect) | extended CONNECT | HTTP/2 | [`expect_upgraded("chat")`](Exchange::expect_upgraded) |
//! | [`connect("example.com:443")`](connect) | CONNECT | HTTP/1.1, or HTTP/2 with `.version(..)` | [`expect_connected()`](Exchange::expect_connected) |
//! | [`http::Request::builder()`] | no upgrade | that of the request | [`expect_passed()`](Exchange::expect_passed) |
//!
//! For a rejected request, call [`expect_rejected(status)`](Exchange::expect_rejected). [`Exchange::closed`]
//! returns how a session ended.
//!
//! # A handler that rejects
//!
//! ```
//! use http::{HeaderValue, StatusCode};
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! use tower_upgrade::{
//!     Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest, testing,
//! };
//!
//! /// Greets the user that the header `user` names.
//! struct Greeter;
//!
//! impl ProtocolHandler for Greeter {
//!     async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
//!         let user = request.headers().get("user").cloned().ok_or(StatusCode::UNAUTHORIZED)?;
//!         Ok(Accept::new(move |mut session: Session| async move {
//!             session.io_mut().write_all(b"hello ").await?;
//!             session.io_mut().write_all(user.as_bytes()).await?;
//!             Ok(())
//!         })
//!         .header("greeting", HeaderValue::from_static("follows")))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! let app = UpgradeLayer::new().protocol("greet", Greeter).into_service();
//!
//! let request = testing::request("greet").body(String::new())?;
//! let exchange = testing::upgrade(app.clone(), request).await?;
//! let response = exchange.expect_rejected(StatusCode::UNAUTHORIZED);
//! assert_eq!(*response.body(), "Unauthorized");
//!
//! // `chess` matches no handler, so the layer rejects the request.
//! let request = testing::request("chess").body(String::new())?;
//! testing::upgrade(app.clone(), request).await?.expect_rejected(StatusCode::UPGRADE_REQUIRED);
//!
//! let request = testing::request("greet").header("user", "ann").body(String::new())?;
//! let exchange = testing::upgrade(app, request).await?;
//! assert_eq!(exchange.response().headers()["greeting"], "follows");
//! let mut received = String::new();
//! exchange.expect_upgraded("greet").read_to_string(&mut received).await?;
//! assert_eq!(received, "hello ann");
//! # Ok(())
//! # }
//! ```
//!
//! # A handler that echoes, over HTTP/1.1 and HTTP/2
//!
//! ```
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! use tower_upgrade::{Session, UpgradeLayer, copy, handler_fn, testing};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! let echo = handler_fn(|session: Session| async move {
//!     let (mut reader, mut writer) = tokio::io::split(session.into_io());
//!     copy(&mut reader, &mut writer).await?;
//!     Ok(())
//! });
//! let app = UpgradeLayer::new()
//!     .protocol("echo", echo)
//!     .idle_timeout(Some(Duration::from_secs(60)))
//!     .into_service();
//!
//! for request in [testing::request("echo"), testing::extended_connect("echo")] {
//!     let exchange = testing::upgrade(app.clone(), request.body(String::new())?).await?;
//!     let closed = exchange.closed();
//!     let mut client = exchange.expect_upgraded("echo");
//!     client.write_all(b"hello").await?;
//!     client.shutdown().await?;
//!     let mut echo = String::new();
//!     client.read_to_string(&mut echo).await?;
//!     assert_eq!(echo, "hello");
//!
//!     let closed = closed.await;
//!     assert_eq!(closed.reason().as_str(), "finished");
//!     assert_eq!((closed.bytes_read(), closed.bytes_written()), (5, 5));
//! }
//!
//! // A silent client: the 60 seconds pass at once, because the time is paused.
//! let request = testing::extended_connect("echo").body(String::new())?;
//! let exchange = testing::upgrade(app, request).await?;
//! let closed = exchange.closed();
//! let _client = exchange.expect_upgraded("echo");
//! let closed = closed.await;
//! assert_eq!(closed.reason().as_str(), "idle");
//! assert_eq!(closed.duration(), Duration::from_secs(60));
//! # Ok(())
//! # }
//! ```
//!
//! # A registry that drains
//!
//! ```
//! use std::time::Duration;
//! use tokio::{io::{AsyncReadExt as _, AsyncWriteExt as _}, time::Instant};
//! use tower_upgrade::{Session, Sessions, UpgradeLayer, handler_fn, testing};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! /// Says goodbye if it is stopped while it waits for a byte. After the byte, it ignores the stop signal.
//! let polite = handler_fn(|session: Session| async move {
//!     let stop = session.stop();
//!     let mut io = session.into_io();
//!     tokio::select! {
//!         read = io.read_u8() => io.write_u8(read?).await?,
//!         () = stop => return Ok(io.write_all(b"bye").await?),
//!     }
//!     std::future::pending().await
//! });
//! let sessions = Sessions::new();
//! let app = UpgradeLayer::new()
//!     .sessions(sessions.clone())
//!     .protocol("polite", polite)
//!     .into_service();
//!
//! let request = testing::request("polite").body(String::new())?;
//! let idle = testing::upgrade(app.clone(), request).await?;
//! let idle_closed = idle.closed();
//! let mut idle = idle.expect_upgraded("polite");
//!
//! let request = testing::request("polite").body(String::new())?;
//! let busy = testing::upgrade(app, request).await?;
//! let busy_closed = busy.closed();
//! let mut busy = busy.expect_upgraded("polite");
//! busy.write_u8(1).await?;
//! // Wait until the session has read the byte: the stop signal must come later.
//! assert_eq!(busy.read_u8().await?, 1);
//!
//! let start = Instant::now();
//! // The drain begins with this call, before the future is awaited.
//! let drain = sessions.drain(Duration::from_secs(30));
//! let mut received = String::new();
//! idle.read_to_string(&mut received).await?;
//! assert_eq!(received, "bye");
//! assert_eq!(idle_closed.await.reason().as_str(), "drained");
//! assert_eq!(start.elapsed(), Duration::ZERO);
//! drop(idle);
//!
//! let report = drain.await;
//! assert_eq!((report.ended, report.aborted, report.left), (1, 1, 0));
//! assert_eq!(busy_closed.await.reason().as_str(), "aborted");
//! assert_eq!(start.elapsed(), Duration::from_secs(30));
//! # Ok(())
//! # }
//! ```

mod connection;
mod exchange;
mod observer;

pub use self::exchange::Exchange;

use self::{connection::Connection, exchange::Opened, observer::Reports};
use crate::{
    error::BoxError, message::rejection::RejectionReason, negotiate::kind::UpgradeKind, service,
    session::pending_upgrade::Handover,
};
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, ext::Protocol};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tower_service::Service;

/// Creates a builder for an HTTP/1.1 request that offers `protocols`, a value of `Upgrade` such as
/// `chat/2, chat/1`.
///
/// The request is a `GET /` unless the builder changes it.
pub fn request(protocols: &str) -> http::request::Builder {
    Request::builder()
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, protocols)
}

/// Creates a builder for an extended CONNECT (RFC 8441) over HTTP/2 for `protocol`, such as `chat/2`.
///
/// The path is `/` unless the builder changes it.
#[must_use]
pub fn extended_connect(protocol: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .extension(Protocol::from(protocol))
}

/// Creates a builder for a CONNECT to `target`, a host and a port such as `example.com:443`.
///
/// The request is sent over HTTP/1.1, or over HTTP/2 with `.version(Version::HTTP_2)`.
#[must_use]
pub fn connect(target: &str) -> http::request::Builder {
    Request::builder().method(Method::CONNECT).uri(target)
}

/// Sends a request through a stack, and returns the outcome.
///
/// A request of version HTTP/2, or with a [`Protocol`] in its extensions, is sent over HTTP/2 to a server that
/// allows extended CONNECT. Every other request is sent over HTTP/1.1. Each call opens a new connection, which
/// ends with the session.
///
/// Over HTTP/2, the `:authority` is that of the URI, else the `Host` header, else `localhost`. Over HTTP/1.1, a missing
/// `Host` header is added if the URI has an authority.
///
/// # Errors
///
/// Returns an error if the stack fails or panics before it has sent the whole response, or if the request cannot be
/// sent, such as a request of version HTTP/3.
///
/// # Panics
///
/// If called outside of a tokio runtime.
///
/// # Cancel safety
///
/// If the future is dropped, the connection is closed.
pub async fn upgrade<S, ReqBody, ResBody>(
    service: S,
    request: Request<ReqBody>,
) -> Result<Exchange, BoxError>
where
    S: Service<Request<Incoming>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    ReqBody: Body + Send + 'static,
    ReqBody::Data: Send,
    ReqBody::Error: Into<BoxError>,
    ResBody: Body + Send + 'static,
    ResBody::Data: Send,
    ResBody::Error: Into<BoxError>,
{
    let (observer, reports) = Reports::new();
    // The request takes the observer with it. Kept here, the observer would live as long as the connection, and
    // `Exchange::closed` would wait that long for a session that never starts.
    let observer = Mutex::new(Some(observer));
    // On the client side, a rejection and a response of the inner service look the same.
    let reason = Arc::new(OnceLock::new());
    let service = hyper::service::service_fn({
        let reason = Arc::clone(&reason);
        move |mut request: Request<Incoming>| {
            let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(observer) = observer.take() {
                request.extensions_mut().insert(observer);
            }
            let mut service = service.clone();
            let reason = Arc::clone(&reason);
            async move {
                let response = service::call(&mut service, request).await?;
                let _ = reason.set(response.extensions().get::<RejectionReason>().cloned());
                Ok::<_, S::Error>(response)
            }
        }
    });

    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    let asked = Asked::of(&request);
    let mut connection = Connection::open(connection::version(&request)?, service).await?;
    let mut response = connection.send(request).await?;
    let upgraded = match asked.kind(response.status()) {
        Some(kind) => {
            let protocol = asked.upgraded_to(&response);
            let handover = Handover::take(response.extensions_mut())
                .ok_or("hyper's client did not hand over the connection")?;
            let io = handover.io().await?;
            Some(Opened { kind, protocol, io })
        }
        None => None,
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Exchange {
        response: Response::from_parts(parts, body),
        reason: reason.get().cloned().flatten(),
        upgraded,
        reports,
    })
}

/// The parts of a request that determine the meaning of its response.
struct Asked {
    is_connect: bool,
    /// The protocol of an extended CONNECT, which the response does not repeat.
    protocol: Option<Protocol>,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        Self {
            is_connect: *request.method() == Method::CONNECT,
            protocol: request.extensions().get().cloned(),
        }
    }

    /// Returns the kind of upgrade that a response with this status completes.
    fn kind(&self, status: StatusCode) -> Option<UpgradeKind> {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            Some(UpgradeKind::Upgrade)
        } else if self.is_connect && status.is_success() {
            Some(match self.protocol {
                Some(_) => UpgradeKind::ExtendedConnect,
                None => UpgradeKind::Connect,
            })
        } else {
            None
        }
    }

    /// Returns the protocol that the response switches to.
    fn upgraded_to<B>(
        &self,
        response: &Response<B>,
    ) -> Option<crate::negotiate::protocol::Protocol> {
        let protocol = match &self.protocol {
            Some(protocol) => protocol.as_str(),
            None => response.headers().get(header::UPGRADE)?.to_str().ok()?,
        };
        protocol.parse().ok()
    }
}
