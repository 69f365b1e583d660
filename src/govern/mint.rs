//! An `OnUpgrade` of hyper that this crate fulfils.
//!
//! hyper has no public constructor for an `OnUpgrade`. A [`Mint`] obtains one from a hyper connection over a scripted
//! IO: the connection reads one constant upgrade request, and its service takes the `OnUpgrade` and answers 101. The
//! scripted IO discards the answer, and its flush stays pending. Once the IO has received a session's connection, the
//! flush completes and hyper resolves the `OnUpgrade` to the scripted IO, which passes all operations on to the
//! connection.

use super::{
    io::{GovernedIo, Handover},
    websocket::WebSocket,
};
use crate::session::upgraded::Upgraded;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    server::conn::http1::{Builder, UpgradeableConnection},
    service::Service,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Waker},
};
use sync_wrapper::SyncWrapper;

/// The sender of a minted `OnUpgrade`. If dropped unused, the `OnUpgrade` resolves to an error.
pub(crate) struct Mint {
    connection: SyncWrapper<Pin<Box<UpgradeableConnection<TokioIo<GovernedIo>, TakeUpgrade>>>>,
    handover: Arc<Handover>,
}

/// Takes the `OnUpgrade` out of the request.
struct TakeUpgrade {
    taken: Arc<Mutex<Option<OnUpgrade>>>,
}

impl Service<Request<Incoming>> for TakeUpgrade {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = Some(hyper::upgrade::on(&mut request));
        let mut response = Response::new(Empty::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let upgrade = HeaderValue::from_static("upgrade");
        response.headers_mut().insert(header::CONNECTION, upgrade);
        ready(Ok(response))
    }
}

impl Mint {
    /// Creates an `OnUpgrade` and its sender. `None` if hyper does not behave as expected.
    pub(crate) fn new() -> Option<(Self, OnUpgrade)> {
        let (io, handover) = GovernedIo::new();
        let taken = Arc::default();
        let service = TakeUpgrade {
            taken: Arc::clone(&taken),
        };
        let connection = Builder::new()
            .auto_date_header(false)
            .max_buf_size(8192)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = Box::pin(connection);
        // Reads the request, calls the service and buffers the response, up to the flush.
        let polled = connection
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        debug_assert!(polled.is_pending(), "the flush is pending");
        let on_upgrade = taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        let mint = Self {
            connection: SyncWrapper::new(connection),
            handover,
        };
        Some((mint, on_upgrade))
    }

    /// Resolves the `OnUpgrade` to `io`.
    pub(crate) fn fulfil(mut self, io: Upgraded, websocket: Option<WebSocket>) {
        self.handover.give(io, websocket);
        let polled = self
            .connection
            .get_mut()
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        debug_assert!(polled.is_ready(), "the flush is complete");
        // If hyper has not taken the connection, the session ends instead of waiting.
        self.handover.take_back();
    }
}
