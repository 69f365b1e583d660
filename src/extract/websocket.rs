//! WebSocket, with what axum's own extractor has.

use super::{UpgradeRequest, upgrade::kind};
use crate::{
    error::BoxError,
    message::rejection::Rejection,
    negotiate::{self, kind::UpgradeKind, protocol::Protocol},
    session::Session,
    trace,
    websocket::{RateLimit, WebSocket, WebSocketUpgrade as Handler, handshake},
};
use axum::{
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

/// An opening handshake of WebSocket, for a route that decides on it.
///
/// It is checked as by [`websocket::WebSocketUpgrade`](crate::websocket::WebSocketUpgrade), which has the list of
/// what it refuses, and with which status. `Origin` is looked at in the end: see [`origins`](Self::origins).
///
/// A handshake has no body: if there is one it was read and dropped.
#[must_use = "the connection switches only if the response of `on_upgrade` is returned"]
pub struct WebSocketUpgrade {
    request: UpgradeRequest,
    handler: Handler,
    on_failed: Option<Box<dyn FnOnce() + Send>>,
}

impl WebSocketUpgrade {
    /// The subprotocols that are spoken, the most wanted first. Of those that a client offers, the
    /// first in the client's order is chosen.
    ///
    /// # Panics
    ///
    /// If one is no token.
    #[track_caller]
    pub fn protocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.handler = self.handler.subprotocols(protocols);
        self
    }

    /// Lets the server's order of the subprotocols decide, as axum's own extractor does, and not the client's.
    pub fn prefer_own_protocols(mut self) -> Self {
        self.handler = self.handler.prefer_own_subprotocols();
        self
    }

    /// The subprotocols that the client offers, in its order.
    pub fn requested_protocols(&self) -> impl Iterator<Item = &str> {
        handshake::subprotocols(self.request.headers())
            .into_iter()
            .flatten()
    }

    /// The subprotocol that is chosen of those that are [spoken](Self::protocols), if one is.
    #[must_use]
    pub fn selected_protocol(&self) -> Option<&str> {
        self.handler.choose(self.request.headers())
    }

    /// Sets the longest message that a client may send, in bytes. The default is 1 MiB: see
    /// [`max_message_size`](crate::websocket::WebSocketUpgrade::max_message_size).
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.handler = self.handler.max_message_size(bytes);
        self
    }

    /// Limits the rate at which the client may send messages: see
    /// [`RateLimit`](crate::websocket::RateLimit). By default there is no limit.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.handler = self.handler.rate_limit(limit);
        self
    }

    /// Pings a peer that is silent: see
    /// [`keep_alive`](crate::websocket::WebSocketUpgrade::keep_alive). By default there are no pings.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.handler = self.handler.keep_alive(interval);
        self
    }

    /// The pages that may open a WebSocket, by their origins. By default it is those of the same host
    /// and port: see [`origins`](crate::websocket::WebSocketUpgrade::origins).
    ///
    /// # Panics
    ///
    /// If one is no origin.
    #[track_caller]
    pub fn origins<I>(mut self, origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.handler = self.handler.origins(origins);
        self
    }

    /// Lets any page open a WebSocket: see
    /// [`any_origin`](crate::websocket::WebSocketUpgrade::any_origin).
    pub fn any_origin(mut self) -> Self {
        self.handler = self.handler.any_origin();
        self
    }

    /// What is called if the session never starts: the client has left, or a layer around has made something
    /// else of the response. A refusal of [`on_upgrade`](Self::on_upgrade) is none of that.
    pub fn on_failed_upgrade<C>(mut self, callback: C) -> Self
    where
        C: FnOnce() + Send + 'static,
    {
        self.on_failed = Some(Box::new(callback));
        self
    }

    /// Switches, and lets `callback` have the WebSocket. Or refuses, with 403, if the page may not open one.
    pub fn on_upgrade<C, Fut>(self, callback: C) -> Response
    where
        C: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.on_session(move |socket, _session| callback(socket))
    }

    /// The same, for a callback that wants the [session](Session) as well, without its IO.
    pub fn on_session<C, Fut>(mut self, callback: C) -> Response
    where
        C: FnOnce(WebSocket, Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let handshake = match self.handler.check(&mut self.request) {
            Ok(handshake) => handshake,
            Err(rejection) => return IntoResponse::into_response(rejection),
        };
        let failing = Failing(self.on_failed.take());
        let accept = handshake.accept(move |socket, session| {
            failing.has_started();
            callback(socket, session)
        });
        self.request.switch(&websocket(), accept)
    }
}

fn websocket() -> Protocol {
    "websocket".parse().expect("a token")
}

/// Whether a request asks for a WebSocket.
///
/// An `Upgrade` to other protocols does not: it may be ignored (RFC 9110 §7.8), and some clients offer HTTP/2 with each
/// first request. A CONNECT may not be ignored: any answer of success would be the upgrade response.
pub(super) fn asks_for_websocket(request: &Request) -> bool {
    let websocket = websocket();
    match kind(request) {
        Some(UpgradeKind::Upgrade) => {
            negotiate::http1::offered(request.headers()).any(|member| websocket.takes(member))
        }
        Some(_) => true,
        None => false,
    }
}

/// Calls back if it is dropped before the session has started.
struct Failing(Option<Box<dyn FnOnce() + Send>>);

impl Failing {
    fn has_started(mut self) {
        self.0 = None;
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            // A user's function, and this may be dropped in a panic's unwinding, where another one aborts.
            let called = panic::catch_unwind(AssertUnwindSafe(callback));
            if let Err(panic) = called {
                trace::on_failed_upgrade_panicked(&trace::panic_message(&*panic));
            }
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for WebSocketUpgrade {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        let mut request = <UpgradeRequest as FromRequest<S>>::from_request(request, state).await?;
        if !request.offered().any(|protocol| protocol == "websocket") {
            return Err(request.unsupported(&websocket()));
        }
        // All but the origin, of which the handler has a say.
        let _in_order = Handler::new().any_origin().check(&mut request)?;
        request.discard_body().await?;
        Ok(Self {
            request,
            handler: Handler::new(),
            on_failed: None,
        })
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("request", &self.request)
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}
