//! The cost of an upgrade, side by side: hyper alone, this crate, and the usual WebSocket servers. Linux only.
//!
//! - `hyper`: `upgrade::on`, a task, `tokio::io::copy`; `ours`: `UpgradeLayer`, a handler, `copy`. Both echo bytes.
//! - `axum`, `hyper-tungstenite`, `fastwebsockets`, and `ours-websocket`, the handler `websocket`: these echo
//!   messages, each with its defaults. Their clients send the same bytes as those of the other two.
//!
//! ```text
//! cargo bench --features websocket --bench compare
//! cargo bench --features websocket --bench compare -- --svg docs/compare.svg
//! cargo bench --features websocket --bench compare -- [--rounds 21] [--handshakes 1000] [--connections 8]
//!     [--round-trips 8000] [--sessions 64] [--large 2000] [--idle 10000]
//! ```
//!
//! Each server is a separate single-threaded process, and so are the clients. All sides take turns, and all servers
//! are restarted every few rounds. The output is a table of medians, with the medians of the ratios to the first side
//! in the same round, and a picture of these ratios.
//!
//! - A handshake is a new connection, the upgrade, 4 bytes there and back, and the close; several run at a time. Its
//!   latency is the time from before the connection is made to the end of the head of the 101.
//! - A round trip is a message of 16 bytes, or of 64 KiB, there and back.
//! - A session is idle after a 64-byte message has come back. Its heap is the memory that the server has requested
//!   from its allocator. Its resident memory includes the allocator's overhead and excludes pages that were never
//!   written to.
//!
//! The allocator counts in all measures: one atomic addition for each allocation and one for each deallocation. This
//! overhead is smaller than the difference between rounds.

use echoes::Message;
use handshakes::compare_handshakes;
use idle::compare_idle;
use report::print_table;
use sides::Side;
use std::{alloc::System, fs};
use support::{Arguments, run_server};
use tower_upgrade::BoxError;

mod echoes;
mod handshakes;
mod idle;
#[allow(dead_code, reason = "instructions are not compared")]
#[path = "../support/rates.rs"]
mod rates;
mod report;
#[allow(
    dead_code,
    reason = "with fewer sessions than asked for there is something to compare as well"
)]
#[path = "../support/resident.rs"]
mod resident;
mod sides;
#[allow(dead_code, reason = "some servers are not compared here")]
#[path = "../support/mod.rs"]
mod support;
mod svg;
mod turns;
#[path = "../support/websockets.rs"]
mod websockets;

#[global_allocator]
static ALLOCATOR: cap::Cap<System> = cap::Cap::new(System, usize::MAX);

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if !cfg!(target_os = "linux") {
        println!("servers are compared on Linux only");
        return Ok(());
    }
    if let Some(side) = arguments.server::<Side>()? {
        // All sessions still exist while this is dropped.
        return Ok(run_server(async |listener| {
            let _heap = idle::PrintHeap;
            side.serve(listener).await
        })?);
    }
    let rounds = arguments.count("--rounds", 21, 1)?;
    let handshakes = arguments.count("--handshakes", 1000, 4)?;
    let connections = arguments.count("--connections", 8, 2)?;
    let round_trips = arguments.count("--round-trips", 8000, 4)?;
    let sessions = arguments.count("--sessions", 64, 2)?;
    let large = arguments.count("--large", 2000, 4)?;
    let idle = arguments.count("--idle", 10_000, 10)?;
    let svg: Option<String> = arguments.value("--svg")?;

    println!("{rounds} rounds: median (least to most)");
    let mut measures = Vec::from(compare_handshakes(rounds, handshakes, connections)?);
    for sessions in [1, sessions] {
        measures.extend(Message::Small.compare(rounds, round_trips, sessions)?);
    }
    measures.extend(Message::Large.compare(rounds, large, sessions)?);
    measures.extend(compare_idle(idle)?);
    // Not every kernel reports the processor time of a process.
    measures.retain(|measure| !measure.sides.is_empty());

    print_table(&measures);
    if let Some(path) = svg {
        measures.retain(|measure| measure.is_drawn);
        fs::write(&path, svg::draw(&measures)).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}
