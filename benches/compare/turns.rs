//! All servers at once, and rounds by turns.

use crate::{
    rates::Series,
    sides::Side,
    support::{Client, ServerProcess},
};
use tokio::runtime::Runtime;
use tower_upgrade::BoxError;

/// A server, and the clients that it has for as long as it runs.
pub(crate) struct Contestant {
    pub(crate) side: Side,
    pub(crate) server: ServerProcess,
    pub(crate) clients: Vec<Client>,
}

/// All sides, each with its rounds.
pub(crate) struct Turns(Vec<(Series, Contestant)>);

impl Turns {
    pub(crate) fn start(runtime: &Runtime, clients: usize) -> Result<Self, BoxError> {
        let start = |side: Side| {
            let server = ServerProcess::start(side.name())?;
            let mut contestant = Contestant {
                side,
                clients: Vec::with_capacity(clients),
                server,
            };
            for _ in 0..clients {
                let client = runtime.block_on(side.connect(contestant.server.address()))?;
                contestant.clients.push(client);
            }
            let series = Series::new(side.name(), contestant.server.id());
            Ok::<_, BoxError>((series, contestant))
        };
        Ok(Self(
            Side::ALL.into_iter().map(start).collect::<Result<_, _>>()?,
        ))
    }

    /// Each side once in each round, which is one more than asked for: the first warms up, and does not count.
    /// None is always first, or always after the same other one, whose connections are still cleaned up.
    pub(crate) fn take(
        &mut self,
        runtime: &Runtime,
        rounds: usize,
        mut work: impl AsyncFnMut(&mut Contestant) -> Result<usize, BoxError>,
    ) -> Result<(), BoxError> {
        for round in 0..=rounds {
            let mut order: Vec<_> = self.0.iter_mut().collect();
            order.rotate_left(round % Side::ALL.len());
            if round % 2 == 1 {
                order.reverse();
            }
            for (series, contestant) in order {
                runtime.block_on(series.round(work(contestant)))?;
                if round == 0 {
                    series.forget();
                }
            }
        }
        Ok(())
    }

    pub(crate) fn series(&self) -> Vec<&Series> {
        self.0.iter().map(|(series, _)| series).collect()
    }

    pub(crate) fn stop(self) -> Result<(), BoxError> {
        for (_, contestant) in self.0 {
            drop(contestant.clients);
            contestant.server.stop()?;
        }
        Ok(())
    }
}
