//! Rounds of work and their results: rates, CPU time, instructions.

use std::{
    fmt::{self, Display, Formatter},
    fs, io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tower_upgrade::BoxError;

/// The counted unit of work.
pub(crate) struct Unit {
    pub(crate) one: &'static str,
    pub(crate) many: &'static str,
    /// The size of one unit, in the amounts that rounds return.
    pub(crate) size: f64,
    /// The printed unit of CPU times, and its length in nanoseconds.
    pub(crate) time: (&'static str, f64),
}

impl Unit {
    pub(crate) const fn new(one: &'static str, many: &'static str) -> Self {
        Self {
            one,
            many,
            size: 1.0,
            time: ("ns", 1.0),
        }
    }
}

/// The results of one side's rounds.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    /// The measured server.
    pub(crate) process: u32,
    rates: Vec<f64>,
    processor_times: Vec<f64>,
}

impl Series {
    pub(crate) fn new(name: &'static str, process: u32) -> Self {
        Self {
            name,
            process,
            rates: Vec::new(),
            processor_times: Vec::new(),
        }
    }

    /// Discards the results so far, after a warm-up round.
    pub(crate) fn forget(&mut self) {
        self.rates.clear();
        self.processor_times.clear();
    }

    /// Measures one round of `work`, which returns the amount of work done.
    pub(crate) async fn round(
        &mut self,
        work: impl Future<Output = Result<usize, BoxError>>,
    ) -> Result<(), BoxError> {
        let processor_before = processor_time(self.process);
        let started = Instant::now();
        let done = work.await?;
        let elapsed = started.elapsed();
        let processor_after = processor_time(self.process);

        self.rates.push(done as f64 / elapsed.as_secs_f64());
        if let (Some(before), Some(after)) = (processor_before, processor_after) {
            let nanos = (after - before).as_nanos() as f64;
            self.processor_times.push(nanos / done as f64);
        }
        Ok(())
    }
}

/// For each side: the median, and the median of its ratios to the first side.
pub(crate) type Medians = Vec<[f64; 2]>;

/// Prints the results, and returns the rates and the CPU times. The latter are empty if the system does not
/// report them.
pub(crate) fn compare(unit: &Unit, series: &[&Series]) -> [Medians; 2] {
    let rates = series.iter().map(|side| {
        let rates = side.rates.iter().map(|rate| rate / unit.size);
        (side.name, rates.collect())
    });
    let rates = compare_one(
        &format!("{} per second", unit.many),
        &rates.collect::<Vec<_>>(),
    );
    let (name, nanos) = unit.time;
    let times = series.iter().map(|side| {
        let times = side.processor_times.iter();
        (
            side.name,
            times.map(|time| time * unit.size / nanos).collect(),
        )
    });
    let times: Vec<(_, Vec<_>)> = times.collect();
    if times.iter().any(|(_, times)| times.is_empty()) {
        return [rates, Vec::new()];
    }
    let what = format!("server's processor time per {}, {name}", unit.one);
    [rates, compare_one(&what, &times)]
}

/// Prints and returns medians. Ratios compare rounds with the same number, so that longer slowdowns affect
/// both.
pub(crate) fn compare_one(what: &str, sides: &[(&str, Vec<f64>)]) -> Medians {
    println!("  {what}, and ratio to the first");
    let first = &sides[0].1;
    let medians = sides.iter().map(|(name, values)| {
        let ratios: Vec<_> = values.iter().zip(first).map(|(a, b)| a / b).collect();
        let (summary, ratios) = (Summary::of(values), Summary::of(&ratios));
        let decimals = if summary.median < 100.0 { 3 } else { 0 };
        println!("    {name:17} {summary:.decimals$}  {ratios:.3}");
        [summary.median, ratios.median]
    });
    medians.collect()
}

/// Returns the CPU time of all threads of a process, including kernel time, on Linux.
pub(crate) fn processor_time(process: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    threads
        .map(|thread| {
            let schedstat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            let nanos = schedstat.split_ascii_whitespace().next()?;
            nanos.parse().ok().map(Duration::from_nanos)
        })
        .sum()
}

pub(crate) struct Summary {
    least: f64,
    pub(crate) median: f64,
    most: f64,
}

impl Summary {
    pub(crate) fn of(values: &[f64]) -> Self {
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

/// Prints the instructions of each side, counted in this program with the arguments `--once`, the side's name,
/// and `argument` with a number.
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
        // Take the difference between two runs, to exclude the start and the end of the process.
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
