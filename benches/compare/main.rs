//! The cost of an upgrade: hyper alone, this crate, and the usual WebSocket servers side by side. Linux only.
//!
//! | server | | echoes |
//! |---|---|---|
//! | `hyper` | `upgrade::on`, a task, `tokio::io::copy` | bytes |
//! | `ours` | `UpgradeLayer`, a handler, `copy` | bytes |
//! | `axum-governed` | axum under an `UpgradeLayer` with `govern` and a registry | messages |
//! | `axum`, `hyper-tungstenite`, `fastwebsockets`, `tokio-websockets` | with their defaults | messages |
//! | `ours-websocket` | the handler `websocket` with its defaults | messages |
//!
//! All clients send the same bytes.
//!
//! ```text
//! cargo bench --features websocket --bench compare
//! cargo bench --features websocket --bench compare -- --svg docs/compare.svg
//! cargo bench --features websocket --bench compare -- [--rounds 21] [--handshakes 1000] [--connections 8]
//!     [--round-trips 8000] [--sessions 64] [--large 2000] [--idle 10000]
//! ```
//!
//! Each server runs in a separate process with one thread, and the clients in another. The sides take turns,
//! and all servers restart every three rounds. The benchmark prints a table of medians, and of medians of
//! ratios to the first side in the same round, and draws them with `--svg`.
//!
//! - A handshake is a new connection, the 101, an echo of 4 bytes, and the end of the connection;
//!   `--connections` run at a time. Its latency is the time from before the connect to the end of the head of
//!   the 101.
//! - A round trip is an echo of a message of 16 bytes, or of 64 KiB.
//! - A session is idle after it has echoed a message of 64 bytes. Its heap bytes are those that the server has
//!   requested from the allocator. Its resident bytes include the overhead of the allocator, and exclude pages
//!   that were never written.
//!
//! The allocator counts in all measurements: one atomic addition for each allocation and one for each
//! deallocation, which costs less than the spread of the rounds.

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
    reason = "this benchmark also runs with fewer sessions than requested"
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
        // All sessions are still open when `_heap` is dropped.
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
    // Not every kernel reports CPU times.
    measures.retain(|measure| !measure.sides.is_empty());

    print_table(&measures);
    if let Some(path) = svg {
        measures.retain(|measure| measure.is_drawn);
        fs::write(&path, svg::draw(&measures)).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}
