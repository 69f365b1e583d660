//! The current connection of a `Reconnecting`.

use super::Cause;
use crate::{
    error::BoxError,
    websocket::{CloseFrame, Error, Message, WebSocket},
};
use futures_util::Stream as _;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Instant;

pub(super) struct Connected {
    pub(super) socket: WebSocket,
    pub(super) since: Instant,
    /// The error of a `send`. Messages that have arrived before are received first.
    failed: Option<Error>,
    /// The application's error.
    abandoned: Option<BoxError>,
}

impl Connected {
    pub(super) fn new(socket: WebSocket) -> Self {
        Self {
            socket,
            since: Instant::now(),
            failed: None,
            abandoned: None,
        }
    }

    /// Notes an error of the connection: receiving may not fail where sending does.
    pub(super) fn note(&mut self, sent: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &sent {
            self.failed = error.copy_of_connection();
        }
        sent
    }

    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Cause>> {
        if let Some(error) = self.abandoned.take() {
            // The frame is valid, so an error only means that the WebSocket is closed.
            let _ = self.socket.begin_close(CloseFrame::new(1001, ""));
            return Poll::Ready(Err(Cause::Abandoned(error)));
        }
        Poll::Ready(match Pin::new(&mut self.socket).poll_next(cx) {
            Poll::Ready(Some(Ok(Message::Close(frame)))) => Err(Cause::Closed(frame)),
            Poll::Ready(Some(Ok(message))) => Ok(message),
            Poll::Ready(Some(Err(error))) => Err(Cause::Failed(error)),
            Poll::Ready(None) => Err(Cause::Failed(Error::no_close_frame())),
            Poll::Pending => match self.failed.take() {
                Some(error) => Err(Cause::Failed(error)),
                None => return Poll::Pending,
            },
        })
    }

    /// Returns whether the connection is neither broken nor given up.
    pub(super) fn is_usable(&self) -> bool {
        self.failed.is_none() && self.abandoned.is_none()
    }

    /// Gives up the connection because of an error of the application. Only the first error counts.
    pub(super) fn abandon(&mut self, error: BoxError) {
        self.abandoned.get_or_insert(error);
    }
}
