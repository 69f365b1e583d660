//! One message to many WebSockets: this crate, axum with tokio's `broadcast`, and Node.js with `ws`. Linux only.
//!
//! ```text
//! cargo bench --features websocket --bench fanout
//! cargo bench --features websocket --bench fanout -- --svg docs/fanout.svg
//! cargo bench --features websocket --bench fanout -- [--rounds 3] [--sessions 10000] [--deliveries 500000]
//! ```
//!
//! Each server runs in a separate process with one thread, and sends each message that it receives to all sessions.
//! One client sends, and all receive. The clients are one thread of another process, which counts bytes. The sides take
//! turns, and each server restarts every round. Without Node.js or its package `ws`, that side is left out.
//!
//! - Messages are sent one at a time, when all listeners have received the one before, or in bursts of 16.
//! - A delivery is one message to one listener. Its CPU time is the server's.
//! - The times from send to last receipt are those of messages of one round, one at a time.
//! - With slow consumers, one listener in a hundred does not read. The other listeners are measured.
//! - Memory is the growth of the server's resident memory, after one message, per session.
//!
//! With `--svg` all sides run with 100 to 20,000 sessions instead, one message of 128 bytes at a time, and the growth
//! is drawn. `--side` runs one side only.

use measure::{Growth, Results};
use report::print_table;
use sides::Side;
use std::fs;
use support::{Arguments, run_server};
use tower_upgrade::BoxError;

mod measure;
#[allow(dead_code, reason = "this benchmark has other rounds")]
#[path = "../support/rates.rs"]
mod rates;
mod report;
#[allow(
    dead_code,
    reason = "this benchmark runs with fewer sessions than requested"
)]
#[path = "../support/resident.rs"]
mod resident;
mod room;
mod sides;
#[allow(dead_code, reason = "some servers are not compared here")]
#[path = "../support/mod.rs"]
mod support;
mod svg;

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if !cfg!(target_os = "linux") {
        println!("servers are compared on Linux only");
        return Ok(());
    }
    match arguments.server::<Side>()? {
        Some(Side::Node) => return Err(sides::run_node().into()),
        Some(side) => return Ok(run_server(|listener| side.serve(listener))?),
        None => {}
    }
    let rounds = arguments.count("--rounds", 3, 1)?;
    let sessions = arguments.count("--sessions", 10_000, 100)?;
    let deliveries = arguments.count("--deliveries", 500_000, 1000)?;
    let svg: Option<String> = arguments.value("--svg")?;
    let only: Option<Side> = arguments.value("--side")?;

    let sides: Vec<_> = Side::ALL
        .into_iter()
        .filter(|side| only.is_none_or(|only| only == *side) && measure::can_run(*side))
        .collect();
    if let Some(path) = svg {
        let growths = measure::SIZES.into_iter().map(|sessions| {
            let open = resident::as_many_as_can_be(sessions)?;
            Growth::measure(&sides, rounds, open, deliveries)
        });
        let growths = growths.collect::<Result<Vec<_>, _>>()?;
        return fs::write(&path, svg::draw(&growths))
            .map_err(|error| format!("{path}: {error}").into());
    }
    let open = resident::as_many_as_can_be(sessions)?;
    println!("{rounds} rounds, sessions: {open}");
    let mut results: Vec<_> = sides.iter().map(|side| Results::new(*side)).collect();
    for _ in 0..rounds {
        for results in &mut results {
            results.round(open, deliveries)?;
        }
    }
    print_table(&results);
    Ok(())
}
