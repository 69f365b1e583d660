//! A limit on the rate of messages.

use crate::time::Timer;
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// A limit on the rate at which the peer may send messages.
///
/// The limit applies to the average rate, and the peer may send the messages of a [`burst`](Self::burst) at once. When
/// the peer exceeds the limit, the WebSocket stops reading until the average is within the limit again: the messages
/// wait in the buffers of the connection, and the flow control of TCP or HTTP/2 slows the peer down. With
/// [`close`](Self::close) the WebSocket is closed instead.
///
/// Pings and pongs count as messages. A limit without [`close`](Self::close) loses no message, and does not notify the
/// peer.
///
/// ```
/// use std::time::Duration;
/// use tower_upgrade::websocket::{RateLimit, WebSocket, WebSocketConfig, websocket};
///
/// // 10 messages and 64 KiB per second on average, and up to 50 messages at once.
/// let limit = RateLimit::new(10).bytes_per_second(64 * 1024).burst(Duration::from_secs(5));
/// let handler = websocket(|mut socket: WebSocket, _session| async move {
///     while let Some(message) = socket.recv().await {
///         drop(message?);
///     }
///     Ok(())
/// });
/// let handler = handler.config(WebSocketConfig::new().rate_limit(limit));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    messages: u32,
    bytes: Option<u32>,
    burst: Duration,
    closes: bool,
}

impl RateLimit {
    /// Creates a limit on the number of messages per second.
    ///
    /// # Panics
    ///
    /// If `messages_per_second` is zero.
    #[must_use]
    #[track_caller]
    pub const fn new(messages_per_second: u32) -> Self {
        assert!(
            messages_per_second > 0,
            "the rate limit is zero messages per second"
        );
        Self {
            messages: messages_per_second,
            bytes: None,
            burst: Duration::from_secs(1),
            closes: false,
        }
    }

    /// Limits the payload bytes per second in addition to the messages. By default they are not limited.
    ///
    /// A message of more bytes than a burst is still received; the next message waits until the average is within the
    /// limit. With [`close`](Self::close), such a message closes the WebSocket.
    ///
    /// # Panics
    ///
    /// If `bytes` is zero.
    #[must_use]
    #[track_caller]
    pub const fn bytes_per_second(mut self, bytes: u32) -> Self {
        assert!(bytes > 0, "the rate limit is zero bytes per second");
        self.bytes = Some(bytes);
        self
    }

    /// Sets the number of messages and bytes that the peer may send at once, as a duration: a burst of 5 seconds allows
    /// the messages and bytes of 5 seconds at the limited rate. The default is one second.
    #[must_use]
    pub const fn burst(mut self, burst: Duration) -> Self {
        self.burst = burst;
        self
    }

    /// Closes the WebSocket with 1008 when the peer exceeds the limit, instead of slowing the peer down.
    /// [`recv`](super::WebSocket::recv) then fails with kind [`RateLimited`](super::ErrorKind::RateLimited).
    #[must_use]
    pub const fn close(mut self) -> Self {
        self.closes = true;
        self
    }
}

/// Meters the messages of one WebSocket with GCRA, a leaky bucket that stores one point in time per limit.
pub(super) struct Meter {
    limit: RateLimit,
    /// The time at which a peer that sends at the limited rate would have sent the messages received so far.
    messages: Instant,
    bytes: Instant,
    timer: Timer,
}

/// The peer exceeded a limit that closes the WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exceeded;

impl Meter {
    pub(super) fn new(limit: RateLimit) -> Self {
        let now = Instant::now();
        Self {
            limit,
            messages: now,
            bytes: now,
            timer: Timer::default(),
        }
    }

    /// Counts a message of `bytes` bytes, and fails if it exceeds a limit that closes the WebSocket.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        self.messages = self.messages.max(now) + second / self.limit.messages;
        if let Some(rate) = self.limit.bytes {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.bytes = self.bytes.max(now) + second.mul_f64(f64::from(bytes) / f64::from(rate));
        }
        match self.limit.closes && self.due().is_some_and(|due| due > now) {
            true => Err(Exceeded),
            false => Ok(()),
        }
    }

    /// Waits until the limit allows another message.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.limit.closes {
            return Poll::Ready(());
        }
        let Some(due) = self.due().filter(|due| *due > Instant::now()) else {
            self.timer = Timer::default();
            return Poll::Ready(());
        };
        self.timer.poll_at(cx, due)
    }

    /// Returns the time from which the burst is no longer exceeded.
    fn due(&self) -> Option<Instant> {
        self.messages.max(self.bytes).checked_sub(self.limit.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn burst_is_received_at_once_and_then_the_rate_holds() {
        let limit = RateLimit::new(10).burst(Duration::from_secs(2));
        let mut meter = Meter::new(limit);
        let start = Instant::now();
        for number in 0..40_u32 {
            std::future::poll_fn(|cx| meter.poll_ready(cx)).await;
            assert_eq!(meter.count(1), Ok(()));
            // 21 messages, not 20, pass at once: a message may begin while the burst is not exceeded.
            let due = Duration::from_millis(100) * number.saturating_sub(20);
            let late = start.elapsed() - due;
            assert!(late <= Duration::from_millis(1), "{number}: {late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_message_makes_the_next_one_wait() {
        let mut meter = Meter::new(RateLimit::new(1000).bytes_per_second(1000));
        assert_eq!(meter.count(10_000), Ok(()));
        let start = Instant::now();
        std::future::poll_fn(|cx| meter.poll_ready(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_limit_is_exceeded_after_the_burst() {
        let mut meter = Meter::new(RateLimit::new(10).close());
        for _ in 0..10 {
            assert_eq!(meter.count(1), Ok(()));
        }
        assert_eq!(meter.count(1), Err(Exceeded));
    }
}
