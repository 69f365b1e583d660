//! The table of results.

use crate::{
    measure::{Phase, Results, percentile},
    rates::Summary,
};

type Select = fn(&Results) -> &Phase;

/// Prints the medians as a Markdown table.
pub(crate) fn print_table(results: &[Results]) {
    let labels: Vec<_> = results.iter().map(|side| side.side.label()).collect();
    println!("\n| | {} |", labels.join(" | "));
    println!("|---|{}", "--:|".repeat(labels.len()));
    let phases: [(&str, Select); 5] = [
        ("128 B", |side| &side.small),
        ("4 KiB", |side| &side.medium),
        ("128 B, bursts of 16", |side| &side.small_bursts),
        ("4 KiB, bursts of 16", |side| &side.medium_bursts),
        ("4 KiB, 1 % slow", |side| &side.slow),
    ];
    for (name, phase) in phases {
        let row = |what: &str, decimals, value: &dyn Fn(&Phase) -> f64| {
            let values = results.iter().map(|side| value(phase(side)));
            print_row(&format!("{name}: {what}"), decimals, values);
        };
        row("deliveries/s", 0, &|phase| median(&phase.rates));
        row("CPU per delivery, µs", 2, &|phase| {
            median(&phase.processor_times)
        });
        row("send to last receipt, p50, ms", 1, &|phase| {
            percentile(&phase.latencies, 0.5)
        });
        row("send to last receipt, p99, ms", 1, &|phase| {
            percentile(&phase.latencies, 0.99)
        });
    }
    let bytes = results.iter().map(|side| median(&side.bytes));
    print_row("resident bytes per session", 0, bytes);
}

fn print_row(name: &str, decimals: usize, values: impl Iterator<Item = f64>) {
    let values: Vec<_> = values.map(|value| format!("{value:.decimals$}")).collect();
    println!("| {name} | {} |", values.join(" | "));
}

/// Returns the median, or NaN where the system reports no CPU times.
pub(crate) fn median(values: &[f64]) -> f64 {
    match values {
        [] => f64::NAN,
        values => Summary::of(values).median,
    }
}
