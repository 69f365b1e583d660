//! The results of all clients, and the conditions that a test waits for.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Error;

/// The time after which a wait counts as a hang.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Verdict {
    per_room: usize,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    started: Instant,
    state: Mutex<State>,
}

struct State {
    clients: Vec<Seen>,
    /// By room and sender: the last acknowledged number.
    acknowledged: HashMap<String, BTreeMap<String, u64>>,
    acknowledgements: u64,
    /// The time between two messages of a sender, or `None`.
    pause: Option<Duration>,
    may_lose: bool,
    failed_attempts: u64,
    failed_sends: u64,
    connections: u64,
    failures: Vec<String>,
    /// In microseconds, from the sender to each receiver, of live messages.
    latencies: Vec<u64>,
    deliveries: u64,
}

#[derive(Clone, Default)]
struct Seen {
    is_joined: bool,
    is_sending: bool,
    people: BTreeSet<String>,
    /// By sender: the last number.
    numbers: BTreeMap<String, u64>,
    has_lost: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no client panics")
    }

    pub(crate) fn micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    pub(crate) fn pause(&self) -> Option<Duration> {
        self.state().pause
    }

    pub(crate) fn fail(&self, failure: String) {
        self.state().failures.push(failure);
    }

    pub(crate) fn attempt_failed(&self, error: &Error) {
        let body = match error {
            Error::Http(response) => response.body().as_deref().unwrap_or_default(),
            _ => &[],
        };
        let body = String::from_utf8_lossy(body);
        eprintln!("an attempt to connect failed: {error} {body}");
        self.state().failed_attempts += 1;
    }

    pub(crate) fn send_failed(&self) {
        self.state().failed_sends += 1;
    }

    pub(crate) fn joined(&self, client: usize) {
        let mut state = self.state();
        state.connections += 1;
        state.clients[client].is_joined = true;
    }

    pub(crate) fn disconnected(&self, client: usize) {
        let mut state = self.state();
        let seen = &mut state.clients[client];
        seen.is_joined = false;
        seen.people.clear();
    }

    pub(crate) fn set_people(&self, client: usize, people: &Value) {
        let people = people.as_array().expect("a list").iter();
        let people = people.map(|name| name.as_str().expect("a name").to_owned());
        self.state().clients[client].people = people.collect();
    }

    pub(crate) fn set_sending(&self, client: usize, is_sending: bool) {
        self.state().clients[client].is_sending = is_sending;
    }

    pub(crate) fn acknowledged(&self, client: usize, room: &str, name: &str, number: u64) {
        let mut state = self.state();
        state.clients[client].is_sending = false;
        state.acknowledgements += 1;
        let senders = state.acknowledged.entry(room.to_owned()).or_default();
        senders.insert(name.to_owned(), number);
    }

    pub(crate) fn received(
        &self,
        client: usize,
        from: &str,
        number: u64,
        sent_at: u64,
        is_history: bool,
    ) {
        let latency = self.micros() - sent_at;
        let mut state = self.state();
        state.deliveries += 1;
        if !is_history {
            state.latencies.push(latency);
        }
        let numbers = &mut state.clients[client].numbers;
        numbers.insert(from.to_owned(), number);
    }

    pub(crate) fn loss_reported(&self, client: usize, name: &str) {
        let mut state = self.state();
        if !state.may_lose {
            state.failures.push(format!("{name}: a loss is reported"));
        }
        state.clients[client].has_lost = true;
    }

    pub(crate) fn may_lose(&self) -> bool {
        self.state().may_lose
    }
}

impl Verdict {
    pub(crate) fn new(number: usize, per_room: usize) -> Self {
        let state = State {
            clients: vec![Seen::default(); number],
            acknowledged: HashMap::new(),
            acknowledgements: 0,
            pause: None,
            may_lose: false,
            failed_attempts: 0,
            failed_sends: 0,
            connections: 0,
            failures: Vec::new(),
            latencies: Vec::new(),
            deliveries: 0,
        };
        let shared = Shared {
            started: Instant::now(),
            state: Mutex::new(state),
        };
        Self {
            per_room,
            shared: Arc::new(shared),
        }
    }

    /// Fails with the failures of the clients so far.
    pub(crate) fn check(&self) {
        let state = self.shared.state();
        let failures = &state.failures;
        let first = failures.iter().take(20).map(|line| format!("\n{line}"));
        assert!(
            failures.is_empty(),
            "{} failures:{}",
            failures.len(),
            first.collect::<String>()
        );
    }

    /// Waits until no client contradicts: `wrong` returns the first one that does.
    async fn until(&self, condition: &str, wrong: impl Fn(&State) -> Option<String>) {
        let started = Instant::now();
        loop {
            let found = wrong(&self.shared.state());
            let Some(found) = found else { return };
            self.check();
            assert!(started.elapsed() < LIMIT, "never {condition}: {found}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_joined(&self, number: usize) {
        let wrong = |state: &State| {
            let joined = state.clients.iter().filter(|client| client.is_joined);
            let joined = joined.count();
            (joined < number).then(|| format!("{joined} of {number}"))
        };
        self.until("all joined", wrong).await;
    }

    /// Waits until every client has a list with exactly the members of its room. Those in `ghosts` are in the first room.
    pub(crate) async fn until_presence_is_right(&self, ghosts: &[&str]) {
        let wrong = |state: &State| {
            for (index, client) in state.clients.iter().enumerate() {
                let room = index / self.per_room;
                let first = room * self.per_room;
                let end = (first + self.per_room).min(state.clients.len());
                let mut people: BTreeSet<_> = (first..end)
                    .map(|index| format!("client-{index}"))
                    .collect();
                if room == 0 {
                    people.extend(ghosts.iter().map(|name| (*name).to_owned()));
                }
                if client.people != people {
                    let seen = &client.people;
                    return Some(format!("client {index} sees {seen:?}, expected {people:?}"));
                }
            }
            None
        };
        self.until("right presence", wrong).await;
    }

    /// Starts to send.
    pub(crate) fn send(&self, pause: Duration) {
        self.shared.state().pause = Some(pause);
    }

    /// Stops to send, and waits for the acknowledgements.
    pub(crate) async fn finish_sending(&self) {
        self.shared.state().pause = None;
        let wrong = |state: &State| {
            let index = state.clients.iter().position(|client| client.is_sending)?;
            Some(format!("client {index} waits for an acknowledgement"))
        };
        self.until("all acknowledged", wrong).await;
    }

    pub(crate) async fn until_sends_fail(&self) {
        let before = self.shared.state().failed_sends;
        let wrong = |state: &State| (state.failed_sends < before + 10).then(String::new);
        self.until("a failed send", wrong).await;
    }

    pub(crate) async fn until_sends_succeed(&self) {
        let before = self.shared.state().acknowledgements;
        let wrong = |state: &State| (state.acknowledgements < before + 100).then(String::new);
        self.until("acknowledgements", wrong).await;
    }

    /// Waits until every client has every acknowledged message of its room.
    pub(crate) async fn until_all_is_received(&self) {
        let wrong = |state: &State| {
            for (index, client) in state.clients.iter().enumerate() {
                let room = format!("room-{}", index / self.per_room);
                let expected = state.acknowledged.get(&room)?;
                if client.numbers != *expected {
                    let seen = &client.numbers;
                    return Some(format!("client {index} has {seen:?} of {expected:?}"));
                }
            }
            None
        };
        self.until("all received", wrong).await;
        self.check();
    }

    /// From now on, messages may be lost. Waits until each client knows.
    pub(crate) async fn until_all_report_loss(&self) {
        let wrong = |state: &State| {
            let index = state.clients.iter().position(|client| !client.has_lost)?;
            Some(format!("client {index}"))
        };
        self.until("a reported loss", wrong).await;
    }

    pub(crate) fn expect_loss(&self) {
        self.shared.state().may_lose = true;
    }

    pub(crate) fn failed_attempts(&self) -> u64 {
        self.shared.state().failed_attempts
    }

    pub(crate) fn deliveries(&self) -> u64 {
        self.shared.state().deliveries
    }

    /// Starts a new measurement of latencies.
    pub(crate) fn clear_latencies(&self) {
        self.shared.state().latencies.clear();
    }

    /// Returns a percentile of the latencies in milliseconds.
    pub(crate) fn latency(&self, percent: usize) -> f64 {
        let mut latencies = self.shared.state().latencies.clone();
        latencies.sort_unstable();
        let index = latencies.len().saturating_sub(1) * percent / 100;
        latencies.get(index).copied().unwrap_or_default() as f64 / 1000.0
    }

    pub(crate) fn summary(&self) -> String {
        let (p50, p99) = (self.latency(50), self.latency(99));
        let state = self.shared.state();
        format!(
            "{} acknowledged messages, {} deliveries to {} clients over {} connections, {} failed attempts; \
             latency p50 {p50:.1} ms, p99 {p99:.1} ms",
            state.acknowledgements,
            state.deliveries,
            state.clients.len(),
            state.connections,
            state.failed_attempts,
        )
    }
}
