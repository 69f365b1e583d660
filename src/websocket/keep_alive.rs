//! Pings for a peer that is silent.

use super::Message;
use super::codec::Codec;
use bytes::Bytes;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

pub(super) struct KeepAlive {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    is_pinged: bool,
}

/// The peer has not said anything, although it was pinged.
pub(super) struct Silent;

impl KeepAlive {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            timer: Box::pin(sleep(interval)),
            is_pinged: false,
        }
    }

    /// Waits until a ping is due, and queues it.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        codec: &mut Codec,
    ) -> Poll<Result<(), Silent>> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            // One look in an interval, and none at each message.
            self.timer.as_mut().reset(Instant::now() + self.interval);
            if codec.has_heard() {
                self.is_pinged = false;
            } else if self.is_pinged {
                return Poll::Ready(Err(Silent));
            } else {
                self.is_pinged = true;
                // It is closed if that fails, and then there is nothing to wait for.
                let _ = codec.start_send(Message::Ping(Bytes::new()));
                return Poll::Ready(Ok(()));
            }
        }
    }
}
