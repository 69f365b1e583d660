//! The listeners of each key.

use super::{
    frame::Frame,
    outbox::{Full, Outbox, Push},
};
use std::{
    borrow::Borrow,
    collections::HashMap,
    future::poll_fn,
    hash::Hash,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    task::{Context, Poll, Waker},
};

/// The number of listeners that a sender visits under one lock. In between, other tasks subscribe and unsubscribe.
const CHUNK: usize = 64;

/// A queue for the frames of one WebSocket.
pub(in crate::websocket) type FrameOutbox = Outbox<Frame>;

/// The topics that have listeners, by key.
pub(super) struct Topics<K> {
    by_key: RwLock<HashMap<K, Arc<Keyed<K>>>>,
}

/// A topic with its key, to remove it after its last listener has left.
pub(super) struct Keyed<K> {
    key: K,
    topic: Topic,
    topics: Weak<Topics<K>>,
}

/// A topic without the type of its key.
pub(super) trait Leave: Send + Sync {
    /// Removes a listener.
    fn leave(&self, id: u64);
}

#[derive(Default)]
pub(super) struct Topic {
    /// Held by a sender until it has visited all listeners, so that all receive the messages in the same order.
    turn: Mutex<()>,
    /// Held by a sender that waits, so that the messages of such senders keep their order.
    waiting_turn: tokio::sync::Mutex<()>,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    /// In the order of their ids. A listener that left is `None` until the next compaction.
    list: Vec<(u64, Option<Arc<FrameOutbox>>)>,
    /// The number of listeners that have not left.
    open: usize,
    next_id: u64,
}

/// A message on its way to the listeners.
struct Delivery {
    frame: Arc<Frame>,
    capacity: usize,
    full: Full,
    queued: usize,
    /// The id of the next listener.
    next: u64,
    /// Tasks to wake after the locks are released.
    wakers: Vec<Waker>,
    /// Listeners whose queues are full.
    waiting: Vec<Arc<FrameOutbox>>,
}

impl<K: Hash + Eq> Topics<K> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<Arc<Keyed<K>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let by_key = self.by_key.read().unwrap_or_else(PoisonError::into_inner);
        by_key.get(key).map(Arc::clone)
    }

    /// Adds a listener, and returns its topic and its id.
    pub(super) fn add(self: &Arc<Self>, key: K, outbox: Arc<FrameOutbox>) -> (Arc<Keyed<K>>, u64)
    where
        K: Clone,
    {
        {
            let by_key = self.by_key.read().unwrap_or_else(PoisonError::into_inner);
            // Add under the lock of the map, so that a topic is not removed in between.
            if let Some(topic) = by_key.get(&key) {
                return (Arc::clone(topic), topic.topic.add(outbox));
            }
        }
        let mut by_key = self.by_key.write().unwrap_or_else(PoisonError::into_inner);
        let topic = by_key.entry(key.clone()).or_insert_with(|| {
            Arc::new(Keyed {
                key,
                topic: Topic::default(),
                topics: Arc::downgrade(self),
            })
        });
        (Arc::clone(topic), topic.topic.add(outbox))
    }
}

impl<K> Default for Topics<K> {
    fn default() -> Self {
        Self {
            by_key: RwLock::default(),
        }
    }
}

impl<K> std::ops::Deref for Keyed<K> {
    type Target = Topic;

    fn deref(&self) -> &Topic {
        &self.topic
    }
}

impl<K: Hash + Eq + Send + Sync> Leave for Keyed<K> {
    fn leave(&self, id: u64) {
        if !self.topic.remove(id) {
            return;
        }
        if let Some(topics) = self.topics.upgrade() {
            let mut by_key = topics
                .by_key
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // Another listener may have joined, or another topic may have this key by now.
            let is_unused = |topic: &Arc<Self>| {
                std::ptr::eq(Arc::as_ptr(topic), self) && topic.topic.len() == 0
            };
            if by_key.get(&self.key).is_some_and(is_unused) {
                by_key.remove(&self.key);
                // Amortized: the map halves at most.
                let capacity = by_key.capacity();
                if by_key.len() < capacity / 4 {
                    by_key.shrink_to(capacity / 2);
                }
            }
        }
    }
}

impl Topic {
    /// Adds a listener, and returns its id.
    pub(super) fn add(&self, outbox: Arc<FrameOutbox>) -> u64 {
        let mut listeners = self.listeners();
        let id = listeners.next_id;
        listeners.next_id += 1;
        listeners.open += 1;
        listeners.list.push((id, Some(outbox)));
        id
    }

    /// Removes a listener. Returns `true` if no listener is left.
    pub(super) fn remove(&self, id: u64) -> bool {
        let mut listeners = self.listeners();
        if let Ok(at) = listeners.find(id) {
            listeners.leave(at);
        }
        listeners.compact();
        listeners.open == 0
    }

    pub(super) fn len(&self) -> usize {
        self.listeners().open
    }

    /// Queues a frame for each listener. Returns the number of queues that hold it.
    pub(super) fn send(&self, frame: Frame, capacity: usize, full: Full) -> usize {
        self.deliver(frame, capacity, full).queued
    }

    /// Queues a frame for each listener, and waits while queues are full.
    pub(super) async fn send_waiting(&self, frame: Frame, capacity: usize) -> usize {
        let _turn = self.waiting_turn.lock().await;
        let mut delivery = self.deliver(frame, capacity, Full::Wait);
        // Wait last, and for all at once: a slow listener does not delay the others.
        poll_fn(|cx| delivery.poll_waiting(cx)).await;
        delivery.queued
    }

    fn deliver(&self, frame: Frame, capacity: usize, full: Full) -> Delivery {
        let mut delivery = Delivery {
            frame: Arc::new(frame),
            capacity,
            full,
            queued: 0,
            next: 0,
            wakers: Vec::new(),
            waiting: Vec::new(),
        };
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while delivery.push(&mut self.listeners()).is_continue() {}
        drop(turn);
        // Wake the tasks without a lock: waking takes longer than queueing, and runs code of the executor.
        delivery.wakers.drain(..).for_each(Waker::wake);
        delivery
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    /// Completes when all full queues have taken the frame.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.retain(
            |outbox| match outbox.poll_push(cx, &self.frame, self.capacity) {
                Poll::Ready(is_queued) => {
                    self.queued += usize::from(is_queued);
                    false
                }
                Poll::Pending => true,
            },
        );
        match self.waiting.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Queues the frame for the next listeners.
    fn push(&mut self, listeners: &mut Listeners) -> ControlFlow<()> {
        let start = listeners.find(self.next).unwrap_or_else(|next| next);
        let end = listeners.list.len().min(start + CHUNK);
        for at in start..end {
            let Some(outbox) = &listeners.list[at].1 else {
                continue;
            };
            let wake = match outbox.push(&self.frame, self.capacity, self.full) {
                Push::Queued(wake) => {
                    self.queued += 1;
                    wake
                }
                Push::Dropped(wake) => wake,
                Push::Full => {
                    self.waiting.push(Arc::clone(outbox));
                    None
                }
                Push::Closed => {
                    listeners.leave(at);
                    None
                }
            };
            self.wakers.extend(wake);
        }
        match listeners.list.get(end) {
            Some((id, _)) => {
                self.next = *id;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }
}

impl Listeners {
    /// Returns the index of a listener, or the index of the listener after it.
    fn find(&self, id: u64) -> Result<usize, usize> {
        self.list.binary_search_by_key(&id, |(id, _)| *id)
    }

    fn leave(&mut self, at: usize) {
        if self.list[at].1.take().is_some() {
            self.open -= 1;
        }
    }

    /// Forgets the listeners that left once they are the majority: removing each at once would move all later ones.
    fn compact(&mut self) {
        if self.open <= self.list.len() / 2 {
            self.list.retain(|(_, outbox)| outbox.is_some());
            if self.list.capacity() > 4 * self.open {
                self.list.shrink_to(2 * self.open);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::Message;

    fn hello() -> Frame {
        Frame::new(Message::text("hello")).expect("a valid message")
    }

    fn poll(future: &mut std::pin::Pin<Box<impl Future<Output = usize>>>) -> Poll<usize> {
        future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_empty(outbox: &FrameOutbox) -> bool {
        outbox.take_all().next().is_none()
    }

    #[test]
    fn frame_reaches_the_listeners_of_all_chunks_once() {
        let topic = Topic::default();
        let outboxes: Vec<_> = (0..10 * CHUNK).map(|_| Arc::new(Outbox::new())).collect();
        let ids: Vec<_> = outboxes.iter().map(|o| topic.add(Arc::clone(o))).collect();
        // A few leave, also at the ends of chunks.
        for id in ids.iter().step_by(3) {
            topic.remove(*id);
        }
        let queued = topic.send(hello(), 8, Full::DropNewest);
        assert_eq!(queued, topic.len());
        for (at, outbox) in outboxes.iter().enumerate() {
            assert_eq!(outbox.take_all().count(), usize::from(at % 3 != 0), "{at}");
        }
    }

    #[test]
    fn memory_of_listeners_that_left_is_released() {
        let topic = Topic::default();
        let ids: Vec<_> = (0..1000)
            .map(|_| topic.add(Arc::new(Outbox::new())))
            .collect();
        let (last, others) = ids.split_last().expect("ids");
        for id in others {
            assert!(!topic.remove(*id));
        }
        assert!(topic.listeners().list.capacity() <= 4);
        // Removing a listener twice has no effect.
        assert!(!topic.remove(others[0]));
        assert_eq!(topic.len(), 1);
        assert!(topic.remove(*last));
    }

    #[test]
    fn closed_listener_is_removed_by_the_next_message() {
        let topic = Topic::default();
        let (open, closed) = (Arc::new(Outbox::new()), Arc::new(Outbox::new()));
        topic.add(Arc::clone(&open));
        topic.add(Arc::clone(&closed));
        closed.close();
        assert_eq!(topic.send(hello(), 1, Full::DropNewest), 1);
        assert_eq!(topic.len(), 1);
        assert_eq!(Arc::strong_count(&closed), 1);
        assert!(!is_empty(&open));
    }

    /// The second message waits for the first, although a free queue could take it.
    #[tokio::test]
    async fn waiting_sender_keeps_its_turn() {
        let topic = Topic::default();
        let (full, free) = (Arc::new(Outbox::new()), Arc::new(Outbox::new()));
        topic.add(Arc::clone(&full));
        topic.add(Arc::clone(&free));
        topic.send(hello(), 1, Full::DropNewest);
        assert!(!is_empty(&free));
        let mut first = Box::pin(topic.send_waiting(hello(), 1));
        let mut second = Box::pin(topic.send_waiting(hello(), 2));
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        assert_eq!(free.take_all().count(), 1);
        full.next(&Context::from_waker(Waker::noop()));
        assert_eq!((first.await, second.await), (2, 2));
        assert_eq!((full.take_all().count(), free.take_all().count()), (2, 1));
    }
}
