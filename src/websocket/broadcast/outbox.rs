//! The queue of the messages that a WebSocket has not sent yet.

use crate::sync::{Mutex, MutexGuard};
use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

/// A bounded queue between the senders and the session of one WebSocket. Idle, the queue has no heap memory other than
/// itself.
pub(in crate::websocket) struct Outbox<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Empty if and only if the queue is.
    first: Option<Arc<T>>,
    /// Only while more than one message is queued, or a sender waits.
    more: Option<Box<More<T>>>,
    /// The task of the session.
    session: Option<Waker>,
    dropped: u64,
    status: Status,
}

struct More<T> {
    queue: VecDeque<Arc<T>>,
    /// The senders that wait until the queue is shorter.
    senders: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Open,
    /// The session must close the WebSocket with this code: the queue was full.
    Overflown(u16),
    /// The WebSocket sends no more messages.
    Closed,
}

/// The action for a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    DropOldest,
    DropNewest,
    Close(u16),
    Wait,
}

/// The result of queueing a message.
pub(super) enum Push {
    /// The message is queued. The caller wakes the task of the session, if any.
    Queued(Option<Waker>),
    /// The message, or the whole queue, is dropped. The caller wakes the task of the session, if any.
    Dropped(Option<Waker>),
    /// The message is not queued: the sender must wait.
    Full,
    /// The WebSocket sends no more messages.
    Closed,
}

/// The next step of a session.
pub(in crate::websocket) enum Next<T> {
    /// Send this message.
    Send(Arc<T>),
    /// Wait until a sender wakes the session.
    Wait,
    /// Close the WebSocket with this code.
    Close(u16),
}

impl<T> Outbox<T> {
    pub(in crate::websocket) fn new() -> Self {
        let state = State {
            first: None,
            more: None,
            session: None,
            dropped: 0,
            status: Status::Open,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Queues a message, unless `capacity` messages are queued.
    pub(super) fn push(&self, message: &Arc<T>, capacity: usize, full: Full) -> Push {
        let mut state = self.lock();
        if state.status != Status::Open {
            return Push::Closed;
        }
        if state.len() < capacity {
            return Push::Queued(state.push(message));
        }
        match full {
            Full::DropOldest => {
                state.dropped += 1;
                // Drop the message without the lock: its payload may be large.
                let oldest = state.pop();
                let session = state.push(message);
                drop(state);
                drop(oldest);
                Push::Queued(session)
            }
            Full::DropNewest => {
                state.dropped += 1;
                Push::Dropped(None)
            }
            Full::Close(code) => {
                state.dropped += state.len() as u64 + 1;
                let session = state.session.take();
                self.clear(state, Status::Overflown(code));
                Push::Dropped(session)
            }
            Full::Wait => Push::Full,
        }
    }

    /// Queues a message as soon as fewer than `capacity` messages are queued.
    pub(super) fn poll_push(
        &self,
        cx: &mut Context<'_>,
        message: &Arc<T>,
        capacity: usize,
    ) -> Poll<bool> {
        let mut state = self.lock();
        if state.status != Status::Open {
            return Poll::Ready(false);
        }
        if state.len() < capacity {
            let session = state.push(message);
            drop(state);
            wake(session);
            return Poll::Ready(true);
        }
        let senders = &mut state.more().senders;
        if !senders.iter().any(|sender| sender.will_wake(cx.waker())) {
            senders.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes the next message, or registers the task of the session.
    pub(in crate::websocket) fn next(&self, cx: &Context<'_>) -> Next<T> {
        let mut state = self.lock();
        if let Some(next) = state.pop() {
            let senders = state.take_senders();
            drop(state);
            senders.into_iter().for_each(Waker::wake);
            return Next::Send(next);
        }
        state.watch(cx)
    }

    /// Registers the task of the session while its IO is blocked. Returns the code of the close frame if the queue was
    /// full.
    pub(in crate::websocket) fn watch(&self, cx: &Context<'_>) -> Option<u16> {
        match self.lock().watch(cx) {
            Next::Close(code) => Some(code),
            Next::Send(_) | Next::Wait => None,
        }
    }

    /// Takes all messages.
    pub(in crate::websocket) fn take_all(&self) -> impl Iterator<Item = Arc<T>> + use<T> {
        let mut state = self.lock();
        let (first, more) = (state.first.take(), state.more.take());
        drop(state);
        let More { queue, senders } = more.map(|more| *more).unwrap_or_default();
        senders.into_iter().for_each(Waker::wake);
        first.into_iter().chain(queue)
    }

    /// Drops all messages, and accepts no more.
    pub(in crate::websocket) fn close(&self) {
        let state = self.lock();
        if state.status != Status::Closed {
            self.clear(state, Status::Closed);
        }
    }

    /// Drops all messages without the lock: their payloads may be large.
    fn clear(&self, mut state: MutexGuard<'_, State<T>>, status: Status) {
        state.status = status;
        state.session = None;
        drop(state);
        drop(self.take_all());
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().status != Status::Open
    }

    /// Returns the number of messages that the queue has dropped because it was full.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn len(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| more.queue.len());
        usize::from(self.first.is_some()) + more
    }

    /// Queues a message. Returns the task to wake: a session with a queued message is awake already, or waits for its
    /// IO.
    fn push(&mut self, message: &Arc<T>) -> Option<Waker> {
        let message = Arc::clone(message);
        if self.first.is_none() {
            self.first = Some(message);
            return self.session.take();
        }
        self.more().queue.push_back(message);
        None
    }

    fn pop(&mut self) -> Option<Arc<T>> {
        let popped = self.first.take()?;
        if let Some(more) = &mut self.more {
            self.first = more.queue.pop_front();
            if self.first.is_none() && more.senders.is_empty() {
                self.more = None;
            }
        }
        Some(popped)
    }

    fn more(&mut self) -> &mut More<T> {
        self.more.get_or_insert_default()
    }

    fn take_senders(&mut self) -> Vec<Waker> {
        let more = self.more.as_mut();
        more.map(|more| std::mem::take(&mut more.senders))
            .unwrap_or_default()
    }

    /// Registers the task of the session.
    fn watch(&mut self, cx: &Context<'_>) -> Next<T> {
        match self.status {
            Status::Overflown(code) => Next::Close(code),
            Status::Closed => Next::Wait,
            Status::Open => {
                let registered = self.session.as_ref();
                if !registered.is_some_and(|session| session.will_wake(cx.waker())) {
                    self.session = Some(cx.waker().clone());
                }
                Next::Wait
            }
        }
    }
}

impl<T> Default for More<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            senders: Vec::new(),
        }
    }
}

fn wake(session: Option<Waker>) {
    if let Some(session) = session {
        session.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &Outbox<u8>, number: u8, full: Full) -> Push {
        outbox.push(&Arc::new(number), 3, full)
    }

    fn fill(numbers: std::ops::Range<u8>, full: Full) -> Outbox<u8> {
        let outbox = Outbox::new();
        for number in numbers {
            push(&outbox, number, full);
        }
        outbox
    }

    fn rest(outbox: &Outbox<u8>) -> Vec<u8> {
        let cx = Context::from_waker(Waker::noop());
        let next = || match outbox.next(&cx) {
            Next::Send(number) => Some(*number),
            Next::Wait | Next::Close(_) => None,
        };
        std::iter::from_fn(next).collect()
    }

    /// An idle listener also takes an entry in its topic, and its `Subscription`.
    #[test]
    fn idle_queue_is_small() {
        assert!(size_of::<State<u8>>() <= 56, "{}", size_of::<State<u8>>());
    }

    #[test]
    fn full_queue_drops_by_its_policy() {
        let oldest = fill(0..5, Full::DropOldest);
        assert_eq!((oldest.dropped(), rest(&oldest)), (2, vec![2, 3, 4]));
        let newest = fill(0..5, Full::DropNewest);
        assert_eq!((newest.dropped(), rest(&newest)), (2, vec![0, 1, 2]));
    }

    #[test]
    fn full_queue_closes_the_websocket() {
        let outbox = fill(0..5, Full::Close(1013));
        let cx = Context::from_waker(Waker::noop());
        assert!(matches!(outbox.next(&cx), Next::Close(1013)));
        // The fifth message came after the end.
        assert_eq!(outbox.dropped(), 4);
        assert!(outbox.is_closed());
    }

    #[test]
    fn queue_is_in_order_across_its_ends() {
        let outbox = fill(0..3, Full::Wait);
        assert!(matches!(push(&outbox, 3, Full::Wait), Push::Full));
        assert_eq!(
            outbox.take_all().map(|number| *number).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        for number in 0..3 {
            push(&outbox, number, Full::Wait);
        }
        assert_eq!(rest(&outbox), [0, 1, 2]);
        assert!(
            outbox.lock().more.is_none(),
            "an idle queue has no heap memory"
        );
    }

    #[test]
    fn closed_queue_holds_and_accepts_nothing() {
        let outbox = fill(0..3, Full::Wait);
        outbox.close();
        assert!(matches!(push(&outbox, 3, Full::Wait), Push::Closed));
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(outbox.poll_push(cx, &Arc::new(3), 3), Poll::Ready(false));
        assert!(rest(&outbox).is_empty());
    }
}
