//! Sends one message to many WebSockets.

mod frame;
mod outbox;
mod topic;

pub(super) use self::{frame::Frame, outbox::Next, topic::FrameOutbox};

use self::{
    outbox::Full,
    topic::{Leave, Topics},
};
use super::{CloseFrame, Error, Message, WebSocket};
use std::{borrow::Borrow, fmt, hash::Hash, sync::Arc};

/// Sends messages to all WebSockets that are subscribed to a key, such as the name of a chat room.
///
/// The frame of a message is encoded once, and all sessions share its payload. Each WebSocket has a bounded queue, and
/// its session writes the queued messages, in its own task, also while the handler waits for something else. The queue
/// of a slow consumer is bounded: see [`SlowConsumer`].
///
/// ```
/// use tower_upgrade::websocket::{Broadcast, Message, WebSocket, websocket};
///
/// let rooms = Broadcast::<String>::new(64);
/// let chat = websocket(move |mut socket: WebSocket, _session| {
///     let rooms = rooms.clone();
///     async move {
///         let _lobby = rooms.subscribe("lobby".to_owned(), &socket);
///         while let Some(message) = socket.recv().await {
///             if let Message::Text(text) = message? {
///                 rooms.send("lobby", text)?;
///             }
///         }
///         Ok(())
///     }
/// });
/// ```
///
/// Clones share the subscriptions.
///
/// A message is also compressed once for all sessions of a server with the same settings: see
#[cfg_attr(feature = "deflate", doc = "[`Deflate`](super::Deflate).")]
#[cfg_attr(not(feature = "deflate"), doc = "`Deflate`.")]
/// It then refers to no earlier message.
///
/// # Order
///
/// All WebSockets of a key receive its messages in the same order. If one [`send`](Self::send) returns before another
/// starts, each WebSocket receives their messages in this order, also those of two keys. The same holds for the messages
/// that the handler sends directly: a direct message is written after all messages that are queued at that time. Only
/// [`send_waiting`](Self::send_waiting) may be overtaken, at WebSockets whose queues are full.
///
/// # Close
///
/// Messages that are queued when the session sends a close frame, for example at a drain, are written before the close
/// frame. After a close frame of either side, or the end of the WebSocket, its queue is empty and accepts no messages.
///
/// # Memory
///
/// A queue holds references to messages, and an empty queue holds no heap memory except itself. The session copies
/// queued messages into its write buffer until the buffer holds 16 KiB, and copies more when these are written. A direct
/// message and a close frame copy the whole queue.
pub struct Broadcast<K> {
    topics: Arc<Topics<K>>,
    capacity: usize,
    full: Full,
}

/// The action of [`Broadcast::send`] for a WebSocket whose queue is full, because the peer reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// Drops the oldest queued message.
    DropOldest,
    /// Drops the new message for this WebSocket.
    DropNewest,
    /// Drops the queue and closes the WebSocket with this code, for example 1013 (try again later) or 1008 (policy).
    /// Receiving and sending then fail with kind [`TooSlow`](super::ErrorKind::TooSlow).
    Close(u16),
}

impl<K> Broadcast<K> {
    /// Creates a `Broadcast` whose queues hold at most `capacity` messages per WebSocket. The subscriptions of one
    /// WebSocket share its queue.
    ///
    /// By default a WebSocket whose queue is full is closed with 1013.
    ///
    /// # Panics
    ///
    /// Panics if `capacity` is 0.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "the capacity of a queue must not be 0");
        Self {
            topics: Arc::default(),
            capacity,
            full: Full::Close(1013),
        }
    }

    /// Sets the action for a WebSocket whose queue is full. Applies to messages that are sent through this value and
    /// its later clones.
    ///
    /// # Panics
    ///
    /// Panics if the code of [`SlowConsumer::Close`] [may not be sent](CloseFrame::code).
    #[must_use]
    pub fn slow_consumer(mut self, action: SlowConsumer) -> Self {
        self.full = match action {
            SlowConsumer::DropOldest => Full::DropOldest,
            SlowConsumer::DropNewest => Full::DropNewest,
            SlowConsumer::Close(code) => {
                let is_valid = CloseFrame::new(code, "").has_valid_code();
                assert!(
                    is_valid,
                    "a close frame may not be sent with the code {code}"
                );
                Full::Close(code)
            }
        };
        self
    }
}

impl<K: Hash + Eq> Broadcast<K> {
    /// Subscribes a WebSocket to a key, until the [`Subscription`] is dropped or the WebSocket ends.
    ///
    /// A WebSocket that is subscribed to a key twice receives each message twice.
    pub fn subscribe(&self, key: K, socket: &WebSocket) -> Subscription
    where
        K: Clone + Send + Sync + 'static,
    {
        let outbox = socket.outbox();
        let (topic, id) = self.topics.add(key, Arc::clone(&outbox));
        Subscription { topic, outbox, id }
    }

    /// Queues a message for all WebSockets that are subscribed to `key`, and returns their number without those that
    /// dropped it. If the queue of a WebSocket is full, its [`SlowConsumer`] action applies.
    ///
    /// This method does not wait for the sessions, and can be called while a lock is held. A close frame closes all
    /// these WebSockets.
    ///
    /// # Errors
    ///
    /// Fails with kind [`TooLarge`](super::ErrorKind::TooLarge) if the message is a control frame that is too long, and
    /// with kind [`InvalidCode`](super::ErrorKind::InvalidCode) if it is a close frame whose code may not be sent.
    pub fn send<Q>(&self, key: &Q, message: impl Into<Message>) -> Result<usize, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let frame = Frame::new(message.into())?;
        let topic = self.topics.get(key);
        Ok(topic.map_or(0, |topic| topic.send(frame, self.capacity, self.full)))
    }

    /// Queues a message for all WebSockets that are subscribed to `key`, and waits for those whose queues are full.
    /// Returns their number without those that ended in the meantime.
    ///
    /// The other WebSockets receive the message at once. Later calls of this method for the same key wait too; messages
    /// of [`send`](Self::send) do not, and apply their [`SlowConsumer`] action. A peer that does not read delays its
    /// senders until [`keep_alive`](super::WebSocketConfig::keep_alive) ends its session.
    ///
    /// # Errors
    ///
    /// Fails like [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message may be queued for only some of the WebSockets.
    pub async fn send_waiting<Q>(
        &self,
        key: &Q,
        message: impl Into<Message>,
    ) -> Result<usize, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let frame = Frame::new(message.into())?;
        let Some(topic) = self.topics.get(key) else {
            return Ok(0);
        };
        // Boxed to keep the futures of handlers small, which idle sessions hold.
        Ok(Box::pin(topic.send_waiting(frame, self.capacity)).await)
    }

    /// Returns the number of subscriptions to `key`.
    #[must_use]
    pub fn subscriptions<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.topics.get(key).map_or(0, |topic| topic.len())
    }
}

impl<K> Clone for Broadcast<K> {
    fn clone(&self) -> Self {
        Self {
            topics: Arc::clone(&self.topics),
            ..*self
        }
    }
}

impl<K> fmt::Debug for Broadcast<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast")
            .field("capacity", &self.capacity)
            .field("full", &self.full)
            .finish_non_exhaustive()
    }
}

/// The subscription of a WebSocket to a key of a [`Broadcast`]. Dropping it unsubscribes; messages that are queued by
/// then are still sent.
#[must_use = "dropping a subscription unsubscribes"]
pub struct Subscription {
    topic: Arc<dyn Leave>,
    outbox: Arc<FrameOutbox>,
    id: u64,
}

impl Subscription {
    /// Returns the number of messages that the queue of the WebSocket has dropped because it was full, in all
    /// subscriptions of the WebSocket.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.leave(self.id);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
