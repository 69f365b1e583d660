//! The server's allocations per handshake, compared with a service that uses hyper alone.
//!
//! The handshake is that of `handshake.rs`. Allocations have a separate benchmark because the counting
//! allocator would distort time measurements.
//!
//! ```text
//! cargo bench --bench allocations
//! cargo bench --bench allocations -- [--handshakes 1000]
//! ```
//!
//! Both servers allocate in hyper, and once where the echo splits its connection. Hyper alone also allocates
//! the 8 KiB buffer that `tokio::io::copy` owns; this crate's `copy` borrows a buffer instead. The layer adds
//! eight allocations:
//!
//! | allocation | reason |
//! |---|---|
//! | the slot that holds the upgrade | all layers around a request share it |
//! | the future of `accept` | handlers have any type |
//! | the function that runs the session | has any type |
//! | the accepted session | large, and moves through layers and then to a task |
//! | the session's state | shared by the task, the IO and the registry |
//! | the handler's future | has any type, and is dropped before the session ends |
//! | the connection, returned by the handler | large, and not part of an idle session |
//! | the shutdown of the connection | large, and not part of an idle session |
//!
//! Timeouts, a lifetime and `on_close` together add one more: the timer of the session.

use handshakes::handshakes;
use support::{Arguments, ServerProcess, Side, run_server};
use tokio::runtime::Runtime;
use tower_upgrade::BoxError;

#[path = "support/handshakes.rs"]
mod handshakes;
#[allow(dead_code, reason = "the other benchmarks look at the process as well")]
mod support;

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if let Some(side) = arguments.server()? {
        return serve_and_count(side);
    }
    let count = arguments.count("--handshakes", 1000, 2)?;
    println!("the server's allocations per handshake");
    for side in Side::ALL {
        // Take the difference between two runs, to exclude the start of the server.
        let (once, twice) = (allocated(side, count)?, allocated(side, 2 * count)?);
        let [number, bytes] = [0, 1].map(|i| (twice[i] - once[i]) / count as f64);
        println!("    {:8}  {number:.1} of {bytes:.0} bytes", side.name());
    }
    Ok(())
}

/// Serves in the current thread and prints its allocations.
fn serve_and_count(side: Side) -> Result<(), BoxError> {
    let mut served = Ok(());
    let info = allocation_counter::measure(|| served = run_server(|listener| side.serve(listener)));
    served?;
    println!("{} {}", info.count_total, info.bytes_total);
    Ok(())
}

/// Returns the number and the bytes of a server's allocations for `count` handshakes.
fn allocated(side: Side, count: usize) -> Result<[f64; 2], BoxError> {
    let server = ServerProcess::start(side.name())?;
    Runtime::new()?.block_on(handshakes(server.address(), count))?;
    let printed = server.stop()?;
    let (number, bytes) = printed
        .trim_end()
        .split_once(' ')
        .ok_or_else(|| format!("no counts: {printed}"))?;
    Ok([number.parse()?, bytes.parse()?])
}
