//! Draws the growth with the number of sessions as an SVG.

use crate::{
    measure::{Growth, Phase, percentile},
    report::median,
    sides::Side,
};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
/// The width of a chart, and its left edge within its half of the picture.
const CHART: f64 = 280.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 230.0;

/// Styles without a background, with colours that contrast with both black and white.
const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#737b84}\
.m{font-size:13px;font-weight:600}.e{text-anchor:end}.c{text-anchor:middle}\
line{stroke:#8b949e;stroke-opacity:.4}polyline{fill:none;stroke-width:2}\
.ours{stroke:#2f81f7}.axum{stroke:#d29922}.node{stroke:#8b949e}";

/// A chart with a logarithmic axis of sessions.
struct Chart {
    title: &'static str,
    /// Whether the other axis is logarithmic too. A linear one starts at 0.
    is_log: bool,
    at: f64,
    value: fn(&Phase) -> f64,
}

pub(crate) fn draw(growths: &[Growth]) -> String {
    let charts = [
        Chart {
            title: "Server CPU per delivery, µs",
            is_log: false,
            at: LEFT,
            value: |phase| median(&phase.processor_times),
        },
        Chart {
            title: "Send to last receipt, median, ms",
            is_log: true,
            at: WIDTH / 2.0 + LEFT,
            value: |phase| percentile(&phase.latencies, 0.5),
        },
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">One message of 128 bytes to many WebSockets</title>\n\
         <desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n",
        description(growths, &charts),
    );
    for chart in &charts {
        chart.draw(&mut svg, growths);
    }
    let sides = growths.first().map(|growth| &growth.sides[..]);
    for (at, (side, _)) in sides.unwrap_or_default().iter().enumerate() {
        let (x, y) = (220f64.mul_add(at as f64, LEFT), HEIGHT - 14.0);
        line(
            &mut svg,
            *side,
            &format!("{x},{0} {1},{0}", y - 4.0, x + 24.0),
        );
        text(&mut svg, "", x + 30.0, y, side.label());
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the content of the picture as text, for screen readers.
fn description(growths: &[Growth], charts: &[Chart]) -> String {
    let mut text = String::new();
    for chart in charts {
        let _ = write!(text, "{}:", chart.title);
        for growth in growths {
            let _ = write!(text, " {} sessions:", growth.sessions);
            for (side, phase) in &growth.sides {
                let _ = write!(text, " {} {:.1};", side.label(), (chart.value)(phase));
            }
        }
        text.push(' ');
    }
    text
}

impl Chart {
    fn draw(&self, svg: &mut String, growths: &[Growth]) {
        let all = growths.iter().flat_map(|growth| &growth.sides);
        let values: Vec<_> = all.map(|(_, phase)| (self.value)(phase)).collect();
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        // Lines at powers of ten, or at multiples of 2.
        let (scale, low, high): (fn(f64) -> f64, _, _) = if self.is_log {
            (f64::log10, least.log10().floor(), most.log10().ceil())
        } else {
            (|value| value / 2.0, 0.0, (most / 2.0).ceil())
        };
        let height = (BOTTOM - TOP) / (high - low);
        let y = |value: f64| (scale(value) - low).mul_add(-height, BOTTOM);
        let sessions = |growth: &Growth| (growth.sessions as f64).log10();
        let (first, last) = (sessions(&growths[0]), sessions(&growths[growths.len() - 1]));
        let width = CHART / (last - first);
        let x = |growth: &Growth| (sessions(growth) - first).mul_add(width, self.at);

        text(svg, "m", self.at - 40.0, TOP - 20.0, self.title);
        for line in low as i32..=high as i32 {
            let value = match self.is_log {
                true => 10f64.powi(line),
                false => f64::from(2 * line),
            };
            let at = y(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\"/>",
                self.at,
                self.at + CHART
            );
            text(svg, "e", self.at - 8.0, at + 4.0, &format!("{value}"));
        }
        for growth in growths {
            let label = match growth.sessions {
                few @ ..1000 => few.to_string(),
                many => format!("{:.0}k", many as f64 / 1000.0),
            };
            text(svg, "c", x(growth), BOTTOM + 20.0, &label);
        }
        text(svg, "c", self.at + CHART / 2.0, BOTTOM + 38.0, "sessions");
        for (at, (side, _)) in growths[0].sides.iter().enumerate() {
            let points = growths.iter().map(|growth| {
                let value = (self.value)(&growth.sides[at].1);
                format!("{:.1},{:.1}", x(growth), y(value))
            });
            line(svg, *side, &points.collect::<Vec<_>>().join(" "));
        }
    }
}

fn line(svg: &mut String, side: Side, points: &str) {
    let class = side.name();
    let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{points}\"/>");
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
    );
}
