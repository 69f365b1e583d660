//! The cost of a handshake, compared with a service that uses hyper alone.
//!
//! A handshake is a new connection over loopback, a request, a 101, an echo of four bytes, and the end of the
//! connection on both sides. The servers are in `support`.
//!
//! ```text
//! cargo bench --bench handshake
//! cargo bench --bench handshake -- [--rounds 21] [--handshakes 2000] [--connections 8]
//! cargo bench --bench handshake -- --instructions [--handshakes 500]
//! ```
//!
//! The first two commands print rates and the server's CPU time, including the kernel's, which is most of it.
//!
//! The last command prints instructions outside the kernel and needs valgrind. Instruction counts show
//! differences that are smaller than the noise of rates, but do not measure time: an instruction that fills or
//! copies a block counts once per byte. Zeroing the 8 KiB buffer of `tokio::io::copy` thus counts as 8,192
//! instructions.

use handshakes::handshakes;
use rates::{Series, Unit, compare, compare_instructions};
use std::{io, net::SocketAddr};
use support::{Arguments, ServerProcess, Side, listen, run_server, single_thread};
use tokio::{runtime::Runtime, task::JoinSet};
use tower_upgrade::BoxError;

#[path = "support/handshakes.rs"]
mod handshakes;
#[path = "support/rates.rs"]
mod rates;
mod support;

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if let Some(side) = arguments.server::<Side>()? {
        return run_server(|listener| side.serve(listener)).map_err(Into::into);
    }
    if let Some(side) = arguments.value("--once")? {
        let count = arguments.count("--handshakes", 1, 1)?;
        return in_one_thread(side, count).map_err(Into::into);
    }
    if arguments.has("--instructions") {
        let count = arguments.count("--handshakes", 500, 500)?;
        let sides = Side::ALL.map(Side::name);
        compare_instructions("handshake", sides, "--handshakes", count)
    } else {
        let rounds = arguments.count("--rounds", 21, 1)?;
        let handshakes = arguments.count("--handshakes", 2000, 8)?;
        let connections = arguments.count("--connections", 8, 2)?;
        compare_rates(rounds, handshakes, connections)
    }
}

/// Compares both sides in alternating rounds, so that other load on the machine affects both.
fn compare_rates(rounds: usize, handshakes: usize, connections: usize) -> Result<(), BoxError> {
    let runtime = Runtime::new()?;
    println!("{rounds} rounds of {handshakes} handshakes on each side: median (least to most)");
    for connections in [1, connections] {
        let [mut raw, mut layer] = [start(Side::Raw)?, start(Side::Layer)?];
        for round in 0..=rounds {
            // Alternate the order: the kernel still cleans up the connections of the side before.
            let order = match round % 2 {
                0 => [&mut raw, &mut layer],
                _ => [&mut layer, &mut raw],
            };
            for (series, server) in order {
                let work = at_a_time(server.address(), handshakes, connections);
                runtime.block_on(series.round(work))?;
            }
            if round == 0 {
                raw.0.forget();
                layer.0.forget();
            }
        }

        println!("\n{connections} at a time");
        compare(&Unit::new("handshake", "handshakes"), &[&raw.0, &layer.0]);
        raw.1.stop()?;
        layer.1.stop()?;
    }
    Ok(())
}

fn start(side: Side) -> Result<(Series, ServerProcess), BoxError> {
    let server = ServerProcess::start(side.name())?;
    Ok((Series::new(side.name(), server.id()), server))
}

/// Runs at least `count` handshakes, `connections` at a time, and returns their number.
async fn at_a_time(
    server: SocketAddr,
    count: usize,
    connections: usize,
) -> Result<usize, BoxError> {
    let share = count.div_ceil(connections);
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(handshakes(server, share));
    }
    while let Some(result) = clients.join_next().await {
        result??;
    }
    Ok(share * connections)
}

/// Runs client and server in one thread, so that they wait for each other in the same way in every run.
fn in_one_thread(side: Side, count: usize) -> io::Result<()> {
    single_thread()?.block_on(async {
        let listener = listen().await?;
        let address = listener.local_addr()?;
        tokio::spawn(side.serve(listener));
        handshakes(address, count).await
    })
}
