//! The registry: permits that come and go, against a drain.

use crate::{
    bounded,
    metrics::Labels,
    negotiate::kind::UpgradeKind,
    session::{Sessions, guard::Admitted, state::State},
    sync::block_on,
};
use http::{Request, request::Parts};
use loom::{sync::atomic::AtomicUsize, thread};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// Stops the clock: a timer has expired when it is polled, or never expires.
fn with_no_time<R>(models: impl FnOnce() -> R) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    models()
}

fn model(threads: impl Fn() + Send + Sync + 'static) {
    with_no_time(|| loom::model(threads));
}

fn request() -> Parts {
    Request::new(()).into_parts().0
}

fn admit(sessions: &Sessions) -> Option<Admitted> {
    sessions.admit(&request()).ok()
}

fn state() -> Arc<State> {
    Arc::new(State::new(
        UpgradeKind::Upgrade,
        None,
        None,
        Labels,
        Arc::default(),
    ))
}

/// Several ask at once, and only one may be in.
fn one_at_a_time(sessions: Sessions, others: usize) {
    let inside = Arc::new(AtomicUsize::new(0));
    let ask = {
        let (sessions, inside) = (sessions.clone(), Arc::clone(&inside));
        move || {
            let admitted = admit(&sessions);
            if admitted.is_some() {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one is in");
                inside.fetch_sub(1, Ordering::SeqCst);
            }
        }
    };
    let others: Vec<_> = (0..others).map(|_| thread::spawn(ask.clone())).collect();
    ask();
    for other in others {
        other.join().expect("no panic");
    }
    assert_eq!(sessions.len(), 0);
    assert!(admit(&sessions).is_some(), "there is room again");
}

/// Fails if `admit` releases the lock between the check and the count.
#[test]
fn limit_is_never_exceeded() {
    model(|| one_at_a_time(Sessions::builder().max(1).build(), 2));
}

/// The same for the count of a key in `guard.rs`.
#[test]
fn limit_of_a_key_is_never_exceeded() {
    model(|| one_at_a_time(Sessions::builder().max_per_key(1, |_| Some(())).build(), 1));
}

/// Fails if a permit leaves before it releases its key.
#[test]
fn key_is_released_before_the_session_leaves() {
    model(|| {
        let sessions = Sessions::builder().max_per_key(1, |_| Some(())).build();
        let admitted = admit(&sessions).expect("room");
        let leaves = thread::spawn(move || drop(admitted));
        if sessions.is_empty() {
            assert!(admit(&sessions).is_some());
        }
        leaves.join().expect("no panic");
    });
}

/// Fails if `enter` reads the drain before it takes the lock, if `drain` lists the sessions before
/// it begins, and where `wait_for_all` or `stopping` look before they wait.
#[test]
fn drain_signals_every_new_session() {
    model(|| {
        let sessions = Sessions::new();
        let comes = {
            let sessions = sessions.clone();
            thread::spawn(move || {
                let Some(admitted) = admit(&sessions) else {
                    return 0;
                };
                let state = state();
                let permit = admitted.permit.enter(&state);
                block_on(state.stopping());
                permit.count(false);
                1
            })
        };
        let report = block_on(sessions.drain(HOUR));
        assert!(sessions.is_empty() && sessions.list().is_empty());
        assert!(
            admit(&sessions).is_none(),
            "a draining registry admits no session"
        );
        let came = comes.join().expect("no panic");
        assert_eq!((report.ended, report.aborted, report.left), (came, 0, 0));
    });
}

/// Fails if `leave` reads the drain and the count under different locks, or counts an end twice.
#[test]
fn drain_ends_with_the_last_session() {
    model(|| {
        let sessions = Sessions::new();
        let state = state();
        let session = admit(&sessions).expect("no limit").permit.enter(&state);
        let undecided = admit(&sessions).expect("no limit");
        let ends = thread::spawn(move || session.count(true));
        let is_refused = thread::spawn(move || drop(undecided));
        let report = block_on(sessions.drain(HOUR));
        assert!(sessions.is_empty() && sessions.list().is_empty());
        assert!(report.aborted <= 1, "counted once, if it was there");
        assert_eq!((report.ended, report.left), (0, 0));
        ends.join().expect("no panic");
        is_refused.join().expect("no panic");
    });
}

/// Fails if only one waiter is woken.
#[test]
fn all_drains_end() {
    let threads = || {
        let sessions = Sessions::new();
        let admitted = admit(&sessions).expect("no limit");
        let other = sessions.clone();
        let waits = thread::spawn(move || block_on(other.drain(HOUR)).left);
        let leaves = thread::spawn(move || drop(admitted));
        assert_eq!(block_on(sessions.drain(HOUR)).left, 0);
        assert_eq!(waits.join().expect("no panic"), 0);
        leaves.join().expect("no panic");
    };
    with_no_time(|| bounded(threads));
}

/// Fails if a later deadline replaces an earlier one, or if `enter` reads the deadline before it takes the lock.
#[test]
fn earliest_deadline_of_all_drains_applies() {
    model(|| {
        let sessions = Sessions::new();
        let state = state();
        let admitted = admit(&sessions).expect("no limit");
        let enters = {
            let state = Arc::clone(&state);
            thread::spawn(move || admitted.permit.enter(&state))
        };
        let hurries = {
            let sessions = sessions.clone();
            thread::spawn(move || drop(sessions.drain(HOUR)))
        };
        drop(sessions.drain(2 * HOUR));
        hurries.join().expect("no panic");
        let _permit = enters.join().expect("no panic");
        assert_eq!(state.stops_by(), Some(Instant::now() + HOUR));
    });
}

/// Fails if `drained` reads the deadline before it registers for changes.
#[test]
fn pending_decision_sees_the_drain_deadline() {
    for has_begun in [false, true] {
        model(move || {
            let sessions = Sessions::new();
            if has_begun {
                drop(sessions.drain(HOUR));
            }
            let drains = {
                let sessions = sessions.clone();
                thread::spawn(move || drop(sessions.drain(Duration::ZERO)))
            };
            block_on(sessions.drained());
            assert!(sessions.is_drained());
            drains.join().expect("no panic");
        });
    }
}
