//! Test a handler, or a whole stack, with no socket.
//!
//! [`upgrade`] sends one request through a stack, in memory, with hyper at both ends, and holds the
//! peer's end of what comes of it. Nothing waits for a real clock, so that a test can run with tokio's time
//! paused (`start_paused = true`, which needs tokio's feature `test-util`): then idle timeouts and drains take no
//! time. The stack is the one that is served; it needs nothing for its tests.
//!
//! | the test makes | which asks for | over | and expects |
//! |---|---|---|---|
//! | [`request("chat")`](request) | `Upgrade` | HTTP/1.1 | [`expect_switched("chat")`](Exchange::expect_switched) |
//! | [`extended_connect("chat")`](extended_connect) | extended CONNECT | HTTP/2 | the same |
//! | [`connect("example.com:443")`](connect) | CONNECT | HTTP/1.1, or HTTP/2 with `.version(..)` | [`expect_connected()`](Exchange::expect_connected) |
//! | any other request | nothing | its version | [`expect_passed()`](Exchange::expect_passed) |
//!
//! Any of them may be refused: [`expect_refused(status)`](Exchange::expect_refused). How a session ended
//! is told by [`Exchange::closed`].
//!
//! # A handler that refuses
//!
//! ```
//! use http::{HeaderValue, StatusCode};
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! use tower_upgrade::{
//!     Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest, testing,
//! };
//!
//! /// Greets those who say who they are.
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
//! let response = exchange.expect_refused(StatusCode::UNAUTHORIZED);
//! assert_eq!(*response.body(), "Unauthorized");
//!
//! // Nor does anybody speak this: it is the layer that refuses.
//! let request = testing::request("chess").body(String::new())?;
//! testing::upgrade(app.clone(), request).await?.expect_refused(StatusCode::UPGRADE_REQUIRED);
//!
//! let request = testing::request("greet").header("user", "ann").body(String::new())?;
//! let exchange = testing::upgrade(app, request).await?;
//! assert_eq!(exchange.response().headers()["greeting"], "follows");
//! let mut said = String::new();
//! exchange.expect_switched("greet").read_to_string(&mut said).await?;
//! assert_eq!(said, "hello ann");
//! # Ok(())
//! # }
//! ```
//!
//! # One that echoes, over both versions of HTTP
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
//!     let mut peer = exchange.expect_switched("echo");
//!     peer.write_all(b"hello").await?;
//!     peer.shutdown().await?;
//!     let mut echo = String::new();
//!     peer.read_to_string(&mut echo).await?;
//!     assert_eq!(echo, "hello");
//!
//!     let closed = closed.await;
//!     assert_eq!(closed.reason().as_str(), "finished");
//!     assert_eq!((closed.bytes_read(), closed.bytes_written()), (5, 5));
//! }
//!
//! // A peer that says nothing. The minute passes at once.
//! let request = testing::extended_connect("echo").body(String::new())?;
//! let exchange = testing::upgrade(app, request).await?;
//! let closed = exchange.closed();
//! let _peer = exchange.expect_switched("echo");
//! let closed = closed.await;
//! assert_eq!(closed.reason().as_str(), "idle");
//! assert_eq!(closed.duration(), Duration::from_secs(60));
//! # Ok(())
//! # }
//! ```
//!
//! # One that drains
//!
//! ```
//! use std::time::Duration;
//! use tokio::{io::{AsyncReadExt as _, AsyncWriteExt as _}, time::Instant};
//! use tower_upgrade::{Session, Sessions, UpgradeLayer, handler_fn, testing};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_upgrade::BoxError> {
//! /// Says goodbye to those who wait, and does not stop once it is at work.
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
//! let mut idle = idle.expect_switched("polite");
//!
//! let request = testing::request("polite").body(String::new())?;
//! let busy = testing::upgrade(app, request).await?;
//! let busy_closed = busy.closed();
//! let mut busy = busy.expect_switched("polite");
//! busy.write_u8(1).await?;
//! // Without this the session may not have read it by the time that it is told to stop.
//! assert_eq!(busy.read_u8().await?, 1);
//!
//! let start = Instant::now();
//! // It begins here, whoever waits for it.
//! let drain = sessions.drain(Duration::from_secs(30));
//! let mut said = String::new();
//! idle.read_to_string(&mut said).await?;
//! assert_eq!(said, "bye");
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
pub(crate) mod observer;

pub use self::exchange::Exchange;

use self::{connection::Connection, exchange::Switched, observer::Reports};
use crate::{BoxError, RejectionReason, UpgradeKind, Upgraded, box_io::BoxIo};
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, ext::Protocol};
use std::{
    future::poll_fn,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tower_service::Service;

/// Starts a request that offers `protocols`, a value of `Upgrade` such as `chat/2, chat/1`, for HTTP/1.1.
///
/// It is a `GET /` until the builder is told otherwise.
pub fn request(protocols: &str) -> http::request::Builder {
    Request::builder()
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, protocols)
}

/// Starts an extended CONNECT (RFC 8441) for `protocol`, such as `chat/2`, for HTTP/2.
///
/// It is for `/` until the builder is told otherwise.
#[must_use]
pub fn extended_connect(protocol: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .extension(Protocol::from(protocol))
}

/// Starts a CONNECT to `target`, a host and a port such as `example.com:443`.
///
/// It is for HTTP/1.1 until the builder is told otherwise: with `.version(Version::HTTP_2)` it is for HTTP/2.
#[must_use]
pub fn connect(target: &str) -> http::request::Builder {
    Request::builder().method(Method::CONNECT).uri(target)
}

/// Sends a request through a stack, and returns what the peer then sees.
///
/// The request says over what: one of version HTTP/2, or with a [`Protocol`] in its extensions, goes over
/// HTTP/2, where the server allows extended CONNECT; every other over HTTP/1.1. Each has a connection of
/// its own, which ends with the session.
///
/// Over HTTP/2 a request with no authority in its URI is for that of `Host`, or else for `localhost`. Over
/// HTTP/1.1 it has the `Host` that it is given, or else the authority of its URI, if any.
///
/// # Errors
///
/// What hyper says at the peer's end if there is no response: when the stack's service fails, or
/// panics, or when the request cannot be sent. One of version HTTP/3 cannot.
///
/// # Panics
///
/// Outside of a tokio runtime.
///
/// # Cancel safety
///
/// If the future is dropped the connection is closed.
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
    // Taken out for the one request, so that whoever waits for the end of a session is not kept waiting
    // by a connection that has none.
    let observer = Mutex::new(Some(observer));
    // What cannot be seen from the peer's end: whether a response is a refusal or inner's.
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
                poll_fn(|cx| service.poll_ready(cx)).await?;
                let response = service.call(request).await?;
                let _ = reason.set(response.extensions().get::<RejectionReason>().cloned());
                Ok::<_, S::Error>(response)
            }
        }
    });

    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    let asked = Asked::of(&request);
    let mut connection = Connection::open(connection::version(&request)?, service).await?;
    let mut response = connection.send(request).await?;
    let switched = match asked.kind(response.status()) {
        Some(kind) => Some(Switched {
            kind,
            protocol: asked.switched_to(&response),
            io: Upgraded::from_box_io(BoxIo::from(hyper::upgrade::on(&mut response).await?)),
        }),
        None => None,
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Exchange {
        response: Response::from_parts(parts, body),
        reason: reason.get().cloned().flatten(),
        switched,
        reports,
    })
}

/// What a response is read in the light of.
struct Asked {
    is_connect: bool,
    /// Of an extended CONNECT, whose answer does not say it again.
    protocol: Option<Protocol>,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        Self {
            is_connect: *request.method() == Method::CONNECT,
            protocol: request.extensions().get().cloned(),
        }
    }

    /// How a response with this status leaves HTTP, if it does.
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

    /// The protocol of the switch.
    fn switched_to<B>(&self, response: &Response<B>) -> Option<crate::Protocol> {
        let protocol = match &self.protocol {
            Some(protocol) => protocol.as_str(),
            None => response.headers().get(header::UPGRADE)?.to_str().ok()?,
        };
        protocol.parse().ok()
    }
}
