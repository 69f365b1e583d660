//! Rounds of messages to rooms of one server.

use crate::{
    rates::processor_time,
    resident::{WARM_UP, resident_bytes},
    room::{Burst, Room},
    sides::Side,
    support::ServerProcess,
};
use std::{thread::sleep, time::Duration};
use tower_upgrade::BoxError;

/// The numbers of sessions in the picture. The last one may be more than can be open.
pub(crate) const SIZES: [usize; 6] = [100, 300, 1000, 3000, 10_000, 20_000];

/// The messages of a burst.
const BURST: usize = 16;

/// The messages that fill the buffers and the queue of a slow consumer.
const FILL: usize = 128;

/// The results of a phase, in all rounds.
#[derive(Default)]
pub(crate) struct Phase {
    /// Deliveries per second, of each round.
    pub(crate) rates: Vec<f64>,
    /// The server's CPU time per delivery in microseconds, of each round.
    pub(crate) processor_times: Vec<f64>,
    /// Milliseconds from send to last receipt, of each message or burst.
    pub(crate) latencies: Vec<f64>,
}

/// The results of one side.
pub(crate) struct Results {
    pub(crate) side: Side,
    pub(crate) small: Phase,
    pub(crate) small_bursts: Phase,
    pub(crate) medium: Phase,
    pub(crate) medium_bursts: Phase,
    /// Messages of 4 KiB, with slow consumers.
    pub(crate) slow: Phase,
    /// Resident bytes of a session, of each round.
    pub(crate) bytes: Vec<f64>,
}

impl Results {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            small: Phase::default(),
            small_bursts: Phase::default(),
            medium: Phase::default(),
            medium_bursts: Phase::default(),
            slow: Phase::default(),
            bytes: Vec::new(),
        }
    }

    /// Measures all phases once.
    pub(crate) fn round(&mut self, sessions: usize, deliveries: usize) -> Result<(), BoxError> {
        let server = ServerProcess::start(self.side.name())?;
        let mut room = open(&server, 0, false)?;
        let before = resident_bytes(server.id())?;
        room.enter(server.address(), sessions, false)?;
        room.send(&Burst::new(1, 128))?;
        settle();
        let growth = resident_bytes(server.id())? - before;
        self.bytes.push(growth / sessions as f64);
        let process = server.id();
        self.small.round(process, &mut room, 1, 128, deliveries)?;
        self.medium.round(process, &mut room, 1, 4096, deliveries)?;
        self.small_bursts
            .round(process, &mut room, BURST, 128, deliveries)?;
        self.medium_bursts
            .round(process, &mut room, BURST, 4096, deliveries)?;
        stop(server, room)?;

        let server = ServerProcess::start(self.side.name())?;
        let mut room = open(&server, sessions, true)?;
        for _ in 0..FILL {
            room.send(&Burst::new(1, 4096))?;
        }
        self.slow
            .round(server.id(), &mut room, 1, 4096, deliveries)?;
        stop(server, room)
    }
}

impl Phase {
    fn round(
        &mut self,
        server: u32,
        room: &mut Room,
        messages: usize,
        bytes: usize,
        deliveries: usize,
    ) -> Result<(), BoxError> {
        let burst = Burst::new(messages, bytes);
        room.send(&burst)?;
        let each = messages * room.len();
        let times = deliveries.div_ceil(each).max(5);
        let before = processor_time(server);
        let mut elapsed = Duration::ZERO;
        for _ in 0..times {
            let latency = room.send(&burst)?;
            elapsed += latency;
            self.latencies.push(latency.as_secs_f64() * 1e3);
        }
        let done = (times * each) as f64;
        self.rates.push(done / elapsed.as_secs_f64());
        if let (Some(before), Some(after)) = (before, processor_time(server)) {
            self.processor_times
                .push((after - before).as_secs_f64() * 1e6 / done);
        }
        Ok(())
    }
}

/// Messages of 128 bytes, one at a time, to a number of sessions.
pub(crate) struct Growth {
    pub(crate) sessions: usize,
    pub(crate) sides: Vec<(Side, Phase)>,
}

impl Growth {
    pub(crate) fn measure(
        sides: &[Side],
        rounds: usize,
        sessions: usize,
        deliveries: usize,
    ) -> Result<Self, BoxError> {
        let mut sides: Vec<_> = sides.iter().map(|side| (*side, Phase::default())).collect();
        for _ in 0..rounds {
            for (side, phase) in &mut sides {
                let server = ServerProcess::start(side.name())?;
                let mut room = open(&server, sessions, false)?;
                phase.round(server.id(), &mut room, 1, 128, deliveries)?;
                stop(server, room)?;
            }
        }
        Ok(Self { sessions, sides })
    }
}

/// Returns whether the server starts.
pub(crate) fn can_run(side: Side) -> bool {
    match ServerProcess::start(side.name()) {
        Ok(server) => server.stop().is_ok(),
        Err(error) => {
            println!("{} does not start: {error}", side.label());
            false
        }
    }
}

/// Opens sessions after a warm-up.
fn open(server: &ServerProcess, sessions: usize, has_slow: bool) -> Result<Room, BoxError> {
    for _ in 0..WARM_UP {
        Room::visit(server.address())?;
    }
    settle();
    let mut room = Room::new()?;
    room.enter(server.address(), sessions, has_slow)?;
    settle();
    Ok(room)
}

/// Stops the server before the clients close their connections.
fn stop(server: ServerProcess, room: Room) -> Result<(), BoxError> {
    server.stop()?;
    drop(room);
    Ok(())
}

/// Waits until the server is idle.
fn settle() {
    sleep(Duration::from_millis(200));
}

/// Returns the value that a share of the sorted values does not exceed.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values[at.clamp(1, values.len()) - 1]
}
