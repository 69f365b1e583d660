//! The cost of sessions over HTTP/3, compared with the streams of quinn alone. Linux only.
//!
//! ```text
//! cargo bench --features client,http3 --bench http3
//! cargo bench --features client,http3 --bench http3 -- pingpong [--rounds 11] [--round-trips 32000] [--sessions 64]
//! cargo bench --features client,http3 --bench http3 -- messages [--rounds 11] [--messages 4000] [--sessions 64]
//! cargo bench --features client,http3 --bench http3 -- new [--rounds 11] [--handshakes 2000]
//! cargo bench --features client,http3 --bench http3 -- idle [--idle 1000]
//! ```
//!
//! Each server is a separate process with one thread. All sides have the same configuration of quinn and rustls, and all
//! sessions or streams of a side are on one connection.
//!
//! - `pingpong`: echoes of 16 bytes.
//! - `messages`: echoes of 64 KiB.
//! - `new`: sessions one after the other, each with an echo of 16 bytes, and the end on both sides. A session takes a
//!   request and its response, for which a stream of quinn alone has no equivalent.
//! - `idle`: resident bytes of an idle session, after an echo of 16 bytes, and after one of 64 KiB.

use rates::{Series, Unit, compare};
use resident::{WARM_UP, resident_bytes, settle};
use sides::{Client, Io, Served, Side, close, exchange};
use support::{Arguments, ServerProcess, run_server, single_thread};
use tokio::task::JoinSet;
use tower_upgrade::BoxError;

#[allow(dead_code, reason = "instructions are not compared")]
#[path = "../support/rates.rs"]
mod rates;
#[allow(dead_code, reason = "the sessions share one socket")]
#[path = "../support/resident.rs"]
mod resident;
mod sides;
#[allow(dead_code, reason = "this benchmark has other servers and clients")]
#[path = "../support/mod.rs"]
mod support;

const SMALL: usize = 16;
const LARGE: usize = 64 * 1024;

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if !cfg!(target_os = "linux") {
        println!("HTTP/3 is measured on Linux only");
        return Ok(());
    }
    if let Some(served) = arguments.server::<Served>()? {
        return run_server(|listener| served.serve(listener)).map_err(Into::into);
    }
    let some = ["pingpong", "messages", "new", "idle"].map(|name| arguments.has(name));
    let [pingpong, messages, new, idle] = match some {
        [false, false, false, false] => [true; 4],
        some => some,
    };
    let rounds = arguments.count("--rounds", 11, 1)?;
    let sessions = arguments.count("--sessions", 64, 2)?;
    if pingpong {
        let count = arguments.count("--round-trips", 32_000, 4)?;
        println!("\n{rounds} rounds of {count} echoes of {SMALL} bytes in {sessions} sessions");
        let echo = async |_: &Client, open: &mut Vec<Io>| echoes(open, SMALL, count).await;
        take_turns(rounds, sessions, &Unit::new("echo", "echoes"), echo)?;
    }
    if messages {
        let count = arguments.count("--messages", 4000, 4)?;
        println!("\n{rounds} rounds of {count} echoes of {LARGE} bytes in {sessions} sessions");
        let echo = async |_: &Client, open: &mut Vec<Io>| echoes(open, LARGE, count).await;
        take_turns(rounds, sessions, &Unit::new("echo", "echoes"), echo)?;
    }
    if new {
        let count = arguments.count("--handshakes", 2000, 4)?;
        println!("\n{rounds} rounds of {count} new sessions on an open connection");
        let make = async |client: &Client, _: &mut Vec<Io>| come_and_go(client, count).await;
        take_turns(rounds, 0, &Unit::new("new session", "new sessions"), make)?;
    }
    if idle {
        let count = arguments.count("--idle", 1000, 10)?;
        println!(
            "\nresident bytes of an idle session, of {count}: after {SMALL} bytes, after {LARGE}"
        );
        for side in Side::ALL {
            let [fresh, worn] = idle_bytes(side, count)?;
            println!("    {:17} {fresh:.0}  {worn:.0}", side.name());
        }
    }
    Ok(())
}

/// Compares all sides in alternating rounds, so that other load on the machine affects all of them.
fn take_turns(
    rounds: usize,
    sessions: usize,
    unit: &Unit,
    work: impl AsyncFn(&Client, &mut Vec<Io>) -> Result<usize, BoxError>,
) -> Result<(), BoxError> {
    let runtime = single_thread()?;
    let mut all: Vec<(Series, Vec<Io>, Client, ServerProcess)> = Vec::new();
    for side in Side::ALL {
        let (server, client) = runtime.block_on(Client::start(side))?;
        let open = runtime.block_on(open(&client, sessions))?;
        all.push((Series::new(side.name(), server.id()), open, client, server));
    }
    for round in 0..=rounds {
        let mut order: Vec<_> = all.iter_mut().collect();
        let first = round % order.len();
        order.rotate_left(first);
        for (series, open, client, _) in order {
            runtime.block_on(series.round(work(client, open)))?;
            if round == 0 {
                series.forget();
            }
        }
    }
    let series: Vec<_> = all.iter().map(|(series, ..)| series).collect();
    compare(unit, &series);
    for (_, open, client, server) in all {
        drop((open, client));
        server.stop()?;
    }
    Ok(())
}

async fn open(client: &Client, sessions: usize) -> Result<Vec<Io>, BoxError> {
    let mut open = Vec::new();
    for _ in 0..sessions {
        open.push(client.open().await?);
    }
    Ok(open)
}

/// Runs echoes in all sessions at the same time, and returns their number.
async fn echoes(open: &mut Vec<Io>, bytes: usize, count: usize) -> Result<usize, BoxError> {
    let share = count.div_ceil(open.len());
    let mut echoing = JoinSet::new();
    for mut io in open.drain(..) {
        echoing.spawn(async move {
            let (message, mut answer) = (vec![0x55; bytes], vec![0; bytes]);
            for _ in 0..share {
                exchange(&mut io, &message, &mut answer).await?;
            }
            Ok::<_, BoxError>(io)
        });
    }
    while let Some(io) = echoing.join_next().await {
        open.push(io??);
    }
    Ok(share * open.len())
}

/// Opens and closes `count` sessions, one after the other.
async fn come_and_go(client: &Client, count: usize) -> Result<usize, BoxError> {
    for _ in 0..count {
        let mut io = client.open().await?;
        exchange(&mut io, &[0x55; SMALL], &mut [0; SMALL]).await?;
        close(io).await?;
    }
    Ok(count)
}

fn idle_bytes(side: Side, count: usize) -> Result<[f64; 2], BoxError> {
    single_thread()?.block_on(async {
        let (server, client) = Client::start(side).await?;
        come_and_go(&client, WARM_UP).await?;
        settle().await;
        let before = resident_bytes(server.id())?;
        let mut all = Vec::new();
        let mut resident = [0.0; 2];
        for (bytes, resident) in [SMALL, LARGE].into_iter().zip(&mut resident) {
            let (message, mut answer) = (vec![0x55; bytes], vec![0; bytes]);
            for at in 0..count {
                if all.len() == at {
                    all.push(client.open().await?);
                }
                answer.fill(0);
                exchange(&mut all[at], &message, &mut answer).await?;
            }
            settle().await;
            *resident = (resident_bytes(server.id())? - before) / count as f64;
        }
        drop((all, client));
        server.stop()?;
        Ok(resident)
    })
}
