//! What an idle session keeps resident, against a service that does it with hyper alone.
//!
//! A session is idle when one message of 64 bytes went there and back, and no more comes. What is
//! counted is the memory of the server process, without the kernel's for its sockets. Linux only.
//!
//! ```text
//! cargo bench --bench memory
//! cargo bench --bench memory -- [--sessions 5000]
//! ```

use std::{fs, net::SocketAddr, time::Duration};
use support::{Arguments, Client, ServerProcess, Side, handshakes};
use tokio::runtime::Runtime;
use tower_upgrade::BoxError;

mod support;

/// How many sessions come and go before it counts, for what is allocated only once. One after the
/// other, so that they leave little free memory behind, where sessions would fit in uncounted.
const WARM_UP: usize = 200;

/// More than a process has open beside the sockets of its sessions.
const OTHER_FILES: usize = 100;

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if !cfg!(target_os = "linux") {
        println!("resident memory is measured on Linux only");
        return Ok(());
    }
    if let Some(side) = arguments.server()? {
        return side.run().map_err(Into::into);
    }
    let sessions = arguments.count("--sessions", 5000, 10)?;
    let files = (sessions + OTHER_FILES) as u64;
    // The servers inherit it.
    if rlimit::increase_nofile_limit(files)? < files {
        return Err(format!("{sessions} sessions need {files} open files").into());
    }

    println!("resident bytes of an idle session, of {sessions}, and their ratio to the first");
    let raw = bytes_per_session(Side::Raw, sessions)?;
    println!("    {:8}  {raw:.0}", Side::Raw.name());
    for side in Side::OURS {
        let ours = bytes_per_session(side, sessions)?;
        println!("    {:8}  {ours:.0}  {:.3}", side.name(), ours / raw);
    }
    Ok(())
}

fn bytes_per_session(side: Side, sessions: usize) -> Result<f64, BoxError> {
    let server = ServerProcess::start(side)?;
    let growth = Runtime::new()?.block_on(async {
        handshakes(server.address(), WARM_UP).await?;
        settle().await;
        let before = resident_bytes(server.id())?;
        let clients = open(server.address(), sessions).await?;
        settle().await;
        let after = resident_bytes(server.id())?;
        drop(clients);
        Ok::<_, BoxError>(after - before)
    })?;
    server.stop()?;
    Ok(growth / sessions as f64)
}

async fn open(server: SocketAddr, sessions: usize) -> Result<Vec<Client>, BoxError> {
    let mut clients = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let mut client = Client::connect(server).await?;
        client.echo([0x55; 64]).await?;
        clients.push(client);
    }
    Ok(clients)
}

/// The client has its answer a moment before the server is idle again.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// What is resident of a process. `smaps_rollup` counts pages, where `status` and `statm` sum up
/// counters that each processor keeps, and can be off by hundreds of pages.
fn resident_bytes(process: u32) -> Result<f64, BoxError> {
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let kilobytes = smaps
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"))
        .ok_or("no resident set in smaps_rollup")?;
    Ok(kilobytes.parse::<f64>()? * 1024.0)
}
