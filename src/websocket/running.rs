//! A WebSocket session: runs the handler and the keep-alive, and then closes the WebSocket.

use super::{
    Error, ErrorKind, WebSocket, WebSocketConfig,
    codec::Codec,
    deflate::Compression,
    keep_alive::{KeepAlive, Silent},
    shared::Shared,
};
use crate::{
    error::{BoxError, BoxFuture},
    frames::GOING_AWAY_FROM_SERVER,
    panic::{CatchPanic, Panic},
    session::{Session, farewell::Farewell, state::State},
    time::{Timer, after},
};
use http::HeaderValue;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tungstenite::protocol::Role;

/// Runs a session handler, and closes its WebSocket afterwards.
///
/// Not an `async fn`, whose future would keep its arguments, including the session, beside the handler's future for as
/// long as the session runs.
pub(super) fn run<F, Fut>(
    mut session: Session,
    subprotocol: Option<HeaderValue>,
    compression: Option<Compression>,
    config: &WebSocketConfig,
    handler: F,
) -> Running<Fut>
where
    F: FnOnce(WebSocket, Session) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    let state = Arc::clone(session.state());
    let codec = Codec::new(session.take_io(), Role::Server, config.limits, compression);
    let shared = Arc::new(Shared::new(codec, session.shutdown_timeout()));
    let socket = WebSocket::for_session(&session, Arc::clone(&shared), config, subprotocol);
    let watch = config.keep_alive.map(|interval| {
        shared.watch();
        Box::new(Watch::new(interval, session.shutdown_timeout()))
    });
    Running {
        handler: CatchPanic::new(|| handler(socket, session)),
        watch,
        end: Some(End { state, shared }),
        closing: None,
    }
}

pin_project! {
    /// Polls the session handler and the keep-alive of its WebSocket, and then closes the WebSocket.
    pub(super) struct Running<Fut> {
        #[pin]
        handler: CatchPanic<Fut>,
        watch: Option<Box<Watch>>,
        end: Option<End>,
        closing: Option<BoxFuture<Result<(), BoxError>>>,
    }

    impl<Fut> PinnedDrop for Running<Fut> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(end) = this.project().end {
                end.abort();
            }
        }
    }
}

impl<Fut> Future for Running<Fut>
where
    Fut: Future<Output = Result<(), BoxError>>,
{
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(end) = this.end {
            let polled = this.handler.poll(cx);
            if polled.is_pending() {
                end.shared.poll_broadcasts(cx);
            }
            let ended = match (polled, &mut *this.watch) {
                (Poll::Pending, Some(watch)) => {
                    let error = ready!(watch.poll(cx, &end.shared, &end.state));
                    Ok(Err(error))
                }
                (polled, _) => ready!(polled),
            };
            *this.watch = None;
            *this.closing = this
                .end
                .take()
                .map(|end| -> BoxFuture<_> { Box::pin(end.close(ended)) });
        }
        match this.closing {
            Some(closing) => closing.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// The state for closing the WebSocket after the handler has ended.
struct End {
    state: Arc<State>,
    shared: Arc<Shared>,
}

impl End {
    /// Ends the WebSocket of an aborted handler. The session sends the close frame, unless it would be within another
    /// frame.
    fn abort(&self) {
        let Some(codec) = self.shared.lock().take() else {
            return;
        };
        if codec.can_close() {
            let farewell = Farewell::for_stop(GOING_AWAY_FROM_SERVER);
            self.state.farewell.store(farewell);
        }
        drop(codec);
        // Other tasks may still wait for the WebSocket.
        self.state.wake_io();
    }

    async fn close(self, ended: Result<Result<(), BoxError>, Panic>) -> Result<(), BoxError> {
        let Self { state, shared } = self;
        let code = match &ended {
            Err(_) => 1011,
            _ if state.is_stopping() => 1001,
            Ok(Ok(())) => 1000,
            Ok(Err(_)) => 1011,
        };
        let is_caused_by_peer =
            |error: &BoxError| error.downcast_ref().is_some_and(Error::is_caused_by_peer);
        if matches!(&ended, Ok(Err(error)) if is_caused_by_peer(error)) && shared.has_failed() {
            state.blame_peer();
        }
        // `shutdown_timeout` bounds the close. The idle timeout would replace the handler's close reason.
        state.disable_idle_timeout();
        shared.close(&state, code).await;
        match ended {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(Err(error)) if is_orderly_close(&error, state.is_stopping()) => Ok(()),
            Ok(ended) => ended,
        }
    }
}

/// Ends a session when its peer is silent.
struct Watch {
    keep_alive: KeepAlive,
    /// The time limit for the handler to end after the peer is found silent.
    grace: Duration,
    abort_timer: Timer,
}

impl Watch {
    fn new(interval: Duration, grace: Duration) -> Self {
        Self {
            keep_alive: KeepAlive::new(interval),
            grace,
            abort_timer: Timer::default(),
        }
    }

    /// Completes when the peer is silent and the handler has not ended within the grace period.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared, state: &State) -> Poll<BoxError> {
        if !self.abort_timer.is_armed() {
            let Silent = ready!(self.keep_alive.poll(cx, shared));
            state.set_idle();
            shared.end_idle();
            // `end_idle` wakes the handler if it is sending or receiving.
            self.abort_timer.arm(after(self.grace));
        }
        self.abort_timer.poll(cx).map(|()| Error::idle().into())
    }
}

/// Returns whether a handler error is part of an orderly close: the handler tried to send after a close frame was sent
/// or received, or the peer did not answer the close frame sent at the stop signal.
fn is_orderly_close(error: &BoxError, is_stopping: bool) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| {
        error.kind() == ErrorKind::Closed || is_stopping && error.is_unanswered()
    })
}
