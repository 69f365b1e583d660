//! Draws the ratios as an SVG, with one bar per measure and side.

use crate::{
    report::{Better, Measure, grouped},
    sides::Side,
};
use std::fmt::Write as _;

const WIDTH: usize = 760;
const BARS_AT: usize = 200;
const LONGEST: f64 = 410.0;
/// The right edge of the column of ratios.
const RATIOS_AT: usize = 674;
const MEDIANS_AT: usize = WIDTH - 4;
const BAR: usize = 14;
const LINE: usize = 18;
/// The space of a measure above its bars, and `FOOT` below them.
const HEAD: usize = 26;
const FOOT: usize = 14;

/// Styles without a background, with colours that contrast with both black and white.
const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#737b84}\
.m{font-size:13px;font-weight:600}.e{text-anchor:end}.o{font-weight:600}\
rect{fill:#8b949e}rect.o{fill:#2f81f7}\
line{stroke:#8b949e;stroke-opacity:.5}";

pub(crate) fn draw(measures: &[Measure]) -> String {
    let each = HEAD + LINE * Side::ALL.len() + FOOT;
    let height = each * measures.len();
    let first = Side::ALL[0].label();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">What an upgrade costs, against {first}</title>\n\
         <desc id=\"desc\">Ratios to {first}.{}</desc>\n<style>{STYLE}</style>\n",
        description(measures),
    );
    for (at, measure) in measures.iter().enumerate() {
        draw_measure(&mut svg, at * each, measure);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the content of the picture as text, for screen readers.
fn description(measures: &[Measure]) -> String {
    let mut text = String::new();
    for measure in measures {
        let sides = Side::ALL.iter().zip(&measure.sides).skip(1);
        let ratios = sides.map(|(side, [_, ratio])| format!("{} {ratio:.2}", side.label()));
        let ratios: Vec<_> = ratios.collect();
        let better = better(measure);
        push(
            &mut text,
            format_args!(" {} ({better}): {}.", measure.name, ratios.join(", ")),
        );
    }
    text
}

/// Draws one measure. Each has its own scale from 0 to its maximum, because ratios of memory are much larger
/// than those of rates.
fn draw_measure(svg: &mut String, top: usize, measure: &Measure) {
    let most = measure.sides.iter().map(|[_, ratio]| *ratio);
    let unit = LONGEST / most.fold(1.0, f64::max);
    let title = top + HEAD - 10;
    let (name, better) = (&measure.name, better(measure));
    push(
        svg,
        format_args!("<text class=\"m\" x=\"0\" y=\"{title}\">{name} ({better})</text>\n"),
    );
    let bars = top + HEAD;
    // Draw the line first, so that longer bars cover it.
    let (one, bottom) = (BARS_AT as f64 + unit, bars + LINE * Side::ALL.len());
    push(
        svg,
        format_args!("<line x1=\"{one:.1}\" y1=\"{bars}\" x2=\"{one:.1}\" y2=\"{bottom}\"/>\n"),
    );
    for (at, (side, [median, ratio])) in Side::ALL.iter().zip(&measure.sides).enumerate() {
        let top = bars + at * LINE;
        let text = top + BAR - 3;
        let class = if side.is_ours() { " o" } else { "" };
        let (label, median) = (side.label(), grouped(*median));
        let long = (ratio * unit).max(1.0);
        let label_at = BARS_AT - 8;
        push(
            svg,
            format_args!(
                "<text class=\"e{class}\" x=\"{label_at}\" y=\"{text}\">{label}</text>\
                 <rect class=\"b{class}\" x=\"{BARS_AT}\" y=\"{top}\" width=\"{long:.1}\" height=\"{BAR}\" rx=\"2\"/>\
                 <text class=\"e{class}\" x=\"{RATIOS_AT}\" y=\"{text}\">{ratio:.2}×</text>\
                 <text class=\"e{class}\" x=\"{MEDIANS_AT}\" y=\"{text}\">{median}</text>\n"
            ),
        );
    }
}

fn better(measure: &Measure) -> &'static str {
    match measure.better {
        Better::More => "more is better",
        Better::Less => "less is better",
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = text.write_fmt(more);
}
