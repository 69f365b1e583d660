//! Measurements and their table.

use crate::{rates::Medians, sides::Side};

/// Whether higher or lower values are better.
#[derive(Clone, Copy)]
pub(crate) enum Better {
    More,
    Less,
}

pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) better: Better,
    /// Whether the picture shows this measure. The table shows all.
    pub(crate) is_drawn: bool,
    /// In the order of `Side::ALL`.
    pub(crate) sides: Medians,
}

impl Measure {
    pub(crate) fn processor_time(what: &str, sides: Medians) -> Self {
        Self {
            name: format!("server's processor time in ns, per {what}"),
            better: Better::Less,
            is_drawn: false,
            sides,
        }
    }
}

/// Prints the medians as a Markdown table.
pub(crate) fn print_table(measures: &[Measure]) {
    println!(
        "\nmedians, and medians of ratios to {}\n",
        Side::ALL[0].label()
    );
    let labels = Side::ALL.map(Side::label);
    println!("| | {} |", labels.join(" | "));
    println!("|---|{}", "--:|".repeat(labels.len()));
    for measure in measures {
        let first = measure.sides.first();
        let first = first.map(|[median, _]| grouped(*median));
        let others = measure.sides.iter().skip(1);
        let others = others.map(|[median, ratio]| format!("{} ({ratio:.2})", grouped(*median)));
        let values: Vec<_> = first.into_iter().chain(others).collect();
        println!("| {} | {} |", measure.name, values.join(" | "));
    }
}

/// Formats a whole number with thousands separators.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
