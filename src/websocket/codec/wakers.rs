//! The wakers of the tasks that use a WebSocket.

use futures_util::task::AtomicWaker;
use std::{sync::Arc, task::Wake};

/// Wakers of the sending and the receiving task. Both may wait for the IO, which keeps only the last waker.
#[derive(Default)]
pub(super) struct Wakers {
    /// The task that sends messages.
    pub(super) sender: AtomicWaker,
    /// The task that receives messages and writes answers.
    pub(super) receiver: AtomicWaker,
    /// The task that writes broadcasts, while the IO is blocked.
    pub(super) broadcasts: AtomicWaker,
}

impl Wakers {
    pub(super) fn wake_all(&self) {
        self.sender.wake();
        self.receiver.wake();
        self.broadcasts.wake();
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
