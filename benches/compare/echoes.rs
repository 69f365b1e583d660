//! Round trips of messages in open sessions.

use crate::{
    rates::{Unit, compare},
    report::{Better, Measure},
    turns::take_turns,
    websockets,
};
use tower_upgrade::BoxError;

#[derive(Clone, Copy)]
pub(crate) enum Message {
    Small,
    Large,
}

impl Message {
    const fn bytes(self) -> usize {
        match self {
            Self::Small => 16,
            Self::Large => 64 * 1024,
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Small => Unit::new("round trip", "round trips"),
            Self::Large => Unit {
                size: (1024 * 1024 / self.bytes()) as f64,
                ..Unit::new("MiB", "MiB")
            },
        }
    }

    /// Compares all sides with `count` messages in each round, shared between the sessions.
    pub(crate) fn compare(
        self,
        rounds: usize,
        count: usize,
        sessions: usize,
    ) -> Result<[Measure; 2], BoxError> {
        let bytes = self.bytes();
        println!("\n{count} messages of {bytes} bytes, in sessions: {sessions}");
        let share = count.div_ceil(sessions);
        let series = take_turns(rounds, sessions, async |contestant| {
            let frame = contestant.side.frame(bytes);
            websockets::echoes(&mut contestant.clients, &frame, share).await
        })?;
        let [rates, times] = compare(&self.unit(), &series.iter().collect::<Vec<_>>());

        let sessions = match sessions {
            1 => String::from("1 session"),
            _ => format!("{sessions} sessions"),
        };
        let (rate, time) = match self {
            Self::Small => ("round trips of 16 bytes", "round trip of 16 bytes"),
            Self::Large => ("MiB in messages of 64 KiB", "MiB in messages of 64 KiB"),
        };
        Ok([
            Measure {
                name: format!("{rate} per second, {sessions}"),
                better: Better::More,
                is_drawn: true,
                sides: rates,
            },
            Measure::processor_time(&format!("{time}, {sessions}"), times),
        ])
    }
}
