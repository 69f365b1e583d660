//! The IO of a session, on its way between the handler, tasks that it was lent to, and the session's own task.

use crate::{
    bounded,
    io::{box_io::BoxIo, parts::UpgradedParts},
    metrics::Labels,
    negotiate::kind::UpgradeKind,
    session::{state::State, upgraded::Upgraded},
    sync::block_on,
};
use bytes::Bytes;
use loom::{sync::Mutex, thread};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// A connection whose peer neither sends nor reads: only the session wakes its waiters.
struct Silent {
    dropped: Arc<AtomicUsize>,
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Silent {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Silent {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A session that has started.
fn session() -> (Arc<State>, Upgraded, Arc<AtomicUsize>) {
    let state = State::new(UpgradeKind::Upgrade, None, None, Labels, Arc::default());
    let state = Arc::new(state);
    let dropped = Arc::new(AtomicUsize::new(0));
    let io = BoxIo::from(UpgradedParts::new(
        Silent {
            dropped: Arc::clone(&dropped),
        },
        Bytes::new(),
    ));
    let io = Upgraded::owned_by_session(io, Arc::clone(&state));
    (state, io, dropped)
}

fn is_silent(io: BoxIo) -> bool {
    io.downcast::<Silent>().is_ok()
}

/// The end of a session's task: it revokes the IO that was not returned before the handler ended.
fn close(state: &State) -> Option<BoxIo> {
    match state.poll_returned_io(&Context::from_waker(Waker::noop())) {
        Poll::Ready(io) => io,
        Poll::Pending => {
            state.revoke();
            block_on(poll_fn(|cx| state.poll_returned_io(cx)))
        }
    }
}

fn read(io: &mut Upgraded, cx: &mut Context<'_>) -> Poll<io::ErrorKind> {
    let read = Pin::new(io).poll_read(cx, &mut ReadBuf::new(&mut [0]));
    read.map(|read| read.expect_err("nothing to read").kind())
}

fn write(io: &mut Upgraded, cx: &mut Context<'_>) -> Poll<io::ErrorKind> {
    let written = Pin::new(io).poll_write(cx, &[0]);
    written.map(|written| written.expect_err("no room to write").kind())
}

/// Fails if `poll_returned_io` checks before it registers.
#[test]
fn task_sees_the_returned_io() {
    loom::model(|| {
        let (state, io, _) = session();
        let handler = thread::spawn(move || drop(io));
        let io = block_on(poll_fn(|cx| state.poll_returned_io(cx)));
        assert!(io.is_some_and(is_silent));
        handler.join().expect("no panic");
    });
}

/// Fails if `close_io_slot` does not wake.
#[test]
fn task_sees_the_closed_io_slot() {
    loom::model(|| {
        let (state, io, _) = session();
        let handler = thread::spawn(move || is_silent(io.into_parts().io));
        assert!(block_on(poll_fn(|cx| state.poll_returned_io(cx))).is_none());
        assert!(handler.join().expect("no panic"), "the handler has it");
    });
}

/// Fails if `return_io` does not check for a waiter.
#[test]
fn io_returned_to_a_closed_slot_is_dropped() {
    loom::model(|| {
        let (state, io, dropped) = session();
        let handler = thread::spawn(move || drop(io));
        let home = state.poll_returned_io(&Context::from_waker(Waker::noop()));
        if home.is_pending() {
            state.close_io_slot();
        }
        handler.join().expect("no panic");
        let has_come = matches!(&home, Poll::Ready(Some(_)));
        assert_eq!(dropped.load(Ordering::Relaxed), usize::from(!has_come));
        let later = state.poll_returned_io(&Context::from_waker(Waker::noop()));
        assert!(matches!(later, Poll::Ready(None)), "it comes once");
    });
}

/// Fails if `has_moved` checks before it registers, or if `revoke` wakes before it sets the flag.
#[test]
fn escaped_reader_wakes_when_the_session_ends() {
    loom::model(|| {
        let (state, mut io, _) = session();
        let reader = thread::spawn(move || block_on(poll_fn(|cx| read(&mut io, cx))));
        assert!(close(&state).is_some_and(is_silent));
        let error = reader.join().expect("no panic");
        assert_eq!(error, io::ErrorKind::NotConnected);
    });
}

/// Fails if `revoke` wakes only one of them.
#[test]
fn escaped_reader_and_writer_wake_when_the_session_ends() {
    bounded(|| {
        let (state, io, _) = session();
        // As `tokio::io::split` does it.
        let io = Arc::new(Mutex::new(io));
        let halves = [read, write].map(|operation| {
            let io = Arc::clone(&io);
            thread::spawn(move || {
                block_on(poll_fn(|cx| {
                    operation(&mut io.lock().expect("no panic"), cx)
                }))
            })
        });
        drop(io);
        assert!(close(&state).is_some_and(is_silent));
        for half in halves {
            let error = half.join().expect("no panic");
            assert_eq!(error, io::ErrorKind::NotConnected);
        }
    });
}

/// Fails if `into_box_io` does not leave the session.
#[test]
fn io_detached_during_the_end_has_one_owner() {
    loom::model(|| {
        let (state, io, _) = session();
        let elsewhere = thread::spawn(move || is_silent(io.into_parts().io));
        let home = close(&state).map(is_silent);
        let is_taken = elsewhere.join().expect("no panic");
        assert_eq!(home, (!is_taken).then_some(true));
    });
}

/// Fails if `stopping` checks before it waits, or if `stop_by` wakes before it sets the deadline.
#[test]
fn handler_and_task_see_the_stop_signal() {
    loom::model(|| {
        let (state, _io, _) = session();
        let at = state.accepted() + Duration::from_secs(1);
        let handler = {
            let state = Arc::clone(&state);
            thread::spawn(move || block_on(state.stopping()))
        };
        let drains = {
            let state = Arc::clone(&state);
            thread::spawn(move || state.stop_by(at))
        };
        wait_for_order(&state, at);
        handler.join().expect("no panic");
        drains.join().expect("no panic");
    });
}

/// Fails if a later deadline replaces an earlier one.
#[test]
fn earliest_stop_deadline_applies() {
    loom::model(|| {
        let (state, _io, _) = session();
        let at = |seconds| state.accepted() + Duration::from_secs(seconds);
        let (early, late) = (at(1), at(2));
        let drains = {
            let state = Arc::clone(&state);
            thread::spawn(move || state.stop_by(early))
        };
        state.stop_by(late);
        wait_for_order(&state, early);
        drains.join().expect("no panic");
    });
}

/// Fails if one of them does not wake the task.
#[test]
fn task_sees_both_stop_signal_and_returned_io() {
    loom::model(|| {
        let (state, io, _) = session();
        let at = state.accepted() + Duration::from_secs(1);
        let handler = thread::spawn(move || drop(io));
        let drains = {
            let state = Arc::clone(&state);
            thread::spawn(move || state.stop_by(at))
        };
        wait_for_order(&state, at);
        assert!(block_on(poll_fn(|cx| state.poll_returned_io(cx))).is_some());
        handler.join().expect("no panic");
        drains.join().expect("no panic");
    });
}

/// As `Watch::poll` does.
fn wait_for_order(state: &State, at: Instant) {
    block_on(poll_fn(|cx| {
        state.register_task(cx);
        match state.stops_by() == Some(at) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }));
}
