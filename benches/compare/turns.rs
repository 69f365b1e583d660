//! Runs all servers at the same time, and measures them in turns.

use crate::{
    rates::Series,
    sides::Side,
    support::{Client, ServerProcess, single_thread},
};
use tokio::runtime::Runtime;
use tower_upgrade::BoxError;

/// The rounds after which a server restarts.
///
/// The location of a process's heap, and when its allocator returns memory, vary by chance from process to
/// process. A server that allocates for each long message can take half as long again because of it.
const ROUNDS_OF_A_PROCESS: usize = 3;

/// A server process and its open client connections.
pub(crate) struct Contestant {
    pub(crate) side: Side,
    pub(crate) server: ServerProcess,
    pub(crate) clients: Vec<Client>,
    /// False in the first round, which is the warm-up and is not measured.
    pub(crate) is_warm: bool,
}

impl Contestant {
    fn start(side: Side, runtime: &Runtime, clients: usize) -> Result<Self, BoxError> {
        let server = ServerProcess::start(side.name())?;
        let clients = (0..clients).map(|_| runtime.block_on(side.connect(server.address())));
        Ok(Self {
            side,
            clients: clients.collect::<Result<_, _>>()?,
            server,
            is_warm: false,
        })
    }
}

/// Runs `work` once per round for each side, with this number of clients.
///
/// The order varies, so that no side is always first or always follows the same side: the kernel may still be
/// cleaning up the connections of the side before.
pub(crate) fn take_turns(
    rounds: usize,
    clients: usize,
    mut work: impl AsyncFnMut(&mut Contestant) -> Result<usize, BoxError>,
) -> Result<Vec<Series>, BoxError> {
    let runtime = single_thread()?;
    let mut all = Side::ALL.map(|side| Series::new(side.name(), 0));
    let rounds: Vec<_> = (0..rounds).collect();
    for rounds in rounds.chunks(ROUNDS_OF_A_PROCESS) {
        let mut contestants = Vec::new();
        for (side, series) in Side::ALL.into_iter().zip(&mut all) {
            let mut contestant = Contestant::start(side, &runtime, clients)?;
            series.process = contestant.server.id();
            runtime.block_on(work(&mut contestant))?;
            contestant.is_warm = true;
            contestants.push(contestant);
        }
        for round in rounds {
            let mut order: Vec<_> = all.iter_mut().zip(&mut contestants).collect();
            order.rotate_left(round % Side::ALL.len());
            if round % 2 == 1 {
                order.reverse();
            }
            for (series, contestant) in order {
                runtime.block_on(series.round(work(contestant)))?;
            }
        }
        for contestant in contestants {
            drop(contestant.clients);
            contestant.server.stop()?;
        }
    }
    Ok(Vec::from(all))
}
