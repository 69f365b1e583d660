//! Routes that serve requests with and without an upgrade.

use super::{UpgradeRequest, upgrade::kind};
#[cfg(feature = "websocket")]
use super::{WebSocketUpgrade, websocket::asks_for_websocket};
use crate::message::rejection::Rejection;
use axum::extract::{FromRequest, Request};

/// Extracts an upgrade, or the unchanged request if the client does not ask for an upgrade.
///
/// `U` is [`UpgradeRequest`] or, for WebSocket, `WebSocketUpgrade`. With `WebSocketUpgrade`, a request whose `Upgrade`
/// offers only other protocols is also [`Plain`](Self::Plain).
///
/// ```
/// use axum::{Router, body::to_bytes, http::StatusCode, response::{IntoResponse, Response}, routing::post};
/// use tower_upgrade::{Accept, Rejection, UpgradeLayer, extract::MaybeUpgrade};
/// # async fn run(_: &[u8], _: tower_upgrade::Session) -> Result<(), tower_upgrade::BoxError> { Ok(()) }
/// # async fn run_detached(_: &[u8]) {}
///
/// /// Runs a command, attached to the connection if the client asks for that.
/// async fn start(upgrade: MaybeUpgrade) -> Result<Response, Rejection> {
///     match upgrade {
///         MaybeUpgrade::Upgrade(mut upgrade) => {
///             let command = upgrade.read_body(64 * 1024).await?;
///             let attached = Accept::new(|session| async move { run(&command, session).await });
///             Ok(upgrade.accept("tcp", attached).await)
///         }
///         MaybeUpgrade::Plain(request) => {
///             let command = to_bytes(request.into_body(), 64 * 1024).await;
///             run_detached(&command.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?).await;
///             Ok(StatusCode::OK.into_response())
///         }
///     }
/// }
///
/// let app: Router = Router::new().route("/start", post(start)).layer(UpgradeLayer::new());
/// ```
///
/// The client may offer only protocols that the route does not support: some clients offer `h2c` with the first request
/// on each connection. A route with side effects therefore checks [`offered`](crate::UpgradeRequest::offered) first,
/// and either ignores such an offer (RFC 9110 §7.8 allows this for `Upgrade`) or responds with 426.
///
/// # Rejections
///
/// The same as those of `U`.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a route matches on the value at once; a box would cost an allocation for each plain request"
)]
pub enum MaybeUpgrade<U = UpgradeRequest> {
    /// The request asks for an upgrade.
    Upgrade(U),
    /// The request does not ask for an upgrade. Its body and extensions are unchanged.
    Plain(Request),
}

impl<S: Send + Sync> FromRequest<S> for MaybeUpgrade<UpgradeRequest> {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        match kind(&request) {
            Some(_) => UpgradeRequest::from_request(request, state)
                .await
                .map(Self::Upgrade),
            None => Ok(Self::Plain(request)),
        }
    }
}

#[cfg(feature = "websocket")]
impl<S: Send + Sync> FromRequest<S> for MaybeUpgrade<WebSocketUpgrade> {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        match asks_for_websocket(&request) {
            true => WebSocketUpgrade::from_request(request, state)
                .await
                .map(Self::Upgrade),
            false => Ok(Self::Plain(request)),
        }
    }
}
