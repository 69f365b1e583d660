//! What a whole handshake costs, against a service that does it with hyper alone.
//!
//! A handshake is: a new connection over loopback, a request, a 101, four bytes there and back, and
//! the end of the connection, seen from both sides. The servers are in `support`.
//!
//! ```text
//! cargo bench --bench handshake
//! cargo bench --bench handshake -- [--rounds 21] [--handshakes 2000] [--connections 8]
//! cargo bench --bench handshake -- --instructions [--handshakes 500]
//! ```
//!
//! The first two print rates, and the processor time that the server took. Most of that is the
//! kernel's: it is what a user would notice. The last one prints instructions outside of the kernel,
//! and needs valgrind. It says more where rates differ by less than the noise, but an instruction is
//! no measure of time: one that fills or copies a block counts once for each byte, so that zeroing
//! the 8 KiB buffer of `tokio::io::copy` is 8,192 of them on the side that does it.

use std::{
    fmt::{self, Display, Formatter},
    fs, io,
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use support::{Arguments, ServerProcess, Side, handshakes, listen, single_thread};
use tokio::{runtime::Runtime, task::JoinSet};
use tower_upgrade::BoxError;

mod support;

fn main() -> Result<(), BoxError> {
    let arguments = Arguments::new();
    if let Some(side) = arguments.server()? {
        return side.run().map_err(Into::into);
    }
    if let Some(side) = arguments.value("--once")? {
        let count = arguments.count("--handshakes", 1, 1)?;
        return in_one_thread(side, count).map_err(Into::into);
    }
    if arguments.has("--instructions") {
        let count = arguments.count("--handshakes", 500, 500)?;
        compare_instructions(count)
    } else {
        let rounds = arguments.count("--rounds", 21, 1)?;
        let handshakes = arguments.count("--handshakes", 2000, 8)?;
        let connections = arguments.count("--connections", 8, 2)?;
        compare_rates(rounds, handshakes, connections)
    }
}

/// Both sides by turns, so that what else the machine does meets both.
fn compare_rates(rounds: usize, handshakes: usize, connections: usize) -> Result<(), BoxError> {
    let runtime = Runtime::new()?;
    println!("{rounds} rounds of {handshakes} handshakes on each side: median (least to most)");
    for connections in [1, connections] {
        let mut raw = Series::start(Side::Raw)?;
        let mut layer = Series::start(Side::Layer)?;
        for round in 0..=rounds {
            // Neither side always has the other's end of connections to clean up after.
            let order = match round % 2 {
                0 => [&mut raw, &mut layer],
                _ => [&mut layer, &mut raw],
            };
            for series in order {
                runtime.block_on(series.round(handshakes, connections))?;
            }
            if round == 0 {
                // The first one warmed up.
                raw.forget();
                layer.forget();
            }
        }

        println!("\n{connections} at a time");
        compare("handshakes per second", &raw.rates, &layer.rates);
        if !raw.processor_times.is_empty() {
            compare(
                "server's processor time per handshake, ns",
                &raw.processor_times,
                &layer.processor_times,
            );
        }
        raw.server.stop()?;
        layer.server.stop()?;
    }
    Ok(())
}

/// The ratio is that of two rounds in a row: what slows the machine down for longer meets both.
fn compare(what: &str, raw: &[f64], layer: &[f64]) {
    let ratios: Vec<_> = layer
        .iter()
        .zip(raw)
        .map(|(layer, raw)| layer / raw)
        .collect();
    println!("  {what}");
    println!("    raw    {:.0}", Summary::of(raw));
    println!("    layer  {:.0}", Summary::of(layer));
    println!("    ratio  {:.3}", Summary::of(&ratios));
}

/// The rounds of one side.
struct Series {
    server: ServerProcess,
    rates: Vec<f64>,
    processor_times: Vec<f64>,
}

impl Series {
    fn start(side: Side) -> Result<Self, BoxError> {
        Ok(Self {
            server: ServerProcess::start(side)?,
            rates: Vec::new(),
            processor_times: Vec::new(),
        })
    }

    fn forget(&mut self) {
        self.rates.clear();
        self.processor_times.clear();
    }

    async fn round(&mut self, handshakes: usize, connections: usize) -> Result<(), BoxError> {
        let processor_before = processor_time(self.server.id());
        let started = Instant::now();
        let done = at_a_time(self.server.address(), handshakes, connections).await?;
        let elapsed = started.elapsed();
        let processor_after = processor_time(self.server.id());

        self.rates.push(done as f64 / elapsed.as_secs_f64());
        if let (Some(before), Some(after)) = (processor_before, processor_after) {
            let nanos = (after - before).as_nanos() as f64;
            self.processor_times.push(nanos / done as f64);
        }
        Ok(())
    }
}

/// Shares the handshakes between so many connections, and returns how many that were.
async fn at_a_time(
    server: SocketAddr,
    count: usize,
    connections: usize,
) -> Result<usize, BoxError> {
    let share = count.div_ceil(connections);
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(handshakes(server, share));
    }
    while let Some(result) = clients.join_next().await {
        result??;
    }
    Ok(share * connections)
}

/// The processor time of a process with one thread, the kernel's part included. Only Linux says.
fn processor_time(process: u32) -> Option<Duration> {
    let schedstat = fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
    let nanos = schedstat.split_ascii_whitespace().next()?;
    nanos.parse().ok().map(Duration::from_nanos)
}

struct Summary {
    least: f64,
    median: f64,
    most: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        Self {
            least: values[0],
            median: f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]),
            most: values[values.len() - 1],
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        self.median.fmt(f)?;
        f.write_str(" (")?;
        self.least.fmt(f)?;
        f.write_str(" to ")?;
        self.most.fmt(f)?;
        f.write_str(")")
    }
}

fn compare_instructions(count: usize) -> Result<(), BoxError> {
    let valgrind = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match valgrind {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("instructions are counted by valgrind, which is not installed".into());
        }
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    println!(
        "instructions per handshake, outside of the kernel, client and server, and ratio to raw"
    );
    let raw = instructions_per_handshake(Side::Raw, count)?;
    println!("    {:8}  {raw:.0}", Side::Raw.name());
    for side in Side::OURS {
        let ours = instructions_per_handshake(side, count)?;
        println!("    {:8}  {ours:.0}  {:.3}", side.name(), ours / raw);
    }
    Ok(())
}

/// What `count` handshakes more add, so that the start and the end of the process do not count.
fn instructions_per_handshake(side: Side, count: usize) -> Result<f64, BoxError> {
    let (once, twice) = (instructions(side, count)?, instructions(side, 2 * count)?);
    Ok((twice - once) / count as f64)
}

fn instructions(side: Side, count: usize) -> Result<f64, BoxError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--once", side.name(), "--handshakes", &count.to_string()])
        .output()?;
    let printed = String::from_utf8(output.stderr)?;
    let collected = printed
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("valgrind counted nothing: {printed}"))?;
    Ok(collected.1.trim().parse()?)
}

/// Client and server take turns in one thread: who waits for whom, and how often, is the same in
/// every run, as it would not be between processes.
fn in_one_thread(side: Side, count: usize) -> io::Result<()> {
    single_thread()?.block_on(async {
        let listener = listen().await?;
        let address = listener.local_addr()?;
        tokio::spawn(side.serve(listener));
        handshakes(address, count).await
    })
}
