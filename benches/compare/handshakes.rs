//! Handshakes: their rate and their 99th percentile latency.

use crate::{
    rates::{Unit, compare, compare_one},
    report::{Better, Measure},
    sides::Side,
    turns::take_turns,
    websockets::Frame,
};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tower_upgrade::BoxError;

pub(crate) fn compare_handshakes(
    rounds: usize,
    count: usize,
    connections: usize,
) -> Result<[Measure; 3], BoxError> {
    println!("\n{count} handshakes, {connections} at a time");
    let share = count.div_ceil(connections);
    let mut percentiles = Side::ALL.map(|side| (side.name(), Vec::new()));
    let series = take_turns(rounds, 0, async |contestant| {
        let (side, server) = (contestant.side, contestant.server.address());
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            clients.spawn(handshakes(side, server, side.frame(4), share));
        }
        let mut latencies = Vec::with_capacity(share * connections);
        while let Some(result) = clients.join_next().await {
            latencies.extend(result??);
        }
        if contestant.is_warm {
            let of_side = percentiles
                .iter_mut()
                .find(|(name, _)| *name == side.name());
            let (_, of_side) = of_side.ok_or("a side that is not compared")?;
            of_side.push(percentile_99(&mut latencies));
        }
        Ok(latencies.len())
    })?;

    let unit = Unit::new("handshake", "handshakes");
    let [rates, times] = compare(&unit, &series.iter().collect::<Vec<_>>());
    let what = "99th percentile of a handshake's latency, µs";
    let latencies = compare_one(what, &percentiles);
    Ok([
        Measure {
            name: format!("handshakes per second, {connections} at a time"),
            better: Better::More,
            is_drawn: true,
            sides: rates,
        },
        Measure {
            name: String::from("handshake latency, 99th percentile, µs"),
            better: Better::Less,
            is_drawn: true,
            sides: latencies,
        },
        Measure::processor_time("handshake", times),
    ])
}

/// Runs handshakes one after the other, and returns their latencies.
async fn handshakes(
    side: Side,
    server: SocketAddr,
    ping: Arc<Frame>,
    count: usize,
) -> io::Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let mut client = side.connect(server).await?;
        latencies.push(started.elapsed());
        ping.echo(&mut client, 1).await?;
        client.close().await?;
    }
    Ok(latencies)
}

/// Returns the 99th percentile in microseconds.
fn percentile_99(latencies: &mut [Duration]) -> f64 {
    latencies.sort();
    let rank = (latencies.len() * 99).div_ceil(100);
    latencies[rank - 1].as_secs_f64() * 1e6
}
