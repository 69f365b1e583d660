//! Rounds by turns, and what they come to: rates, processor time, instructions.

use crate::support::ServerProcess;
use std::{
    fmt::{self, Display, Formatter},
    fs, io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tower_upgrade::BoxError;

/// The rounds of one side.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) server: ServerProcess,
    rates: Vec<f64>,
    processor_times: Vec<f64>,
}

impl Series {
    pub(crate) fn start(name: &'static str) -> Result<Self, BoxError> {
        Ok(Self {
            name,
            server: ServerProcess::start(name)?,
            rates: Vec::new(),
            processor_times: Vec::new(),
        })
    }

    /// The first round warms up.
    pub(crate) fn forget(&mut self) {
        self.rates.clear();
        self.processor_times.clear();
    }

    /// One round of `work`, which says how much it has done.
    pub(crate) async fn round(
        &mut self,
        work: impl Future<Output = Result<usize, BoxError>>,
    ) -> Result<(), BoxError> {
        let processor_before = processor_time(self.server.id());
        let started = Instant::now();
        let done = work.await?;
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

/// Prints what the rounds came to, of `what` such as `handshake`.
pub(crate) fn compare(what: &str, series: &[&Series]) {
    let rates: Vec<_> = series.iter().map(|side| (side.name, &side.rates)).collect();
    compare_one(&format!("{what}s per second"), &rates);
    let times = series
        .iter()
        .map(|side| (side.name, &side.processor_times))
        .collect::<Vec<_>>();
    if times.iter().all(|(_, times)| !times.is_empty()) {
        compare_one(&format!("server's processor time per {what}, ns"), &times);
    }
}

/// The ratio is that of two rounds in a row: what slows the machine down for longer meets both.
fn compare_one(what: &str, sides: &[(&str, &Vec<f64>)]) {
    println!("  {what}, and ratio to the first");
    let first = sides[0].1;
    for (name, values) in sides {
        let ratios: Vec<_> = values.iter().zip(first).map(|(a, b)| a / b).collect();
        println!(
            "    {name:10} {:.0}  {:.3}",
            Summary::of(values),
            Summary::of(&ratios)
        );
    }
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

/// Prints the instructions of each side, of what this benchmark does if it is started with `--once`, the
/// side's name, and `argument` with a number.
pub(crate) fn compare_instructions(
    what: &str,
    sides: impl IntoIterator<Item = &'static str>,
    argument: &str,
    count: usize,
) -> Result<(), BoxError> {
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
        "instructions per {what}, outside of the kernel, client and server, and ratio to the first"
    );
    let mut first = None;
    for side in sides {
        // What so many more add, so that the start and the end of the process do not count.
        let once = instructions(side, argument, count)?;
        let twice = instructions(side, argument, 2 * count)?;
        let each = (twice - once) / count as f64;
        let first = *first.get_or_insert(each);
        println!("    {side:10} {each:.0}  {:.3}", each / first);
    }
    Ok(())
}

fn instructions(side: &str, argument: &str, count: usize) -> Result<f64, BoxError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--once", side, argument, &count.to_string()])
        .output()?;
    let printed = String::from_utf8(output.stderr)?;
    let collected = printed
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("valgrind counted nothing: {printed}"))?;
    Ok(collected.1.trim().parse()?)
}
