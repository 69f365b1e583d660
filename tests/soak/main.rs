//! Thousands of sessions that end in every possible way, and must leave nothing behind.
//!
//! A round starts a server, a registry, and clients over HTTP/1.1, HTTP/2 and HTTP/3 that behave and misbehave at
//! random, and ends with a drain. Afterwards no permit, no registry entry, no task and no memory of the round
//! may remain, and every session must have been reported once.
//!
//! ```text
//! cargo test --all-features --test soak
//! SOAK_SECONDS=600 cargo test --all-features --test soak -- --nocapture
//! SOAK_SEED=1234 cargo test --all-features --test soak
//! ```
//!
//! The seed determines the clients' requests and actions, but not their timing: a run with the same seed is
//! similar, not identical.

#[path = "../support/mod.rs"]
mod support;

mod client;
#[cfg(all(feature = "client", feature = "http3"))]
mod http3;
mod rng;
mod server;

use rng::Rng;
use server::{Ledger, ON_PURPOSE};
use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Handle},
    task::JoinSet,
};
use tower_upgrade::{SessionId, Sessions};

/// The rounds of each test, unless `SOAK_SECONDS` is set.
const ROUNDS: usize = 16;

/// The time after which a wait counts as a hang, on any machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// HTTP/1.1: the number of clients, and of the connections that each opens one after the other.
const HTTP1: (usize, usize) = (24, 30);

/// HTTP/2: the number of connections, and of the streams on each.
const HTTP2: (usize, usize) = (6, 60);

/// HTTP/3, with the features for it: the number of connections, and of the streams on each.
const HTTP3: (usize, usize) = match cfg!(all(feature = "client", feature = "http3")) {
    true => (6, 60),
    false => (0, 0),
};

const REQUESTS: usize = HTTP1.0 * HTTP1.1 + HTTP2.0 * HTTP2.1 + HTTP3.0 * HTTP3.1;

/// The sessions of one or more rounds and their close reasons.
#[derive(Default)]
struct Outcome {
    sessions: usize,
    reasons: BTreeMap<&'static str, usize>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }

    /// Checks that enough requests became sessions, and that every close reason that does not depend on timing
    /// occurred.
    fn assert_representative(&self, rounds: usize) {
        println!(
            "{rounds} rounds, {} sessions: {:?}",
            self.sessions, self.reasons
        );
        assert!(self.sessions > rounds * REQUESTS / 5);
        for reason in ["finished", "failed", "panicked"] {
            assert!(self.reasons.contains_key(reason), "no session has {reason}");
        }
    }
}

async fn round(mut rng: Rng) -> Outcome {
    let tasks_before = tasks();
    let sessions = Sessions::builder()
        .max(60)
        .max_per_key(30, |request| request.headers.get("user").cloned())
        .build();
    let ledger = Arc::new(Ledger::default());
    let server = server::start(&sessions, &ledger).await;

    let begun = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..HTTP1.0 {
        let begun = Arc::clone(&begun);
        clients.spawn(client::http1(server.address, rng.fork(), HTTP1.1, begun));
    }
    for _ in 0..HTTP2.0 {
        let begun = Arc::clone(&begun);
        clients.spawn(client::http2(server.address, rng.fork(), HTTP2.1, begun));
    }
    #[cfg(all(feature = "client", feature = "http3"))]
    let ends = Arc::new(http3::Ends::start(&sessions, &ledger));
    #[cfg(all(feature = "client", feature = "http3"))]
    for _ in 0..HTTP3.0 {
        let (ends, begun) = (Arc::clone(&ends), Arc::clone(&begun));
        clients.spawn(http3::clients(ends, rng.fork(), HTTP3.1, begun));
    }
    // The last requests arrive during the drain, and are refused.
    close_at_random(&sessions, &mut rng, || {
        begun.load(Ordering::Relaxed) >= REQUESTS * 9 / 10
    })
    .await;
    let grace = Duration::from_millis(rng.below(100) as u64);
    sessions.drain(grace).await;
    while let Some(done) = clients.join_next().await {
        done.expect("no client hangs");
    }

    wait_for("permits", || sessions.len(), 0).await;
    assert!(sessions.list().is_empty());
    server.connections_ended().await;
    drop(server);
    #[cfg(all(feature = "client", feature = "http3"))]
    drop(ends);
    wait_for("tasks", tasks, tasks_before).await;
    assert_eq!(Arc::strong_count(&ledger.token), 1, "a token is still held");
    audit(&ledger)
}

/// Checks that every session was reported once.
fn audit(ledger: &Ledger) -> Outcome {
    let opened = ledger.upgrade_responses.load(Ordering::Relaxed);
    let started = ledger.started.lock().expect("no panic");
    let closed = ledger.closed.lock().expect("no panic");
    assert_eq!(ledger.reported_twice.load(Ordering::Relaxed), 0);
    assert_eq!(closed.len(), opened, "reported and opened sessions differ");
    let unreported: Vec<_> = started.difference(&closed).collect();
    assert!(unreported.is_empty(), "{unreported:?}");
    let mut outcome = Outcome {
        sessions: opened,
        reasons: BTreeMap::new(),
    };
    // Do not count the outcome, which outlives the round.
    allocation_counter::opt_out(|| {
        outcome.reasons = ledger.reasons.lock().expect("no panic").clone()
    });
    outcome
}

/// Lists and closes sessions, as an administrator might, until `is_done` returns true.
async fn close_at_random(sessions: &Sessions, rng: &mut Rng, is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(
            start.elapsed() < LIMIT,
            "the clients hang: {:?}",
            sessions.list()
        );
        let list = sessions.list();
        if !list.is_empty() {
            // Prefer the oldest session: it may be one that does not end otherwise.
            let at = rng.one_in(2).then(|| rng.below(list.len()));
            let id = list[at.unwrap_or_default()].id();
            sessions.close(id, Duration::from_millis(rng.below(10) as u64));
        }
        assert!(!sessions.close(SessionId::from(0), Duration::ZERO));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until `count` returns `left`.
async fn wait_for(counted: &str, count: impl Fn() -> usize, left: usize) {
    let start = Instant::now();
    while count() != left {
        assert!(
            start.elapsed() < LIMIT,
            "{} {counted} remain instead of {left}",
            count()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Reads a number from an environment variable.
fn env<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let Ok(value) = value.parse() else {
        panic!("{name}={value} is not a number");
    };
    Some(value)
}

/// Counts failures of an assertion in h2 (<https://github.com/hyperium/h2/issues/907>).
///
/// In debug builds the assertion fails when the last stream of a broken connection is dropped. Because it
/// panics in a `Drop`, h2 then leaks memory.
static H2_HAS_PANICKED: AtomicUsize = AtomicUsize::new(0);

/// Hides the intended panics and those of h2 from the output: a backtrace would stay on the heap.
fn hide_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let message = info.payload().downcast_ref::<String>();
            let is_intended = message.is_some_and(|message| message == ON_PURPOSE);
            let message = info.payload().downcast_ref::<&str>();
            let is_of_h2 = message == Some(&"assertion failed: !self.has_streams()");
            if is_of_h2 {
                H2_HAS_PANICKED.fetch_add(1, Ordering::Relaxed);
                println!("h2 has dropped a connection with open streams");
            } else if !is_intended {
                show(info);
            }
        }));
    });
}

/// Prints the seed, and calls `round` with its number and a generator until the rounds or the time are over.
///
/// Returns the number of rounds.
fn rounds(mut round: impl FnMut(usize, Rng)) -> usize {
    // Run one test at a time: resident memory is that of the whole process.
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    hide_panics();
    let seed = env("SOAK_SEED").unwrap_or_else(Rng::seed);
    println!("SOAK_SEED={seed}");
    let mut rng = Rng::new(seed);
    // The two tests share the time.
    let time = env("SOAK_SECONDS").map(|seconds: u64| Duration::from_secs(seconds) / 2);
    let start = Instant::now();
    let mut done = 0;
    while match time {
        Some(time) => start.elapsed() < time,
        None => done < ROUNDS,
    } {
        round(done, rng.fork());
        done += 1;
    }
    done
}

/// The heap bytes that may remain after a round: less than one session holds. 24 bytes that belong to the
/// process come and go.
const LEFT: u64 = 256;

/// Runs in one thread, where every byte on the heap is counted, including the runtime's.
#[test]
fn round_leaves_nothing_on_the_heap() {
    let mut all = Outcome::default();
    let done = rounds(|number, rng| {
        let mut outcome = None;
        let panics_before = H2_HAS_PANICKED.load(Ordering::Relaxed);
        let heap = allocation_counter::measure(|| {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            outcome = Some(runtime.block_on(round(rng)));
        });
        all.add(outcome.expect("a completed round"));
        let left = heap.bytes_current;
        println!("round {number}: {left} bytes are left");
        // The first round allocates statics, and a panic of h2 leaks memory of h2.
        let h2_has_panicked = H2_HAS_PANICKED.load(Ordering::Relaxed) != panics_before;
        let is_ours = number > 0 && !h2_has_panicked;
        assert!(!is_ours || left.unsigned_abs() <= LEFT, "{left} bytes");
    });
    all.assert_representative(done);
}

/// The rounds after which the allocator has reached its size.
const WARM_UP: usize = 4;

/// The growth of resident memory allowed after the warm-up.
///
/// Measured growth is less than 5 MiB in 60 rounds, all of it the allocator's, and nothing after the first 12. If each
/// session leaked two kilobytes, the growth after 12 rounds would be twice the allowed one.
const GROWTH: u64 = 8 * 1024 * 1024;

/// Runs in several threads, as servers do, so that the end of a session can race with other tasks. The heap
/// cannot be counted there, so this test detects only frequent leaks.
#[test]
fn resident_memory_does_not_grow() {
    let mut threads = Builder::new_multi_thread();
    let runtime = threads.worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut all = Outcome::default();
    let mut warm = u64::MAX;
    let done = rounds(|number, rng| {
        all.add(runtime.block_on(round(rng)));
        let Some(resident) = resident_bytes() else {
            return;
        };
        println!("round {number}: {resident} bytes are resident");
        if number < WARM_UP {
            warm = resident;
        }
        let growth = resident.saturating_sub(warm);
        assert!(growth <= GROWTH, "{growth} bytes more are resident");
    });
    all.assert_representative(done);
}

/// Returns the resident memory of this process on Linux.
fn resident_bytes() -> Option<u64> {
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let kilobytes = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"))?;
    Some(kilobytes.parse::<u64>().ok()? * 1024)
}
