//! Memory of idle sessions.

use crate::{
    ALLOCATOR,
    rates::compare_one,
    report::{Better, Measure, grouped},
    resident::{WARM_UP, as_many_as_can_be, resident_bytes, settle},
    sides::Side,
    support::{ServerProcess, single_thread},
};
use tower_upgrade::BoxError;

/// Prints the heap bytes of this process when dropped.
pub(crate) struct PrintHeap;

impl Drop for PrintHeap {
    fn drop(&mut self) {
        println!("{}", ALLOCATOR.allocated());
    }
}

pub(crate) fn compare_idle(sessions: usize) -> Result<[Measure; 2], BoxError> {
    let open = as_many_as_can_be(sessions)?;
    if open < sessions {
        println!("\nof {sessions} sessions, {open} can be open here");
    }
    println!("\nidle sessions: {open}");
    let (mut heap, mut resident) = (Vec::new(), Vec::new());
    for side in Side::ALL {
        // Start the server twice, because it prints its heap bytes only when it stops.
        let (before, _) = bytes(side, 0)?;
        let (after, growth) = bytes(side, open)?;
        heap.push((side.name(), vec![(after - before) / open as f64]));
        resident.push((side.name(), vec![growth / open as f64]));
    }
    let measure = |what, sides: &[_]| Measure {
        name: format!("{what} of an idle session, of {}", grouped(open as f64)),
        better: Better::Less,
        is_drawn: true,
        sides: compare_one(&format!("{what} of a session"), sides),
    };
    Ok([
        measure("heap bytes", &heap),
        measure("resident bytes", &resident),
    ])
}

/// Returns the server's heap bytes with this number of sessions, and the growth of its resident memory.
fn bytes(side: Side, sessions: usize) -> Result<(f64, f64), BoxError> {
    let runtime = single_thread()?;
    let server = ServerProcess::start(side.name())?;
    let frame = side.frame(64);
    let (clients, growth) = runtime.block_on(async {
        for _ in 0..WARM_UP {
            let mut client = side.connect(server.address()).await?;
            frame.echo(&mut client, 1).await?;
            client.close().await?;
        }
        settle().await;
        let before = resident_bytes(server.id())?;
        let mut clients = Vec::with_capacity(sessions);
        for _ in 0..sessions {
            let mut client = side.connect(server.address()).await?;
            frame.echo(&mut client, 1).await?;
            clients.push(client);
        }
        settle().await;
        let after = resident_bytes(server.id())?;
        Ok::<_, BoxError>((clients, after - before))
    })?;
    let printed = server.stop()?;
    drop(clients);
    let heap = printed.trim_end().parse();
    let heap = heap.map_err(|error| format!("no count: {printed}: {error}"))?;
    Ok((heap, growth))
}
