//! What a whole handshake allocates, against a service that does it with hyper alone.
//!
//! It is the handshake of `handshake.rs`, and what is counted is the server's. It is a benchmark of
//! its own since the allocator that counts would be in the way of a clock.
//!
//! ```text
//! cargo bench --bench allocations
//! cargo bench --bench allocations -- [--handshakes 1000]
//! ```
//!
//! Beside those of hyper, and one of the echo that splits its connection, hyper alone has one for the buffer of 8 KiB
//! that `tokio::io::copy` owns. The layer has none for that, as its `copy` borrows one, and seven of its own:
//!
//! | what | why |
//! |---|---|
//! | the slot that holds the upgrade | all layers around a request share it |
//! | the decision's future | handlers are of any type |
//! | what a handler accepts with | it is a function of any type |
//! | what was accepted | it goes through layers, and then to a task, and is large |
//! | the session's state | its task, its IO and the registry share it |
//! | the handler's future | of any type as well, and it is dropped before the session ends |
//! | the end | it is large, and an idle session does not have it yet |
//!
//! Timeouts, a lifetime and `on_close` add one: the timer of a session.

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
        // What `count` handshakes more add, so that the start of the server does not count.
        let (once, twice) = (allocated(side, count)?, allocated(side, 2 * count)?);
        let [number, bytes] = [0, 1].map(|i| (twice[i] - once[i]) / count as f64);
        println!("    {:8}  {number:.1} of {bytes:.0} bytes", side.name());
    }
    Ok(())
}

/// The server has one thread, and that is the one in which allocations are counted.
fn serve_and_count(side: Side) -> Result<(), BoxError> {
    let mut served = Ok(());
    let info = allocation_counter::measure(|| served = run_server(|listener| side.serve(listener)));
    served?;
    println!("{} {}", info.count_total, info.bytes_total);
    Ok(())
}

/// How many allocations a server makes for so many handshakes, and of how many bytes.
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
