//! Allocations of a whole handshake, compared with a service that uses hyper alone.
//!
//! The handshake is the one of `handshake.rs`; only the server's allocations count. This is a separate benchmark
//! because the counting allocator would distort time measurements.
//!
//! ```text
//! cargo bench --bench allocations
//! cargo bench --bench allocations -- [--handshakes 1000]
//! ```
//!
//! Besides hyper's own allocations, and one of the echo that splits its connection, hyper alone allocates the 8 KiB
//! buffer of `tokio::io::copy`. The layer's `copy` borrows a buffer instead, and the layer adds seven allocations:
//!
//! | what | why |
//! |---|---|
//! | the slot that holds the upgrade | all layers around a request share it |
//! | the decision's future | handlers are of any type |
//! | the acceptance's session handler | a function of any type |
//! | the accepted session | large; passes through layers and then to a task |
//! | the session's state | its task, its IO and the registry share it |
//! | the handler's future | of any type; dropped before the session ends |
//! | the close report | large; an idle session does not hold one yet |
//!
//! Timeouts, a maximum lifetime and `on_close` add one: the session's timer.

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
        // Measures `count` additional handshakes, so that the server's startup does not count.
        let (once, twice) = (allocated(side, count)?, allocated(side, 2 * count)?);
        let [number, bytes] = [0, 1].map(|i| (twice[i] - once[i]) / count as f64);
        println!("    {:8}  {number:.1} of {bytes:.0} bytes", side.name());
    }
    Ok(())
}

/// The server has a single thread, the one in which allocations are counted.
fn serve_and_count(side: Side) -> Result<(), BoxError> {
    let mut served = Ok(());
    let info = allocation_counter::measure(|| served = run_server(|listener| side.serve(listener)));
    served?;
    println!("{} {}", info.count_total, info.bytes_total);
    Ok(())
}

/// Returns the number of allocations, and of allocated bytes, of a server that serves this many handshakes.
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
