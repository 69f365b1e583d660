//! The progress of a request body, and the time limit for the response.

use crate::{
    error::BoxError,
    time::{Timer, after},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// The progress of a request body that a client reads.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<State>>);

struct State {
    /// The time of the last frame that the client took.
    last: Instant,
    has_failed: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            last: Instant::now(),
            has_failed: false,
        })))
    }

    /// Records the progress of `body`.
    pub(super) fn of<B>(&self, body: B) -> Tracked<B> {
        Tracked {
            body,
            progress: self.clone(),
        }
    }

    /// Returns `true` if the body could not be read.
    pub(super) fn has_failed(&self) -> bool {
        self.with(|state| state.has_failed)
    }

    /// Waits for `future`, but not longer than `limit` after the last frame. Resolves to `None` if the limit is
    /// exceeded.
    pub(super) async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut timer = Timer::default();
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if limit == Duration::MAX {
                return Poll::Pending;
            }
            let since = self.with(|state| state.last.elapsed());
            let at = after(limit.saturating_sub(since));
            timer.poll_at(cx, at).map(|()| None)
        })
        .await
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pin_project! {
    /// A request body that records its progress.
    pub(super) struct Tracked<B> {
        #[pin]
        body: B,
        progress: Progress,
    }
}

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        this.progress.with(|state| {
            state.last = Instant::now();
            state.has_failed |= matches!(frame, Some(Err(_)));
        });
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
