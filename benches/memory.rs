//! Resident memory of an idle session, compared with a service that uses hyper alone. Linux only.
//!
//! A session is idle after it has echoed one message of 64 bytes. The benchmark measures the memory of the
//! server process, without the kernel's memory for its sockets.
//!
//! ```text
//! cargo bench --bench memory
//! cargo bench --bench memory -- [--sessions 5000]
//! ```

use handshakes::{echo, handshakes};
use resident::{WARM_UP, allow_open, resident_bytes, settle};
use std::net::SocketAddr;
use support::{Arguments, Client, ServerProcess, Side, run_server};
use tokio::runtime::Runtime;
use tower_upgrade::BoxError;

#[path = "support/handshakes.rs"]
mod handshakes;
#[path = "support/resident.rs"]
mod resident;
mod support;

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if !cfg!(target_os = "linux") {
        println!("resident memory is measured on Linux only");
        return Ok(());
    }
    if let Some(side) = arguments.server::<Side>()? {
        return run_server(|listener| side.serve(listener)).map_err(Into::into);
    }
    let sessions = arguments.count("--sessions", 5000, 10)?;
    allow_open(sessions)?;

    println!("resident bytes of an idle session, of {sessions}, and their ratio to the first");
    let mut first = None;
    for side in Side::ALL {
        let bytes = bytes_per_session(side, sessions)?;
        let first = *first.get_or_insert(bytes);
        println!("    {:8}  {bytes:.0}  {:.3}", side.name(), bytes / first);
    }
    Ok(())
}

fn bytes_per_session(side: Side, sessions: usize) -> Result<f64, BoxError> {
    let server = ServerProcess::start(side.name())?;
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
        echo(&mut client, [0x55; 64]).await?;
        clients.push(client);
    }
    Ok(clients)
}
