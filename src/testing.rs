//! Test a handler, or a whole stack, with no socket.
//!
//! [`upgrade`] sends one request through a stack, an offer of protocols or a [`connect`], over HTTP/1.1
//! in memory with hyper at both ends, and holds the peer's end of what comes of it. Nothing waits for a real
//! clock, so that a test can run with tokio's time paused.
//!
//! ```
//! use http::{HeaderValue, StatusCode};
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! use tower_upgrade::{
//!     Accept, ProtocolHandler, Rejection, Session, UpgradeLayer, UpgradeRequest, testing,
//! };
//!
//! /// Greets those who say who they are.
//! #[derive(Clone)]
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
//! let request = testing::request("greet").header("user", "ann").body(String::new())?;
//! let exchange = testing::upgrade(app.clone(), request).await?;
//! assert_eq!(exchange.response().headers()["greeting"], "follows");
//! let mut said = String::new();
//! exchange.expect_switched("greet").read_to_string(&mut said).await?;
//! assert_eq!(said, "hello ann");
//!
//! let request = testing::request("greet").body(String::new())?;
//! testing::upgrade(app.clone(), request).await?.expect_refused(StatusCode::UNAUTHORIZED);
//!
//! let request = testing::request("chess").body(String::new())?;
//! testing::upgrade(app, request).await?.expect_refused(StatusCode::UPGRADE_REQUIRED);
//! # Ok(())
//! # }
//! ```

use crate::{BoxError, Protocol, RejectionReason, Upgraded, box_io::BoxIo};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
};
use tower_service::Service;

/// How much is under way between the two ends before a write has to wait.
const BUFFER_BYTES: usize = 64 * 1024;

/// Starts a request that offers `protocols`, a value of `Upgrade` such as `chat/2, chat/1`.
///
/// It is a `GET /` until the builder is told otherwise.
pub fn request(protocols: &str) -> http::request::Builder {
    Request::builder()
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, protocols)
}

/// Starts a CONNECT to `target`, a host and a port such as `example.com:443`.
#[must_use]
pub fn connect(target: &str) -> http::request::Builder {
    Request::builder().method(Method::CONNECT).uri(target)
}

/// Sends a request through a stack, and returns what the peer then sees.
///
/// # Errors
///
/// What hyper says at the peer's end if there is no response: when the stack's service fails, or
/// panics.
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
    let (client_io, server_io) = tokio::io::duplex(BUFFER_BYTES);

    // What cannot be seen from the peer's end: whether a response is a refusal or inner's.
    let reason = Arc::new(OnceLock::new());
    let service = hyper::service::service_fn({
        let reason = Arc::clone(&reason);
        move |request| {
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
    let server = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(server_io), service)
        .with_upgrades();
    tokio::spawn(server);

    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(client_io)).await?;
    tokio::spawn(connection.with_upgrades());
    let is_connect = *request.method() == Method::CONNECT;
    let mut response = client.send_request(request).await?;
    let is_switched = match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => true,
        status => is_connect && status.is_success(),
    };
    let io = match is_switched {
        true => Some(hyper::upgrade::on(&mut response).await?),
        false => None,
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Exchange {
        response: Response::from_parts(parts, body),
        reason: reason.get().cloned().flatten(),
        io: io.map(|io| Upgraded::from_box_io(BoxIo::from(io))),
    })
}

/// What came of a request: the response, and the peer's end of the connection if it switched.
#[derive(Debug)]
#[must_use = "say what is expected of it"]
pub struct Exchange {
    response: Response<Bytes>,
    reason: Option<RejectionReason>,
    io: Option<Upgraded>,
}

impl Exchange {
    /// The response.
    #[must_use]
    pub fn response(&self) -> &Response<Bytes> {
        &self.response
    }

    /// The peer's end of the session.
    ///
    /// # Panics
    ///
    /// If the connection did not switch, or not to this protocol.
    #[must_use]
    #[track_caller]
    pub fn expect_switched(self, protocol: &str) -> Upgraded {
        let chosen = self
            .response
            .headers()
            .get(header::UPGRADE)
            .and_then(|chosen| chosen.to_str().ok()?.parse::<Protocol>().ok());
        let is_expected = chosen.is_some_and(|chosen| chosen == *protocol);
        match self {
            Self { io: Some(io), .. } if is_expected => io,
            other => other.unexpected(&format!("a switch to {protocol}")),
        }
    }

    /// The peer's end of the session that a CONNECT was answered with.
    ///
    /// # Panics
    ///
    /// If the CONNECT was refused, or the request was none.
    #[must_use]
    #[track_caller]
    pub fn expect_connected(self) -> Upgraded {
        match self {
            Self { io: Some(io), .. } if !self.response.headers().contains_key(header::UPGRADE) => {
                io
            }
            other => other.unexpected("a tunnel"),
        }
    }

    /// The response of a handler, or of an `UpgradeLayer`, that refused.
    ///
    /// # Panics
    ///
    /// If nobody refused, or with another status.
    #[track_caller]
    pub fn expect_refused(self, status: StatusCode) -> Response<Bytes> {
        if self.reason.is_some() && self.response.status() == status {
            self.response
        } else {
            self.unexpected(&format!("a refusal with {status}"))
        }
    }

    /// The response of the inner service, to which the request was passed, or of a layer that
    /// answered in its place.
    ///
    /// # Panics
    ///
    /// If the connection switched, or a handler or an `UpgradeLayer` refused.
    #[track_caller]
    pub fn expect_passed(self) -> Response<Bytes> {
        if self.reason.is_none() && self.io.is_none() {
            self.response
        } else {
            self.unexpected("a response of the inner service")
        }
    }

    #[track_caller]
    fn unexpected(&self, expected: &str) -> ! {
        let what = match (&self.io, &self.reason) {
            (Some(_), _) => "a switch".to_owned(),
            (None, Some(reason)) => format!("a refusal ({reason})"),
            (None, None) => "a response of the inner service".to_owned(),
        };
        panic!("expected {expected}, got {what}: {:?}", self.response)
    }
}
