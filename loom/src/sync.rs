//! The types of `src/sync.rs`, as loom watches them.

pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64},
};

use loom::sync::atomic::AtomicUsize;
use std::{
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Wake, Waker},
};

/// Waits for a future. loom's `block_on` also models the reference counts of wakers, which takes too long.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Thread(loom::sync::Notify);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }

    let thread = Arc::new(Thread(loom::sync::Notify::new()));
    let waker = Waker::from(Arc::clone(&thread));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread.0.wait(),
        }
    }
}

/// loom's, with the signature of futures-util's.
pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self(loom::future::AtomicWaker::new())
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

/// Replaces tokio's `Notify`: `notify_waiters` wakes the futures that `notified` returned before the call. Later futures
/// wait for the next call.
pub(crate) struct Notify {
    calls: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: usize,
    wakers: Vec<(usize, Waker)>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self {
            calls: AtomicUsize::new(0),
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            calls: self.calls.load(Ordering::SeqCst),
            id: None,
        }
    }

    pub(crate) fn notify_waiters(&self) {
        let mut waiting = self.waiting.lock().expect("no panic");
        self.calls.fetch_add(1, Ordering::SeqCst);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        for (_, waker) in wakers {
            waker.wake();
        }
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    /// The number of calls of `notify_waiters` before this future was created.
    calls: usize,
    /// The key of the waker.
    id: Option<usize>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.notify.waiting.lock().expect("no panic");
        if self.notify.calls.load(Ordering::SeqCst) != self.calls {
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| {
            waiting.last += 1;
            waiting.last
        });
        self.id = Some(id);
        waiting.wakers.retain(|(of, _)| *of != id);
        waiting.wakers.push((id, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if self.id.is_some() {
            let mut waiting = self.notify.waiting.lock().expect("no panic");
            waiting.wakers.retain(|(of, _)| Some(*of) != self.id);
        }
    }
}
