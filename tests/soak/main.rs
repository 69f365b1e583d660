//! Thousands of sessions that end in every way there is, and nothing is left of them.
//!
//! A round has a server, a registry, and clients over HTTP/1.1 and HTTP/2 that behave and misbehave
//! at random, and ends with a drain. Then there must be no permit, no entry, no task and no memory of
//! it, and every session must have been reported once.
//!
//! ```text
//! cargo test --test soak
//! SOAK_SECONDS=600 cargo test --test soak -- --nocapture
//! SOAK_SEED=1234 cargo test --test soak
//! ```
//!
//! A seed says what clients ask for and do. When they do it is the machine's to say, so the same seed
//! is a similar run and not the same one.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod rng;
mod server;

use rng::Rng;
use server::{Books, ON_PURPOSE};
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

/// Of each test, unless `SOAK_SECONDS` says how long they take.
const ROUNDS: usize = 16;

/// What only a hang can exceed, on any machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// How many connections of HTTP/1.1 there are at a time, and how many come one after the other.
const HTTP1: (usize, usize) = (24, 30);

/// How many connections of HTTP/2, and how many streams each has.
const HTTP2: (usize, usize) = (6, 60);

const REQUESTS: usize = HTTP1.0 * HTTP1.1 + HTTP2.0 * HTTP2.1;

/// What came of one round or more.
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

    /// It was a soak: many requests became sessions, and of these many ended in the one way or the
    /// other that needs no luck.
    fn assert_was_one(&self, rounds: usize) {
        println!(
            "{rounds} rounds, {} sessions: {:?}",
            self.sessions, self.reasons
        );
        assert!(self.sessions > rounds * REQUESTS / 5);
        for reason in ["finished", "failed", "panicked"] {
            assert!(self.reasons.contains_key(reason), "none has {reason}");
        }
    }
}

async fn round(mut rng: Rng) -> Outcome {
    let tasks_before = tasks();
    let sessions = Sessions::builder()
        .max(60)
        .max_per_key(30, |request| request.headers.get("user").cloned())
        .build();
    let books = Arc::new(Books::default());
    let server = server::start(&sessions, &books).await;

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
    // The last ones find a server that lets nobody in.
    close_some(&sessions, &mut rng, || {
        begun.load(Ordering::Relaxed) >= REQUESTS * 9 / 10
    })
    .await;
    let grace = Duration::from_millis(rng.below(100) as u64);
    sessions.drain(grace).await;
    while let Some(done) = clients.join_next().await {
        done.expect("no client hangs");
    }

    settled("permits", || sessions.len(), 0).await;
    assert!(sessions.list().is_empty());
    server.connections_ended().await;
    drop(server);
    settled("tasks", tasks, tasks_before).await;
    assert_eq!(Arc::strong_count(&books.token), 1, "something is kept");
    audit(&books)
}

/// Every session was reported once.
fn audit(books: &Books) -> Outcome {
    let opened = books.switches.load(Ordering::Relaxed);
    let started = books.started.lock().expect("no panic");
    let closed = books.closed.lock().expect("no panic");
    assert_eq!(books.reported_twice.load(Ordering::Relaxed), 0);
    assert_eq!(closed.len(), opened, "as many ended as were opened");
    let unreported: Vec<_> = started.difference(&closed).collect();
    assert!(unreported.is_empty(), "{unreported:?}");
    let mut outcome = Outcome {
        sessions: opened,
        reasons: BTreeMap::new(),
    };
    // It outlives the round, and is not to be counted.
    allocation_counter::opt_out(|| {
        outcome.reasons = books.reasons.lock().expect("no panic").clone()
    });
    outcome
}

/// What an administrator might do, until it is enough.
async fn close_some(sessions: &Sessions, rng: &mut Rng, is_enough: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_enough() {
        assert!(
            start.elapsed() < LIMIT,
            "the clients hang: {:?}",
            sessions.list()
        );
        let list = sessions.list();
        if !list.is_empty() {
            // The oldest ones may be those that end in no other way.
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

/// Waits until so many are left.
async fn settled(what: &str, count: impl Fn() -> usize, left: usize) {
    let start = Instant::now();
    while count() != left {
        assert!(
            start.elapsed() < LIMIT,
            "{} {what}, and not {left}",
            count()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What the environment says.
fn env<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let Ok(value) = value.parse() else {
        panic!("{name}={value} is no number");
    };
    Some(value)
}

/// How often an assertion of h2's has failed, which it does in debug builds only, where the last stream
/// is dropped of a connection that has broken off: it is none of a connection's doing
/// (<https://github.com/hyperium/h2/issues/907>). Having panicked in a `Drop`, h2 does not free the rest.
static H2_HAS_PANICKED: AtomicUsize = AtomicUsize::new(0);

/// Panics that are meant need not be seen. Nor are those of h2, and a backtrace would be kept on the heap.
fn hide_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let message = info.payload().downcast_ref::<String>();
            let is_meant = message.is_some_and(|message| message == ON_PURPOSE);
            let message = info.payload().downcast_ref::<&str>();
            let is_of_h2 = message == Some(&"assertion failed: !self.has_streams()");
            if is_of_h2 {
                H2_HAS_PANICKED.fetch_add(1, Ordering::Relaxed);
                println!("h2 has dropped a connection with streams");
            } else if !is_meant {
                show(info);
            }
        }));
    });
}

/// Says the seed, and calls `round` with a number and random numbers of its own until it is enough.
fn rounds(mut round: impl FnMut(usize, Rng)) -> usize {
    // One test at a time: what is resident is the whole process's.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    hide_panics();
    let seed = env("SOAK_SEED").unwrap_or_else(Rng::seed);
    println!("SOAK_SEED={seed}");
    let mut rng = Rng::new(seed);
    // There are two tests.
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

/// How many bytes of the heap may be left of a round. It is less than what one session holds: what
/// comes and goes is 24 bytes that are the process's.
const LEFT: u64 = 256;

/// In one thread, where every byte of the heap can be counted, the runtime's included.
#[test]
fn no_byte_of_the_heap_is_left() {
    let mut all = Outcome::default();
    let done = rounds(|number, rng| {
        let mut outcome = None;
        let panics_before = H2_HAS_PANICKED.load(Ordering::Relaxed);
        let heap = allocation_counter::measure(|| {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            outcome = Some(runtime.block_on(round(rng)));
        });
        all.add(outcome.expect("it has ended"));
        let left = heap.bytes_current;
        println!("round {number}: {left} bytes are left");
        // What is left by the first one is made once in a process, and what is left by h2 is its own.
        let h2_has_panicked = H2_HAS_PANICKED.load(Ordering::Relaxed) != panics_before;
        let is_ours = number > 0 && !h2_has_panicked;
        assert!(!is_ours || left.unsigned_abs() <= LEFT, "{left} bytes");
    });
    all.assert_was_one(done);
}

/// In how many rounds allocators find their size.
const WARM_UP: usize = 4;

/// How much more may be resident after a later round. Measured is less than half a megabyte in 40
/// rounds, all of it the allocator's, and no more in the next 40. A kilobyte that each session left
/// would be six times that after 12 rounds.
const GROWTH: u64 = 4 * 1024 * 1024;

/// In several threads, as servers run, where a session's end can race with all else. There the heap
/// cannot be counted, so this sees only what leaks often.
#[test]
fn what_is_resident_does_not_grow() {
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
    all.assert_was_one(done);
}

/// What is resident of this process, where the system says so.
fn resident_bytes() -> Option<u64> {
    let smaps = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let kilobytes = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"))?;
    Some(kilobytes.parse::<u64>().ok()? * 1024)
}
